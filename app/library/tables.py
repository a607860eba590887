"""The tables as the code sees them. `migrations/` creates them, and a test compares the two.

They are SQLAlchemy Core tables rather than mapped classes: nearly every statement is an atomic upsert or a conditional
update, and whether it took effect is its result. Rows become frozen values of the domain at once.

Strings are TEXT without a length. The API checks lengths; a database that refuses a long name would turn the user's
mistake into our failure.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UTCDateTime(TypeDecorator[datetime]):
    """An aware UTC time to the microsecond, on both databases.

    PostgreSQL has a type for it. SQLite stores text of fixed width, which sorts as the times do.
    Raises ValueError for a naive time, which is a bug.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the driver an aware time in UTC."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the driver's time as an aware time in UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class DatabaseTime(FunctionElement[datetime]):
    """The current time by the database's clock, not the time at which the transaction began."""

    type = UTCDateTime()
    inherit_cache = True


@compiles(DatabaseTime, "postgresql")
def _postgresql_time(_element: DatabaseTime, _compiler: SQLCompiler, **_options: Any) -> str:
    return "clock_timestamp()"


@compiles(DatabaseTime, "sqlite")
def _sqlite_time(_element: DatabaseTime, _compiler: SQLCompiler, **_options: Any) -> str:
    # In the format of UTCDateTime. SQLite's clock has milliseconds.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


metadata = sa.MetaData()

#: One row for each upload, and for each job that was found at the converter. A row without `job_id` is pending: the
#: converter has not answered the upload yet, or a crash lost the response. `status` to `error`, `created_at` and
#: `updated_at` are the converter's.
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
    # Ours: what polls saw of the stages, in their order (`app/domain/stages.py`).
    sa.Column("stages", sa.JSON(none_as_null=True), nullable=True),
    # Ours: what the advice about the model said when the job started.
    sa.Column("advice", sa.JSON(none_as_null=True), nullable=True),
    # Ours: what a receipt says of the upload, and how long such a job usually took when this one started.
    sa.Column("upload_facts", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("usual_time", sa.JSON(none_as_null=True), nullable=True),
    # Ours: by which jobs are compared (`app/domain/usual_time.py`).
    sa.Column("chip", sa.Text, nullable=True),
    sa.Column("size_class", sa.Integer, nullable=True),
    sa.UniqueConstraint("job_id", name="uq_jobs_job_id"),
    # Read backwards: newest first.
    sa.Index("ix_jobs_history", "user_id", "started_at", "upload_id"),
)
_is_pending = jobs.c.job_id.is_(None)
sa.Index("ix_jobs_pending", jobs.c.user_id, jobs.c.started_at, sqlite_where=_is_pending, postgresql_where=_is_pending)
#: In the statement itself, because neither database uses a partial index for a value that it does not know yet.
is_completed = jobs.c.status == sa.literal("completed", literal_execute=True)
sa.Index(
    "ix_jobs_completed",
    jobs.c.chip,
    jobs.c.size_class,
    jobs.c.started_at,
    sqlite_where=is_completed,
    postgresql_where=is_completed,
)

#: The model library. A user has at most one model for each job.
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
    # Whether the SHA-256 is the one that the converter announced. Null if an earlier version stored the model.
    sa.Column("is_verified", sa.Boolean, nullable=True),
    sa.UniqueConstraint("user_id", "source_job_id", name="uq_models_user_id_source_job_id"),
    sa.UniqueConstraint("storage_key", name="uq_models_storage_key"),
    sa.Index("ix_models_page", "user_id", "created_at", "id"),
)

#: Records whose file the sweep found missing. Only the sweep and `python -m app.library.quarantine` use this table.
quarantined_models = sa.Table(
    "quarantined_models",
    metadata,
    *(
        sa.Column(column.name, column.type, primary_key=column.primary_key, nullable=column.nullable)
        for column in models.columns
    ),
    sa.Column("quarantined_at", UTCDateTime, nullable=False),
)

#: At most one row. The storage has the same id; see `pairing`. Without `paired_at` the storage may not have it yet.
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
    # Of an upload: the id that the client gave it, and how far it is.
    sa.Column("upload_id", sa.Text, nullable=True),
    sa.Column("started_at", UTCDateTime, nullable=True),
    sa.Column("received_bytes", sa.BigInteger, nullable=True),
    sa.Column("total_bytes", sa.BigInteger, nullable=True),
    # The user's request to end the upload, and the holder's answer that it is too late.
    sa.Column("is_end_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("is_complete", sa.Boolean, nullable=False, server_default=sa.false()),
)

revoked_sessions = sa.Table(
    "revoked_sessions",
    metadata,
    sa.Column("sid", sa.Text, primary_key=True),
    sa.Column("expires_at", UTCDateTime, nullable=False),
    # By the database's clock, also for an earlier version of the gateway, which does not know this column.
    sa.Column("revoked_at", UTCDateTime, nullable=False, server_default=DatabaseTime()),
    sa.Index("ix_revoked_sessions_expires_at", "expires_at"),
    sa.Index("ix_revoked_sessions_revoked_at", "revoked_at"),
)


def newest_first(
    statement: sa.Select[Any],
    time: sa.Column[Any],
    id_: sa.Column[Any],
    *,
    limit: int,
    after: tuple[datetime, str] | None,
) -> sa.Select[Any]:
    """Return a page of `statement`: at most `limit` rows after the key `after`, newest first by time and id."""
    if after is not None:
        key = sa.tuple_(sa.literal(after[0], UTCDateTime), sa.literal(after[1], sa.Text))
        statement = statement.where(sa.tuple_(time, id_) < key)
    return statement.order_by(time.desc(), id_.desc()).limit(limit)
