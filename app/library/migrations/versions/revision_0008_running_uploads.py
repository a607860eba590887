"""What a lease tells of the upload that holds it, and whether the upload has to end."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Earlier versions leave them empty."""
    op.add_column("leases", sa.Column("upload_id", sa.Text(), nullable=True))
    op.add_column("leases", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("leases", sa.Column("received_bytes", sa.BigInteger(), nullable=True))
    op.add_column("leases", sa.Column("total_bytes", sa.BigInteger(), nullable=True))
    for name in ("is_end_requested", "is_complete"):
        op.add_column("leases", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))
