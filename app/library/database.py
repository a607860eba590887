"""Connections and transactions, and the translation of the database's failures into ours.

SQLite (one host, any number of processes) and PostgreSQL (replicas) behave alike above this module. It knows no table,
has no session or identity map, and never retries: a caller that needs a second try makes it.

How SQLite is used, and why:

* A transaction that writes begins `IMMEDIATE`. A deferred one that reads first and then writes can fail at once with
  "database is locked", whatever the busy timeout, because its snapshot has gone stale.
* The writers of one process queue in Python first. SQLite waits by polling, with sleeps of up to 100 ms, and is not
  fair: among 32 polling threads one can starve beyond the timeout. With the queue only processes poll.
* `synchronous=FULL`. A commit survives kill -9 in any mode, because the kernel has its bytes. FULL also syncs the
  write-ahead log at each commit, so it survives a power cut too. NORMAL would lose the last commits: a logout, or the
  owner of a job. The gateway writes a few rows for each upload, so it can afford the sync.
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
from app.library.postgresql import (
    CONNECT_ARGUMENTS,
    BoundedConnection,
    Silence,
    begin_statement,
    connect,
    lock_statement,
)

MAX_REASON_CHARACTERS = 200

_BEGIN = "visiona_begin"


class UniqueViolationError(ModelStoreUnavailableError):
    """Another transaction wrote a row with this key at the same time. Callers in this package read again."""


class Database:
    """Connections to one database, pooled for the threads of one process.

    Thread-safe. Make it after the fork: processes cannot share connections. Blocks of `read` and `write` must not be
    nested in one thread, nor be open while an upstream is called.
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
        """Prepare for at most `pool_size` connections at once, fewer than the threads that share them.

        A thread waits at most `pool_timeout_seconds` for a connection, and at most `busy_timeout_seconds` for other
        writers (on SQLite once for those of its process and once for those of others). A PostgreSQL server that does
        not answer for 4.5 s is a failure, unless `is_patient`, which a change of the schema needs.

        Raises ValueError, without the URL in its message, unless the URL names a SQLite file or a PostgreSQL database.
        """
        self._url = parse_url(url)
        self._busy_timeout_seconds = busy_timeout_seconds
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._writer = threading.Lock()
        self._silence = None if self._is_sqlite or is_patient else Silence(self._ask)
        options: dict[str, Any]
        if self._is_sqlite:
            # isolation_level None: `_begin` begins transactions (also before DDL), and not the driver.
            options = {"connect_args": {"timeout": busy_timeout_seconds, "isolation_level": None}}
            reading, writing = "BEGIN", "BEGIN IMMEDIATE"
        else:
            options = {"connect_args": dict(CONNECT_ARGUMENTS), "use_native_hstore": False}
            reading = begin_statement(is_read_only=True, lock_seconds=busy_timeout_seconds)
            writing = begin_statement(is_read_only=False, lock_seconds=busy_timeout_seconds)
        self._engine = sa.create_engine(
            self._url,
            hide_parameters=True,
            max_overflow=0,
            pool_size=pool_size,
            pool_timeout=pool_timeout_seconds,
            # The last used first, so that surplus connections become idle after a busy minute.
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
        """Return a connection for statements that only read, in one transaction.

        Raises ModelStoreUnavailableError for every failure of the database, also inside the block.
        """
        self._require_answers()
        with self._translated(self._reading), _begun(self._reading) as connection:
            yield connection

    @contextmanager
    def write(self, *, lock: str | None = None) -> Iterator[Connection]:
        """Return a connection in a transaction that is committed when the block ends, or rolled back on an exception.

        Transactions that name the same `lock` take turns, and each sees what those before it have committed. On SQLite
        all that write do.

        Raises ModelStoreUnavailableError for every failure of the database, also inside the block. After a
        UniqueViolationError the caller may read the new state and try again.
        """
        self._require_answers()
        engine = self._writing
        if lock is not None and not self._is_sqlite:
            begin = f"{engine.get_execution_options()[_BEGIN]}; {lock_statement(lock)}"
            engine = engine.execution_options(**{_BEGIN: begin})
        with self._translated(engine), self._one_writer(), _begun(engine) as connection:
            yield connection
            connection.commit()

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """Return an INSERT that supports ON CONFLICT, which SQLAlchemy has in its dialects only."""
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)

    def ping(self) -> None:
        """Return if the database answers; raises ModelStoreUnavailableError if it doesn't."""
        with self.read() as connection:
            connection.execute(sa.select(1))

    def ensure_file(self) -> None:
        """Create a missing SQLite file and its folder, readable by us only. Does nothing for PostgreSQL.

        Raises ModelStoreUnavailableError.
        """
        path = self.sqlite_path
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite treats an empty file as an empty database, and gives its log files the mode of this file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ModelStoreUnavailableError(f"the database file: {error.strerror}") from error

    def enable_wal(self) -> None:
        """Switch a SQLite file to write-ahead logging, so that readers and the writer do not wait for each other.

        The mode is stored in the file. Switching needs exclusive access, so only the migrating process does it. Raises
        ModelStoreUnavailableError, also if the file system does not support it (a network share).
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
        with self._translated(self._reading), _begun(self._reading) as connection:
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
        """Turn every failure of the database into ours. Nothing else does."""
        try:
            yield
        except IntegrityError as error:
            raise UniqueViolationError(self._reason(error)) from error
        # SQLAlchemy does not wrap some failures of the drivers: text that is not Unicode, numbers beyond 64 bits, and
        # failures while a connection is being made.
        except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error, UnicodeError, OverflowError) as error:
            raise ModelStoreUnavailableError(self._reason(error)) from error

    def _reason(self, error: BaseException) -> str:
        """Describe a failure for the log, without statement, parameters and address."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        parts = [type(cause).__name__]
        if code := getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None):
            parts.append(str(code))
        if isinstance(cause, sqlite3.Error) or _is_about_connecting(cause):
            # SQLite's messages name tables and columns at most. PostgreSQL's quote values, so only messages about
            # connecting are used, and of these only what follows the address.
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
    """Parse a database URL and fill in the driver that we ship.

    Raises ValueError, without the URL in its message, unless it names a SQLite file or a PostgreSQL database.
    """
    # For SQLAlchemy the first question mark begins a query, but a folder's name may contain one.
    scheme, _, path = url.partition(":///")
    folder, slash, name = path.rpartition("/") if scheme == "sqlite" else ("", "", path)
    try:
        parsed = make_url(f"{scheme}:///{name}" if slash else url)
    except (ArgumentError, ValueError):
        raise ValueError("the database URL cannot be read") from None
    match parsed.drivername:
        case "sqlite":
            parsed = parsed.set(database=f"{folder}{slash}{parsed.database or ''}")
            # A database in memory would be a different one in every connection and worker.
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


def _begun(engine: Engine) -> Connection:
    """Return a connection in a transaction. Closing it ends the transaction without a commit.

    A pooled connection may have broken while it was idle, for example because the server was restarted. Then BEGIN
    fails, and is tried once more: nothing else was sent. SQLAlchemy has discarded all older connections by then. Unlike
    a ping before each transaction, this costs no round trip.
    """
    try:
        return _begin_on(engine.connect())
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    return _begin_on(engine.connect())


def _begin_on(connection: Connection) -> Connection:
    try:
        connection.begin()
    except BaseException:
        connection.close()
        raise
    return connection


def _begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(_BEGIN, "BEGIN")
    # Without parameters psycopg sends several statements in one message.
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _is_about_connecting(error: BaseException) -> bool:
    return type(error).__name__ == "OperationalError" and getattr(error, "sqlstate", None) is None
