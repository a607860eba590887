"""Throwing away what still arrives: until the other side ends, and never without end."""

import selectors
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from app.server.lingering import TURN_BYTES, Discarder, DiscardLimits
from tests.support.clocks import FakeMonotonic

LIMITS = DiscardLimits(max_bytes=10_000_000, idle_seconds=2, total_seconds=30)


@dataclass
class Loop:
    """A selector, turned by hand, and a clock that stands."""

    clock: FakeMonotonic = field(default_factory=FakeMonotonic)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def __post_init__(self) -> None:
        self.discarder = Discarder(self.selector, monotonic=self.clock)

    def turn(self) -> None:
        for key, _ in self.selector.select(0):
            key.data(key.fileobj)

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.turn()
        self.discarder.expire()


@dataclass
class Pair:
    """A client's socket and the server's end, whose end is noted as the discarder tells it."""

    client: socket.socket
    server: socket.socket
    ends: list[bool] = field(default_factory=list)

    def send(self, size: int) -> None:
        self.client.sendall(b"x" * size)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    with made.selector:
        yield made


def tcp_pair() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    server.setblocking(False)
    return Pair(client, server)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = tcp_pair()
    with made.client, made.server:
        yield made


def test_connection_ends_with_the_other_sides_end(loop: Loop, pair: Pair) -> None:
    loop.discarder.discard(pair.server, LIMITS, pair.ends.append)
    pair.send(100_000)
    loop.turn()
    assert (pair.ends, len(loop.discarder)) == ([], 1)

    pair.client.close()
    while not pair.ends:
        loop.turn()

    assert (pair.ends, len(loop.discarder), len(loop.selector.get_map())) == ([False], 0, 0)


def test_what_has_ended_already_is_ended_at_once(loop: Loop, pair: Pair) -> None:
    pair.client.close()
    loop.discarder.discard(pair.server, LIMITS, pair.ends.append)
    assert (pair.ends, len(loop.discarder)) == ([False], 0)


def test_reset_ends_it_and_raises_nothing(loop: Loop, pair: Pair) -> None:
    loop.discarder.discard(pair.server, LIMITS, pair.ends.append)
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.client.close()
    loop.turn()
    assert pair.ends == [False]


def test_pause_that_is_too_long_ends_it(loop: Loop, pair: Pair) -> None:
    """Every byte gives a connection another two seconds, and no more."""
    loop.discarder.discard(pair.server, LIMITS, pair.ends.append)
    for _ in range(5):
        pair.send(1)
        loop.later(1.9)
    assert pair.ends == []

    loop.later(2.1)
    assert pair.ends == [False]


def test_whoever_goes_on_for_ever_is_ended(loop: Loop, pair: Pair) -> None:
    loop.discarder.discard(pair.server, LIMITS, pair.ends.append)
    for _ in range(31):
        pair.send(1)
        loop.later(1)
    assert pair.ends == [False]


def test_bytes_asked_for_are_taken_and_no_more(loop: Loop, pair: Pair) -> None:
    """The rest of a body goes; the request behind it stays on the wire."""
    limits = DiscardLimits(max_bytes=1_000, idle_seconds=2, total_seconds=30)
    loop.discarder.discard(pair.server, limits, pair.ends.append)
    pair.client.sendall(b"x" * 600)
    loop.turn()
    assert pair.ends == []
    pair.client.sendall(b"x" * 400 + b"GET / HTTP/1.1")
    loop.turn()

    assert pair.ends == [True]
    assert pair.server.recv(100) == b"GET / HTTP/1.1"


def test_fast_sender_takes_one_turn_at_a_time(loop: Loop) -> None:
    """However much has arrived on one connection, the others get their turn after a bounded part of it."""
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
        ends: list[bool] = []
        loop.discarder.discard(other, LIMITS, ends.append)
        loop.turn()
        left = sent - 2 * TURN_BYTES
        with_peek = other.recv(16 * TURN_BYTES, socket.MSG_PEEK) if left > 0 else b""
    assert len(with_peek) == max(0, left)


def test_stop_cuts_all_of_them_short(loop: Loop) -> None:
    pairs = [tcp_pair() for _ in range(3)]
    for pair in pairs:
        loop.discarder.discard(pair.server, LIMITS, pair.ends.append)
        loop.clock.advance(0.1)
    loop.discarder.cut_short(loop.clock.now + 1)
    assert loop.discarder.next_expiry == loop.clock.now + 1
    for pair in pairs:
        pair.send(1)
    loop.later(0.9)
    assert [pair.ends for pair in pairs] == [[], [], []]

    loop.later(0.2)
    assert [pair.ends for pair in pairs] == [[False], [False], [False]]
    assert loop.discarder.next_expiry is None
    for pair in pairs:
        pair.client.close()
        pair.server.close()
