"""The watchdog by itself: guards fire at their times, for their own sockets, and never after they are done."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.clients.watchdog import Guard, Watchdog


@pytest.fixture
def pair() -> "tuple[socket.socket, socket.socket]":
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


def test_a_thread_that_waits_in_recv_is_woken_at_the_limit(pair: tuple[socket.socket, socket.socket]) -> None:
    started = time.monotonic()
    with Watchdog().limit(0.1) as guard:
        guard.watch(pair[0])
        assert pair[0].recv(1) == b""
    assert 0.1 <= time.monotonic() - started < 8
    assert guard.has_fired


def test_a_socket_that_is_named_after_the_limit_is_shut_down_at_once(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    guard = Guard(0)
    guard.fire()
    guard.watch(pair[0])
    assert pair[0].recv(1) == b""


def test_a_guard_that_has_finished_never_fires(pair: tuple[socket.socket, socket.socket]) -> None:
    guard = Guard(0)
    guard.watch(pair[0])
    guard.finish()
    guard.fire()
    assert not guard.has_fired
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"


def test_only_the_last_socket_counts(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    guard = Guard(0)
    guard.watch(ours)
    guard.watch(None)
    guard.fire()
    theirs.send(b"x")
    assert ours.recv(1) == b"x"


def test_a_later_guard_does_not_delay_an_earlier_one(pair: tuple[socket.socket, socket.socket]) -> None:
    watchdog = Watchdog()
    with watchdog.limit(600), watchdog.limit(0.1) as guard:
        guard.watch(pair[0])
        assert pair[0].recv(1) == b""
        assert guard.has_fired


def test_a_thread_without_a_guard_may_name_sockets(pair: tuple[socket.socket, socket.socket]) -> None:
    Watchdog().watch(pair[0])


def test_finished_guards_do_not_pile_up() -> None:
    watchdog = Watchdog()
    for _ in range(1_000):
        with watchdog.limit(0.001):
            pass
    give_up = time.monotonic() + 5
    while watchdog._guards and time.monotonic() < give_up:
        time.sleep(0.01)
    assert watchdog._guards == []


@pytest.mark.parametrize("round_", range(3))
def test_of_forty_threads_each_gets_its_own_limit(round_: int) -> None:
    watchdog = Watchdog()
    together = threading.Barrier(40)

    def wait(number: int) -> tuple[bool, bool]:
        ours, theirs = socket.socketpair()
        is_late = bool(number % 2)
        with ours, theirs:
            together.wait()
            ours.settimeout(10)
            with watchdog.limit(0.2 if is_late else 60):
                watchdog.watch(ours)
                if not is_late:
                    theirs.sendall(b"x")
                return is_late, ours.recv(1) == b""

    with ThreadPoolExecutor(40) as pool:
        outcomes = list(pool.map(wait, range(40)))
    assert all(is_late == was_woken for is_late, was_woken in outcomes)
