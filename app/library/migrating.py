"""Bringing a database to the schema that this version needs: `python -m app.library.migrating`, or at start.

All pending revisions run in one transaction together with alembic's own note of them, on SQLite too (see `database`
for why DDL is transactional there). So a process killed in the middle leaves what was there before, and the next start
does it again. Several processes and replicas may start at once: one migrates, the others wait and find nothing to do.
Both locks (PostgreSQL's advisory lock, `flock` beside a SQLite file) die with their holder; nothing is left that could
block a start. There is no way down: an older version refuses a database that it does not know.
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from app.config import ConfigurationError, load_settings
from app.errors import GatewayError, ModelStoreUnavailableError
from app.library.database import Database

#: How long a start waits for another one's migration, in seconds.
LOCK_TIMEOUT_SECONDS = 120.0

_LOCK_POLL_SECONDS = 0.05
# Any number will do, as long as nobody else takes an advisory lock of this number in our database.
_ADVISORY_LOCK = 7_205_307_305_302_026

_log = structlog.get_logger(__name__)


def migrate(url: str, *, lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> None:
    """Bring the database to this version's schema, creating a missing SQLite file; where it is there, do nothing.

    To be called before workers are forked, or by hand; any number of processes may call it at once.
    Raises ModelStoreUnavailableError if the database fails, is newer than this version, or another process has been
    migrating for longer than `lock_timeout_seconds`.
    """
    database = Database(url, pool_size=1, is_patient=True)
    try:
        database.ensure_file()
        with _file_lock(database.sqlite_path, lock_timeout_seconds):
            database.enable_wal()
            with database.write() as connection:
                if connection.dialect.name == "postgresql":
                    _take_advisory_lock(connection, lock_timeout_seconds)
                pending = _pending(connection)
                if pending:
                    command.upgrade(_config(connection), "head")
        if pending:
            _log.info("database.migrated", revisions=pending)
    finally:
        database.dispose()


def pending_migrations(url: str) -> list[str]:
    """The revisions that the database lacks, first to last; empty if it is ready to be used. Changes nothing.

    Raises ModelStoreUnavailableError if the database fails or is newer than this version.
    """
    database = Database(url, pool_size=1, is_patient=True)
    try:
        path = database.sqlite_path
        if path is not None and not path.exists():
            return _revisions_since(None)
        with database.read() as connection:
            return _pending(connection)
    finally:
        database.dispose()


def main() -> int:
    """Migrate the database that the environment names; the exit code. Problems go to standard error."""
    try:
        url = load_settings().database_url.get_secret_value()
        migrate(url)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except GatewayError as error:
        sys.stderr.write(f"The database could not be migrated: {error}\n")
        return 1
    return 0


def _pending(connection: Connection) -> list[str]:
    try:
        current = MigrationContext.configure(connection).get_current_revision()
    except CommandError as error:
        raise ModelStoreUnavailableError("the database is at several revisions at once") from error
    return _revisions_since(current)


def _revisions_since(current: str | None) -> list[str]:
    try:
        revisions = [
            script.revision for script in _scripts().iterate_revisions("head", current or "base") if script.revision
        ]
    except (CommandError, RevisionError) as error:
        raise ModelStoreUnavailableError(
            f"the database is at revision {str(current)[:40]!r}, which this version of the gateway does not know"
        ) from error
    return list(reversed(revisions))


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config(connection: Connection | None = None) -> Config:
    """Alembic's configuration in code: there is no ini file that could hold a password."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "revision_%%(rev)s_%%(slug)s")
    return config


def _take_advisory_lock(connection: Connection, timeout_seconds: float) -> None:
    # Local to the transaction, as the lock itself: whatever ends the one gives up the other. The limits that protect
    # requests from each other do not fit a change of the schema.
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    connection.execute(sa.text(f"SET LOCAL lock_timeout = {int(timeout_seconds * 1000)}"))
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))


@contextmanager
def _file_lock(database_path: Path | None, timeout_seconds: float) -> Iterator[None]:
    """Keep other migrating processes of this host out. The empty file stays; only the kernel's lock on it counts.

    BEGIN IMMEDIATE alone would do for the schema, but not for switching to WAL, which fails if it meets another's.
    """
    if database_path is None:
        yield
        return
    deadline = time.monotonic() + timeout_seconds
    try:
        lock = os.open(
            database_path.with_name(database_path.name + ".migrating"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise ModelStoreUnavailableError(f"the migration's lock file: {error.strerror}") from error
    try:
        while not _try_flock(lock):
            if time.monotonic() >= deadline:
                raise ModelStoreUnavailableError("another process has been migrating the database for too long")
            time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(lock)


def _try_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # pragma: no cover - a file system without locks
        raise ModelStoreUnavailableError(f"the migration's lock file: {error.strerror}") from error
    return True


if __name__ == "__main__":
    sys.exit(main())
