"""Make `models.source_job_id` unique per user, and no longer over all users.

The ledger decides who owns a job. A model that was once recorded for the wrong user must not prevent the owner of its
job from having one.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the constraint. The new one is weaker, so existing rows satisfy it."""
    # On SQLite this copies the table into a new one, indexes included.
    with op.batch_alter_table("models") as models:
        models.drop_constraint("uq_models_source_job_id", type_="unique")
        models.create_unique_constraint("uq_models_user_id_source_job_id", ["user_id", "source_job_id"])
