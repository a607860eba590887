"""Reading on after the last response: until the client closes, and never without end."""

import selectors
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from app.server.lingering import IDLE_SECONDS, TOTAL_SECONDS, TURN_BYTES, LingeringConnections
from tests.support.clocks import FakeMonotonic


class Loop:
    """A selector that the test turns by hand, with a clock that stands."""

    def __init__(self) -> None:
        self.clock = FakeMonotonic()
        self.selector = selectors.DefaultSelector()
        self.closed: list[Any] = []
        self.lingering = LingeringConnections(self.selector, self._close, monotonic=self.clock)

    def turn(self, seconds: float = 0) -> None:
        """Let time pass, and handle what has arrived."""
        self.clock.advance(seconds)
        for key, _ in self.selector.select(0):
            key.data(key.fileobj)
        self.lingering.expire()

    def _close(self, conn: Any) -> None:
        self.closed.append(conn)
        conn.sock.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    with made.selector:
        yield made


@pytest.fixture
def client_and_connection() -> Iterator[tuple[socket.socket, Any]]:
    """A client's socket, and the server's connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, SimpleNamespace(sock=server)


Pair = tuple[socket.socket, Any]


def test_a_client_that_is_still_sending_reads_the_end_and_is_not_reset(loop: Loop, client_and_connection: Pair) -> None:
    client, conn = client_and_connection
    conn.sock.sendall(b"the last response")
    client.sendall(b"x" * 100_000)
    loop.lingering.add(conn)
    loop.turn()
    client.sendall(b"x" * 100_000)
    loop.turn()
    assert (client.recv(100), client.recv(100)) == (b"the last response", b"")
    assert loop.closed == []

    client.close()
    while not loop.closed:
        loop.turn()
    assert (loop.closed, len(loop.selector.get_map())) == ([conn], 0)


def test_a_reset_closes_the_connection_once(loop: Loop, client_and_connection: Pair) -> None:
    client, conn = client_and_connection
    loop.lingering.add(conn)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    loop.turn()
    loop.turn(IDLE_SECONDS + 1)
    assert loop.closed == [conn]


def test_a_connection_that_is_gone_already_is_closed_at_once(loop: Loop, client_and_connection: Pair) -> None:
    client, conn = client_and_connection
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    loop.lingering.add(conn)
    assert loop.closed == [conn]


def test_a_client_that_pauses_too_long_is_closed(loop: Loop, client_and_connection: Pair) -> None:
    client, conn = client_and_connection
    loop.lingering.add(conn)
    for _ in range(5):
        client.sendall(b"x")
        loop.turn(IDLE_SECONDS)
    assert loop.closed == []

    loop.turn(IDLE_SECONDS)
    assert loop.closed == [conn]


def test_a_client_that_never_stops_sending_is_closed(loop: Loop, client_and_connection: Pair) -> None:
    client, conn = client_and_connection
    loop.lingering.add(conn)
    began = loop.clock.now
    while not loop.closed:
        client.sendall(b"x")
        loop.turn(1)
    assert TOTAL_SECONDS <= loop.clock.now - began <= TOTAL_SECONDS + IDLE_SECONDS


def test_a_fast_sender_takes_a_bounded_part_of_a_turn(loop: Loop) -> None:
    """However much has arrived on one connection, the others get their turn."""
    fast, other = socket.socketpair()
    with fast, other:
        for end in (fast, other):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * TURN_BYTES)
            end.setblocking(False)
        sent = 0
        while True:
            try:
                sent += fast.send(b"x" * 65_536)
            except BlockingIOError:
                break
        loop.lingering.add(SimpleNamespace(sock=other))
        loop.turn()
        left = max(0, sent - TURN_BYTES)
        assert len(other.recv(16 * TURN_BYTES, socket.MSG_PEEK) if left else b"") == left
