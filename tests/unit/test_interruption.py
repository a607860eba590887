"""Hearing one end of a stream while waiting for the other, over real sockets."""

import socket
import threading
from collections.abc import Iterator

import pytest

from app.streaming.interruption import HearingSocket, Interruption, StreamInterruptedError

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def client() -> Iterator[Pair]:
    yield from _pair()


@pytest.fixture
def upstream() -> Iterator[Pair]:
    yield from _pair()


def _pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def refuse() -> None:
    raise StreamInterruptedError


def test_bytes_that_arrive_are_read(client: Pair) -> None:
    client[1].sendall(b"abc")
    assert HearingSocket(client[0], Interruption(), 5).recv(10) == b"abc"


def test_nobody_waits_longer_than_the_idle_time(client: Pair) -> None:
    with pytest.raises(TimeoutError):
        HearingSocket(client[0], Interruption(), 0.05).recv(10)


def test_an_upstream_that_speaks_ends_the_waiting(client: Pair, upstream: Pair) -> None:
    interruption = Interruption()
    threading.Timer(0.05, upstream[1].sendall, [b"HTTP/1.1 413"]).start()
    with interruption.hearing(upstream[0], refuse), pytest.raises(StreamInterruptedError):
        HearingSocket(client[0], interruption, 10).recv(10)


def test_an_upstream_that_says_nothing_of_weight_does_not(client: Pair, upstream: Pair) -> None:
    """Under TLS a session ticket makes the socket readable, and is taken off it."""
    interruption = Interruption()
    upstream[1].sendall(b"ticket")

    def take_ticket() -> None:
        upstream[0].recv(100)
        client[1].sendall(b"abc")

    with interruption.hearing(upstream[0], take_ticket):
        assert HearingSocket(client[0], interruption, 10).recv(10) == b"abc"


def test_an_upstream_is_not_heard_before_or_after_its_turn(client: Pair, upstream: Pair) -> None:
    interruption = Interruption()
    with interruption.hearing(upstream[0], refuse):
        pass
    upstream[1].sendall(b"too late")
    client[1].sendall(b"abc")
    assert HearingSocket(client[0], interruption, 10).recv(10) == b"abc"


def test_bytes_that_are_there_are_read_without_waiting_for_anything(client: Pair, upstream: Pair) -> None:
    """Whoever sends them on hears the upstream before the next are read."""
    client[1].sendall(b"abc")
    upstream[1].sendall(b"HTTP/1.1 413")
    interruption = Interruption()
    with interruption.hearing(upstream[0], refuse):
        assert HearingSocket(client[0], interruption, 10).recv(10) == b"abc"
        with pytest.raises(StreamInterruptedError):
            HearingSocket(client[0], interruption, 10).recv(10)


def test_bytes_that_are_decrypted_already_are_not_waited_for(client: Pair) -> None:
    class Decrypted:
        """As an SSLSocket that has the rest of a record at hand; its descriptor has nothing."""

        def pending(self) -> int:
            return 3

        def recv(self, size: int) -> bytes:
            return b"abc"[:size]

        def fileno(self) -> int:
            return client[0].fileno()

    assert HearingSocket(Decrypted(), Interruption(), 0.05).recv(10) == b"abc"  # type: ignore[arg-type]


def test_what_tls_has_not_decrypted_yet_is_waited_for(client: Pair, upstream: Pair) -> None:
    """By the descriptor, and with an ear for the upstream."""

    class Empty:
        """As an SSLSocket that has nothing at hand."""

        def pending(self) -> int:
            return 0

        def recv(self, size: int) -> bytes:
            return client[0].recv(size)

        def fileno(self) -> int:
            return client[0].fileno()

    interruption = Interruption()
    threading.Timer(0.05, client[1].sendall, [b"abc"]).start()
    assert HearingSocket(Empty(), interruption, 10).recv(10) == b"abc"  # type: ignore[arg-type]
    upstream[1].sendall(b"HTTP/1.1 413")
    with interruption.hearing(upstream[0], refuse), pytest.raises(StreamInterruptedError):
        HearingSocket(Empty(), interruption, 10).recv(10)  # type: ignore[arg-type]
