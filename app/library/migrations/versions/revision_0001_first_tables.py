"""The first tables: jobs, models, leases, revoked sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables. Types are spelled out here and not taken from `tables`, which will change."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "jobs",
        sa.Column("upload_id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("started_at", time, nullable=False),
        sa.Column("created_at", time, nullable=True),
        sa.Column("updated_at", time, nullable=True),
        sa.UniqueConstraint("job_id", name="uq_jobs_job_id"),
    )
    op.create_index("ix_jobs_history", "jobs", ["user_id", "started_at", "upload_id"])
    op.create_index(
        "ix_jobs_pending",
        "jobs",
        ["user_id", "started_at"],
        sqlite_where=sa.text("job_id IS NULL"),
        postgresql_where=sa.text("job_id IS NULL"),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("source_job_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.UniqueConstraint("source_job_id", name="uq_models_source_job_id"),
        sa.UniqueConstraint("storage_key", name="uq_models_storage_key"),
    )
    op.create_index("ix_models_page", "models", ["user_id", "created_at", "id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", time, nullable=False),
    )
    op.create_table(
        "revoked_sessions",
        sa.Column("sid", sa.Text(), primary_key=True),
        sa.Column("expires_at", time, nullable=False),
    )
    op.create_index("ix_revoked_sessions_expires_at", "revoked_sessions", ["expires_at"])
