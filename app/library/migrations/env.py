"""What alembic runs around the revisions. It takes the connection, inside its transaction, from `migrating`.

There is deliberately no URL here and no ini file: a database URL holds a password and belongs in the environment only.
"""

from alembic import context
from sqlalchemy.engine import Connection

from app.library.tables import metadata

_connection = context.config.attributes.get("connection")
if not isinstance(_connection, Connection):
    raise TypeError("run `python -m app.library.migrating`; alembic's own command has no connection to work on")

# SQLite alters a table by making another one. With `render_as_batch` one revision works for both databases.
context.configure(connection=_connection, target_metadata=metadata, transactional_ddl=True, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
