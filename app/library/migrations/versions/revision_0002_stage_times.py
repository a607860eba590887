"""When a job's stages were seen to begin and end."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; jobs from before it have none of their stages observed."""
    op.add_column("jobs", sa.Column("stages", sa.JSON(), nullable=True))
