"""What the advice about an uploaded model said."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; there is no advice about the jobs so far."""
    op.add_column("jobs", sa.Column("advice", sa.JSON(), nullable=True))
