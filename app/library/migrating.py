"""Migrate a database to the schema of this version, at start or by `python -m app.library.migrating`.

All pending revisions and alembic's version row are written in one transaction, on SQLite too (see `database` for why
DDL is transactional there). So a process that is killed changes nothing, and the next start tries again. Several
processes and replicas may start at once: one migrates, the others wait. Both locks (PostgreSQL's advisory lock, `flock`
beside a SQLite file) are released when their holder dies, so nothing can block a later start. There are no downgrades:
an older version refuses a newer database.
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

#: How long a start waits for the migration of another process.
LOCK_TIMEOUT_SECONDS = 120.0

_LOCK_POLL_SECONDS = 0.05
# Any number, as long as nothing else uses it for an advisory lock in our database.
_ADVISORY_LOCK = 7_205_307_305_302_026

_log = structlog.get_logger(__name__)


def migrate(url: str, *, lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> None:
    """Migrate the database to this version's schema. Creates a missing SQLite file.

    Call it before workers are forked. Any number of processes may call it at once.
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
    """Return the revisions that the database lacks, in order; none if it is ready. Changes nothing.

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
    """Migrate the database of the environment and return the exit code. Failures go to standard error."""
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
    # The settings and the lock last for this transaction. A change of the schema may take longer than the limits that
    # protect requests from each other.
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    connection.execute(sa.text(f"SET LOCAL lock_timeout = {int(timeout_seconds * 1000)}"))
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))


@contextmanager
def _file_lock(database_path: Path | None, timeout_seconds: float) -> Iterator[None]:
    """Exclude other migrating processes of this host by a lock on a file, which stays behind empty.

    BEGIN IMMEDIATE would be enough for the schema, but not for two processes that switch to WAL at once.
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
