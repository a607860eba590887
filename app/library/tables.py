"""The tables, as the code sees them; `migrations/` makes them, and a test holds the two together.

Core tables rather than mapped classes: nearly every statement here is one atomic upsert or a conditional update, and
whether it took effect is its answer. A unit of work would only hide when it is sent. The rows become the frozen
values of the domain at once.

Strings are TEXT of no declared length, since bounds are checked at the edge, and a database that refuses a long name
would turn the user's mistake into our failure.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UTCDateTime(TypeDecorator[datetime]):
    """An aware UTC time to the microsecond, on both databases.

    PostgreSQL has a type for it. SQLite keeps text of fixed width, which sorts as the times do.
    A naive time is a bug and is refused.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Hand an aware time to the driver, as UTC."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Make what the driver gives aware, in UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

#: One row an upload, or a job that was found at the converter. A row without `job_id` is pending: an upload that has
#: not had its answer yet, or lost it in a crash. `status` to `error`, `created_at`, `updated_at` are the converter's.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("upload_id", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=True),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=True),
    sa.Column("status", sa.Text, nullable=True),
    sa.Column("stage", sa.Text, nullable=True),
    sa.Column("progress", sa.Float, nullable=True),
    sa.Column("parameters", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("started_at", UTCDateTime, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=True),
    sa.Column("updated_at", UTCDateTime, nullable=True),
    # Ours again: what polls saw of the stages, in their order; see `app/domain/stages.py`.
    sa.Column("stages", sa.JSON(none_as_null=True), nullable=True),
    sa.UniqueConstraint("job_id", name="uq_jobs_job_id"),
    # Read backwards for the newest first.
    sa.Index("ix_jobs_history", "user_id", "started_at", "upload_id"),
)
_is_pending = jobs.c.job_id.is_(None)
sa.Index("ix_jobs_pending", jobs.c.user_id, jobs.c.started_at, sqlite_where=_is_pending, postgresql_where=_is_pending)

#: The model library. A user has at most one model of a job.
models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("source_job_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("storage_key", sa.Text, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.UniqueConstraint("user_id", "source_job_id", name="uq_models_user_id_source_job_id"),
    sa.UniqueConstraint("storage_key", name="uq_models_storage_key"),
    sa.Index("ix_models_page", "user_id", "created_at", "id"),
)

#: Records whose file the sweep found missing. Only the sweep and `python -m app.library.quarantine` look here.
quarantined_models = sa.Table(
    "quarantined_models",
    metadata,
    *(
        sa.Column(column.name, column.type, primary_key=column.primary_key, nullable=column.nullable)
        for column in models.columns
    ),
    sa.Column("quarantined_at", UTCDateTime, nullable=False),
)

#: One row at most. The storage carries the same id; see `pairing`. Without `paired_at` the storage may lack it still.
library = sa.Table(
    "library",
    metadata,
    sa.Column("only_row", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("paired_at", UTCDateTime, nullable=True),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", UTCDateTime, nullable=False),
)

revoked_sessions = sa.Table(
    "revoked_sessions",
    metadata,
    sa.Column("sid", sa.Text, primary_key=True),
    sa.Column("expires_at", UTCDateTime, nullable=False),
    sa.Index("ix_revoked_sessions_expires_at", "expires_at"),
)
