"""Connections to PostgreSQL that don't hang with their server, and that work with a transaction pooler.

The kernel of a stopped server process still acknowledges what we send, so neither keepalives nor `tcp_user_timeout`
end a wait for its response. Here every wait has a timeout, which also closes the connection. While the server is
silent, one thread tries to reach it and all others fail at once.

Nothing is set for a session and no statement is prepared, because PgBouncer in transaction mode gives each transaction
another session of the server. Each transaction sets its own limits (`begin_statement`).
"""

import hashlib
import socket
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
import structlog

from app.errors import ModelStoreUnavailableError

T = TypeVar("T")

#: How long to wait for a response of the server.
ANSWER_SECONDS = 4.5
#: Limits that the server enforces. They are shorter, so a busy server is not mistaken for a silent one.
_STATEMENT_SECONDS = 4.0
_LOCK_SECONDS = 3.0
#: How long a transaction may wait for its next statement. A process that has been frozen must not commit later.
_IDLE_SECONDS = 10.0

_CONNECT_SECONDS = 4
_MIN_CONNECT_SECONDS = 2  # psycopg's minimum
_ASK_EVERY_SECONDS = 1.0
_WAKE_EVERY_SECONDS = 0.1

#: Arguments of psycopg's `connect` besides the address. Transactions begin by `begin_statement`.
CONNECT_ARGUMENTS: Mapping[str, Any] = {
    "application_name": "visiona-gateway",
    "autocommit": True,
    "prepare_threshold": None,
}

log = structlog.get_logger(__name__)


class Silence:
    """Knows whether the server has stopped answering. Thread-safe.

    Once it has, a daemon thread asks until it answers again, so no request has to wait for it.
    """

    def __init__(self, ask: Callable[[], None], *, ask_every_seconds: float = _ASK_EVERY_SECONDS) -> None:
        """`ask` returns if the server answers, and raises ModelStoreUnavailableError if it doesn't."""
        self._ask = ask
        self._ask_every_seconds = ask_every_seconds
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._closed = threading.Event()

    def require_none(self) -> None:
        """Raise ModelStoreUnavailableError if the server is known to be silent."""
        if self._asking not in {None, threading.current_thread()}:
            raise ModelStoreUnavailableError("the database server has stopped answering")

    def begin(self) -> None:
        """Note that the server has not answered in time."""
        with self._lock:
            if self._asking is None and not self._closed.is_set():
                log.error("database.silent")
                self._asking = threading.Thread(target=self._wait_for_end, name="database-silence", daemon=True)
                self._asking.start()

    def close(self) -> None:
        """Stop the thread, if there is one."""
        self._closed.set()

    def _wait_for_end(self) -> None:
        while not self._closed.wait(self._ask_every_seconds):
            with suppress(ModelStoreUnavailableError):
                self._ask()
                log.info("database.answers_again")
                break
        with self._lock:
            self._asking = None


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server doesn't answer in time."""

    #: Notified if the server doesn't answer. None: wait without a timeout.
    silence: Silence | None = None

    def wait(
        self,
        gen: Generator[Any, Any, T],
        interval: float = _WAKE_EVERY_SECONDS,
        timeout: float | None = None,
    ) -> T:
        """Wait for a response. All methods of a connection and its cursors that talk to the server call this."""
        if timeout is None and self.silence is not None:
            timeout = ANSWER_SECONDS
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.errors._WaitTimeout as error:
            # A connection in the middle of a response cannot be used any more.
            self.close()
            if self.silence is not None:
                self.silence.begin()
            raise psycopg.OperationalError("the server has not answered in time") from error


def connect(arguments: Mapping[str, Any], silence: Silence | None) -> BoundedConnection:
    """Connect within a few seconds. Raises psycopg.Error, and ModelStoreUnavailableError while the server is silent."""
    if silence is None:
        return BoundedConnection.connect(**arguments)
    silence.require_none()
    # psycopg gives each address of a host the whole timeout.
    seconds = max(_MIN_CONNECT_SECONDS, _CONNECT_SECONDS // _count_addresses(arguments))
    try:
        connection = BoundedConnection.connect(**arguments, connect_timeout=seconds)
    except psycopg.errors.ConnectionTimeout:
        silence.begin()
        raise
    connection.silence = silence
    return connection


def begin_statement(*, is_read_only: bool, lock_seconds: float) -> str:
    """Return the statements that begin a transaction with its limits, for one message."""
    return "; ".join(
        [
            "BEGIN READ ONLY" if is_read_only else "BEGIN",
            # UTC, so that no server's zone can push a time near year 1 or 9999 out of Python's range.
            "SET LOCAL TIME ZONE 'UTC'",
            f"SET LOCAL statement_timeout = {_STATEMENT_SECONDS * 1000:.0f}",
            f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_SECONDS * 1000:.0f}",
            f"SET LOCAL lock_timeout = {min(lock_seconds, _LOCK_SECONDS) * 1000:.0f}",
        ]
    )


def _count_addresses(arguments: Mapping[str, Any]) -> int:
    host = arguments.get("host")
    if not isinstance(host, str) or host.startswith("/"):
        return 1
    addresses = 0
    for name in host.split(","):
        with suppress(OSError):
            addresses += len(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    return max(1, addresses)


def lock_statement(name: str) -> str:
    """Return the statement that waits for the lock of this name, which the end of the transaction releases.

    It must precede the statement that reads: a statement sees what was committed before it began.
    """
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    return f"SELECT pg_advisory_xact_lock({number})"
