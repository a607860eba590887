"""Reaching the database: connections, transactions, and the one place where its failures become ours.

SQLite (one host, any number of processes) and PostgreSQL (replicas) behave alike above this module. It deliberately
knows no table, offers no session or identity map, and never retries: who needs a second try says so in plain sight.

SQLite, and why so:

* A transaction that writes begins `IMMEDIATE`. A deferred one that reads first and then writes can fail at once with
  "database is locked", whatever the busy timeout, because its snapshot has gone stale.
* The writers of one process queue in Python first. SQLite's own waiting is a poll that sleeps up to 100 ms and is not
  fair, so that 32 threads polling can starve one of them beyond the timeout; with the queue only processes poll.
* `synchronous=FULL`. A commit survives kill -9 in any mode, since the kernel already has its bytes. FULL also
  syncs the write-ahead log at each commit, so that it survives a power cut as far as the disk tells the truth; NORMAL
  would lose the last commits then: a logout, or whose job it was. The gateway writes a few rows an upload; it can wait.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Dialect, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import ModelStoreUnavailableError
from app.library.postgresql import CONNECT_ARGUMENTS, BoundedConnection, Silence, begin_statement, connect

MAX_REASON_CHARACTERS = 200

_BEGIN = "visiona_begin"


class UniqueViolationError(ModelStoreUnavailableError):
    """A row with this key was written at the same time. The callers in this package catch it and look again."""


class Database:
    """Connections to one database, pooled for the threads of one process.

    Making one connects to nothing, but it must be made after the fork: connections cannot be shared by processes.
    All methods may be called by several threads at once. Blocks of `read` and `write` must not be nested in one
    thread, nor be open while an upstream is called.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 32,
        pool_timeout_seconds: float = 5.0,
        busy_timeout_seconds: float = 5.0,
        is_patient: bool = False,
    ) -> None:
        """Prepare for at most `pool_size` connections at once: the number of threads that may use them.

        A thread waits at most `pool_timeout_seconds` for a connection, and at most `busy_timeout_seconds` for other
        writers (twice that on SQLite: once for its own process's, once for the others'). A PostgreSQL server that does
        not answer for 4.5 s is a failure, unless `is_patient`, as a change of the schema must be.

        Raises ValueError, which does not repeat the URL, if it names neither a SQLite file nor a PostgreSQL database.
        """
        self._url = parse_url(url)
        self._busy_timeout_seconds = busy_timeout_seconds
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._writer = threading.Lock()
        self._silence = None if self._is_sqlite or is_patient else Silence(self._ask)
        options: dict[str, Any]
        if self._is_sqlite:
            # isolation_level None: the driver begins nothing by itself, `_begin` does (also before DDL).
            options = {"connect_args": {"timeout": busy_timeout_seconds, "isolation_level": None}}
            reading, writing = "BEGIN", "BEGIN IMMEDIATE"
        else:
            options = {"connect_args": dict(CONNECT_ARGUMENTS), "pool_pre_ping": True, "use_native_hstore": False}
            reading = begin_statement(is_read_only=True, lock_seconds=busy_timeout_seconds)
            writing = begin_statement(is_read_only=False, lock_seconds=busy_timeout_seconds)
        self._engine = sa.create_engine(
            self._url,
            hide_parameters=True,
            max_overflow=0,
            pool_size=pool_size,
            pool_timeout=pool_timeout_seconds,
            # The last used first: after a busy minute the surplus connections are those that stay idle.
            pool_use_lifo=True,
            **options,
        )
        event.listen(self._engine, "begin", _begin)
        if self._is_sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)
        else:
            event.listen(self._engine, "do_connect", self._connect)
        self._reading = self._engine.execution_options(**{_BEGIN: reading})
        self._writing = self._engine.execution_options(**{_BEGIN: writing})

    @property
    def sqlite_path(self) -> Path | None:
        """The database's file; None for PostgreSQL."""
        return Path(str(self._url.database)) if self._is_sqlite else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection for statements that only read, all of them in one transaction.

        Raises ModelStoreUnavailableError for whatever goes wrong in the database, in the block too.
        """
        self._require_answers()
        with self._translated(self._reading), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction that is committed, durably, when the block ends; any exception undoes it.

        Raises ModelStoreUnavailableError for whatever goes wrong in the database, in the block too;
        UniqueViolationError is the kind of it that a look at the new state can cure.
        """
        self._require_answers()
        with self._translated(self._writing), self._one_writer(), self._writing.begin() as connection:
            yield connection

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """Begin an INSERT that can say ON CONFLICT, which SQLAlchemy keeps in its dialects."""
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)

    def ping(self) -> None:
        """Return if the database answers; raises ModelStoreUnavailableError if it doesn't."""
        with self.read() as connection:
            connection.execute(sa.select(1))

    def ensure_file(self) -> None:
        """Create a missing SQLite file, and its folder, readable by us alone; nothing to do for PostgreSQL.

        Raises ModelStoreUnavailableError.
        """
        path = self.sqlite_path
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite takes an empty file for an empty database, and gives its log files the mode of this one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ModelStoreUnavailableError(f"the database file: {error.strerror}") from error

    def enable_wal(self) -> None:
        """Switch a SQLite file to write-ahead logging, so that readers and the writer do not wait for each other.

        The mode stays in the file, so that only the migrating process has to set it: switching needs the file alone.
        Raises ModelStoreUnavailableError, also on a file system that cannot do it (a network share).
        """
        if not self._is_sqlite:
            return
        with self._translated(self._engine):
            connection = self._engine.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute("PRAGMA journal_mode=WAL")
                mode = cursor.fetchone()
                cursor.close()
            finally:
                connection.close()
        if mode is None or mode[0] != "wal":
            raise ModelStoreUnavailableError("the database's file system does not support write-ahead logging")

    def dispose(self) -> None:
        """Close the pooled connections. The next use opens new ones."""
        if self._silence is not None:
            self._silence.close()
        self._engine.dispose()

    def _require_answers(self) -> None:
        if self._silence is not None:
            self._silence.require_none()

    def _ask(self) -> None:
        with self._translated(self._reading), self._reading.connect() as connection:
            connection.execute(sa.select(1))

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        if not self._is_sqlite:
            yield
            return
        if not self._writer.acquire(timeout=self._busy_timeout_seconds):
            raise ModelStoreUnavailableError("waited too long for other writers of this process")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def _translated(self, engine: Engine) -> Iterator[None]:
        """Turn every failure of the database into ours. This is the only place that does."""
        try:
            yield
        except IntegrityError as error:
            raise UniqueViolationError(self._reason(error)) from error
        # Drivers let some failures out as they are: text that is not Unicode, numbers beyond 64 bits, and those of
        # what we send before SQLAlchemy has the connection in hand.
        except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error, UnicodeError, OverflowError) as error:
            raise ModelStoreUnavailableError(self._reason(error)) from error

    def _reason(self, error: BaseException) -> str:
        """Name a failure for the log: neither statement, nor parameters, nor where the database is."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        parts = [type(cause).__name__]
        if code := getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None):
            parts.append(str(code))
        if isinstance(cause, sqlite3.Error) or _is_about_connecting(cause):
            # SQLite's messages name tables and columns at most. PostgreSQL's quote values, so only those are told
            # that come from connecting, and of them only what follows the address.
            lines = str(cause).strip().splitlines()
            parts.append(lines[0].rpartition("failed: ")[2] if lines else "")
        reason = " ".join(part for part in parts if part)
        if self._url.password:
            reason = reason.replace(str(self._url.password), "***")
        return reason[:MAX_REASON_CHARACTERS]

    def _connect(
        self, _dialect: Dialect, _entry: ConnectionPoolEntry, _arguments: list[Any], parameters: dict[str, Any]
    ) -> BoundedConnection:
        return connect(parameters, self._silence)


def parse_url(url: str) -> URL:
    """Read a database URL, with the driver that we ship filled in.

    Raises ValueError, which does not repeat the URL, unless it is a SQLite file or a PostgreSQL database.
    """
    # SQLAlchemy takes the first question mark for the beginning of a query, although a folder's name may have one.
    scheme, _, path = url.partition(":///")
    folder, slash, name = path.rpartition("/") if scheme == "sqlite" else ("", "", path)
    try:
        parsed = make_url(f"{scheme}:///{name}" if slash else url)
    except (ArgumentError, ValueError):
        raise ValueError("the database URL cannot be read") from None
    match parsed.drivername:
        case "sqlite":
            parsed = parsed.set(database=f"{folder}{slash}{parsed.database or ''}")
            # A database in memory would be another one in every connection and every worker.
            if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
                raise ValueError("the database URL must name a file: sqlite:////absolute/path")
            return parsed
        case "postgresql" | "postgresql+psycopg":
            return parsed.set(drivername="postgresql+psycopg")
        case _:
            raise ValueError("the database URL must begin with sqlite:/// or postgresql://")


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(_BEGIN, "BEGIN")
    # Without parameters psycopg sends it as one message, even if it is several statements.
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _is_about_connecting(error: BaseException) -> bool:
    return type(error).__name__ == "OperationalError" and getattr(error, "sqlstate", None) is None
