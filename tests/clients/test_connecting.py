"""Connecting takes no longer than it may, whatever the addresses do; and a limit ends with its use of a connection."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.clients.transport import NotConnectedFailure, Timeouts, Upstream, UpstreamFailure
from app.clients.upload import UploadTransport
from app.clients.watchdog import Watchdog
from tests.clients.upstreams import WATCHDOG, Chunks, LocalServer, Wire, response
from tests.support.addresses import Resolve, resolve, unanswering
from tests.support.certificates import write_certificate
from tests.support.processes import wait_until

CONNECT_SECONDS = 0.6
TIMEOUTS = Timeouts(CONNECT_SECONDS, idle_seconds=20, total_seconds=20)

__all__ = ["resolve"]  # a fixture

Ask = Callable[[str], object]


def call(url: str, ca_file: Path | None = None) -> object:
    upstream = Upstream(url, pool_size=1, watchdog=WATCHDOG, ca_file=ca_file)
    with contextlib.closing(upstream):
        return upstream.call("GET", "/x", timeouts=TIMEOUTS, headers={})


def upload(url: str, ca_file: Path | None = None) -> object:
    return UploadTransport(url, WATCHDOG, ca_file).post("/x", Chunks([b"x"]), timeouts=TIMEOUTS, headers={})


def seconds_until_not_connected(ask: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(NotConnectedFailure):
        ask()
    return time.monotonic() - started


@pytest.mark.parametrize("ask", [call, upload])
def test_all_addresses_of_a_host_share_the_time_to_connect(resolve: Resolve, ask: Ask) -> None:
    addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]
    with unanswering(*addresses) as port:
        resolve("many.example", *addresses)
        assert seconds_until_not_connected(lambda: ask(f"http://many.example:{port}")) < 3 * CONNECT_SECONDS


@pytest.mark.parametrize("ask", [call, upload])
def test_an_address_that_does_not_respond_leaves_time_for_the_next(resolve: Resolve, ask: Ask) -> None:
    def talk(wire: Wire) -> None:
        request = wire.read_head()
        wire.read_body(request)
        wire.send(response())

    server = LocalServer(talk)
    port = int(server.url.rpartition(":")[2])
    with contextlib.closing(server), unanswering("127.0.0.2", port=port):
        resolve("two.example", "127.0.0.2", "127.0.0.1")
        assert ask(f"http://two.example:{port}")


@pytest.mark.parametrize("ask", [call, upload])
def test_a_host_without_addresses_is_not_connected(resolve: Resolve, ask: Ask) -> None:
    resolve("none.example")
    assert seconds_until_not_connected(lambda: ask("http://none.example:9")) < CONNECT_SECONDS


@pytest.mark.parametrize("ask", [call, upload])
def test_a_handshake_that_drips_in_takes_no_longer_than_connecting_may(
    tmp_path: Path, ask: Callable[..., object]
) -> None:
    """No single wait for a byte reaches the timeout."""
    certificate = tmp_path / "crt.pem"
    write_certificate(certificate, tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key.pem")

    def talk(wire: Wire) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                pass
            for byte in outgoing.read():
                wire.send(bytes([byte]))
                time.sleep(0.05)
            incoming.write(wire.sock.recv(65_536))

    server = LocalServer(talk)
    with contextlib.closing(server):
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        assert seconds_until_not_connected(lambda: ask(url, certificate)) < 3 * CONNECT_SECONDS


def test_a_handshake_that_never_begins_is_a_connection_that_was_not_made() -> None:
    """Nothing was sent, also where the socket's own timeout ends the wait before the watchdog does."""
    ended = threading.Event()
    server = LocalServer(lambda _wire: ended.wait(10) and None)
    url = server.url.replace("http://", "https://")
    upstream = Upstream(url, pool_size=1, watchdog=Watchdog(monotonic=lambda: 0.0))
    with contextlib.closing(server), contextlib.closing(upstream):
        asked = seconds_until_not_connected(lambda: upstream.call("GET", "/x", timeouts=TIMEOUTS, headers={}))
        ended.set()
    assert asked < 3 * CONNECT_SECONDS


def test_a_limit_does_not_reach_a_connection_that_has_gone_back_to_the_pool() -> None:
    """The next call on this connection has its own limit, although the guard of the first one has not fired yet."""
    asked, may_answer = threading.Event(), threading.Event()

    def talk(wire: Wire) -> None:
        for turn in range(2):
            wire.read_head()
            if turn:
                asked.set()
                may_answer.wait(20)
            wire.send(response(headers={"Connection": "keep-alive"}))

    watchdog = Watchdog()
    server = LocalServer(talk)
    upstream = Upstream(server.url, pool_size=1, watchdog=watchdog)
    with contextlib.closing(server), contextlib.closing(upstream), ThreadPoolExecutor(1) as pool:
        with watchdog.limit(0.3) as guard:
            upstream.session.get(f"{server.url}/first", timeout=20)
            second = pool.submit(upstream.call, "GET", "/second", timeouts=TIMEOUTS, headers={})
            assert asked.wait(10)
            wait_until(lambda: guard.has_fired, "the first one's time is up")
        may_answer.set()
        try:
            assert second.result().status == 200
        except UpstreamFailure as failure:
            pytest.fail(f"the limit of another call ended this one: {failure}")
        assert server.connections == 1


def test_an_inner_limit_gives_way_to_the_outer_one() -> None:
    ours, theirs = socket.socketpair()
    watchdog = Watchdog()
    with ours, theirs, watchdog.limit(0.2) as outer:
        with watchdog.limit(60):
            pass
        watchdog.watch(ours)
        ours.settimeout(10)
        assert ours.recv(1) == b""
        assert outer.has_fired
