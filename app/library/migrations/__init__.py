"""The schema's history, for alembic. `app/library/migrating.py` runs it; nothing else imports from here."""
