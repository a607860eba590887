"""Clients by the hundred that send and read as slowly as they can, and one that measures what polls cost meanwhile."""

import http.client
import select
import socket
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from tests.support.clients import RawConnection

#: What all of it is about, in seconds.
LIMIT_SECONDS = 0.1
ROUNDS, POLLS = 3, 250
DRIP_EVERY_SECONDS = 0.5


class SlowSockets:
    """Many open sockets: every half second one byte of what each has to say, or a little of what it has to hear."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self.connections: list[RawConnection] = []
        self._drips: list[Callable[[], None]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        for connection in self.connections:
            connection.close()

    def half_heads(self, count: int) -> None:
        """Clients that drip a request's head."""
        for _ in range(count):
            connection = self._connect()
            connection.send(f"GET /healthz HTTP/1.1\r\nHost: {urlsplit(self._base_url).netloc}\r\nX-Slow: ".encode())
            self._drip(connection, b"x" * 1_000)

    def bodies(self, count: int, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Clients that drip a request's body."""
        for _ in range(count):
            connection = self._connect()
            connection.send_head("POST", path, {**headers, "Content-Length": str(len(body))})
            self._drip(connection, body)

    def readers(self, count: int, path: str, headers: Mapping[str, str]) -> None:
        """Clients that read a few bytes of a long answer at a time."""
        for _ in range(count):
            connection = self._connect(buffer_bytes=4_096)
            connection.send_head("GET", path, headers)
            self._drips.append(lambda connection=connection: _read_some(connection))  # type: ignore[misc]

    def silent(self, count: int) -> None:
        """Clients that connect and say nothing."""
        for _ in range(count):
            self._connect()

    def open_ones(self) -> int:
        """How many of them the other side has not ended."""
        return sum(not _is_ended(connection.socket) for connection in self.connections)

    def _connect(self, *, buffer_bytes: int = 0) -> RawConnection:
        connection = RawConnection(self._base_url)
        if buffer_bytes:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self.connections.append(connection)
        return connection

    def _drip(self, connection: RawConnection, data: bytes) -> None:
        left = iter(data)

        def drip() -> None:
            if (byte := next(left, None)) is not None:
                connection.send(bytes([byte]))

        self._drips.append(drip)

    def _run(self) -> None:
        while not self._stopped.wait(DRIP_EVERY_SECONDS):
            for drip in list(self._drips):
                with suppress(OSError):
                    drip()


def p99_of_polls(base_url: str, path: str, headers: Mapping[str, str]) -> float:
    """The 99th percentile of a poll's time, in seconds, on a kept connection: the best of three rounds.

    A round may meet whatever else the machine does; a server that is stuck is stuck in all of them.
    """
    parts = urlsplit(base_url)
    rounds = []
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        for _ in range(ROUNDS):
            times = []
            for _ in range(POLLS):
                began = time.monotonic()
                connection.request("GET", path, headers=dict(headers))
                response = connection.getresponse()
                response.read()
                times.append(time.monotonic() - began)
                assert response.status == 200, response.status
            rounds.append(statistics.quantiles(times, n=100)[98])
    finally:
        connection.close()
    return min(rounds)


def _read_some(connection: RawConnection) -> None:
    if select.select([connection.socket], [], [], 0)[0]:
        connection.socket.recv(512)


def _is_ended(sock: socket.socket) -> bool:
    if not select.select([sock], [], [], 0)[0]:
        return False
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return True
