"""What usual times and receipts need: facts of the upload, the key by which jobs are compared, verified results."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

#: Usual times come from the newest jobs. Other processes wait for the tables until all rows are filled in.
_NEWEST_JOBS = 10_000


def upgrade() -> None:
    """Add the columns, and fill in the key of the newest jobs. What else they would hold of those is unknown."""
    op.add_column("jobs", sa.Column("upload_facts", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("usual_time", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("chip", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("size_class", sa.Integer(), nullable=True))
    op.add_column("models", sa.Column("is_verified", sa.Boolean(), nullable=True))
    op.add_column("quarantined_models", sa.Column("is_verified", sa.Boolean(), nullable=True))
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    chip = "parameters ->> 'platform'" if is_postgresql else "CAST(json_extract(parameters, '$.platform') AS TEXT)"
    # The number of binary digits.
    sizes = " ".join(f"WHEN size < {2**digits} THEN {digits}" for digits in range(63))
    newest = f"SELECT upload_id FROM jobs WHERE size IS NOT NULL ORDER BY started_at DESC LIMIT {_NEWEST_JOBS}"
    op.execute(f"UPDATE jobs SET chip = {chip}, size_class = CASE {sizes} ELSE 63 END WHERE upload_id IN ({newest})")
    is_completed = sa.text("status = 'completed'")
    op.create_index(
        "ix_jobs_completed",
        "jobs",
        ["chip", "size_class", "started_at"],
        sqlite_where=is_completed,
        postgresql_where=is_completed,
    )
