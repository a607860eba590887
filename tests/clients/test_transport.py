"""The transport over real sockets: every way in which an upstream can misbehave, and what it takes from nowhere."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.clients.transport import (
    MAX_RESPONSE_BYTES,
    BodyCutFailure,
    NotConnectedFailure,
    NotJSONFailure,
    ResponseLostFailure,
    ServerFailure,
    Timeouts,
    UnusableResponseFailure,
    UpstreamFailure,
    UpstreamResponse,
)
from app.clients.watchdog import Guard, Watchdog
from tests.clients.upstreams import Script, Talk, Wire, refusing_url, response, serving, upstream

SOON = Timeouts(connect_seconds=5, idle_seconds=5, total_seconds=5)
SHORT = Timeouts(connect_seconds=0.3, idle_seconds=0.3, total_seconds=0.3)


def call(url: str, timeouts: Timeouts = SOON) -> UpstreamResponse:
    client = upstream(url)
    try:
        return client.call("GET", "/x", timeouts=timeouts, headers={})
    finally:
        client.close()


def failure_of(talk: Talk, timeouts: Timeouts = SOON) -> UpstreamFailure:
    with serving(talk) as server, pytest.raises(UpstreamFailure) as caught:
        call(server.url, timeouts)
    return caught.value


def saying(*pieces: bytes) -> Talk:
    def talk(wire: Wire) -> None:
        wire.read_head()
        for piece in pieces:
            wire.send(piece)

    return talk


def dripping(start: bytes, drop: bytes) -> Talk:
    """Sends something now and then forever, so that no single recv() is ever late."""

    def talk(wire: Wire) -> None:
        wire.read_head()
        wire.send(start)
        while True:
            wire.send(drop)
            time.sleep(0.02)

    return talk


def stalling(start: bytes) -> Talk:
    def talk(wire: Wire) -> None:
        wire.read_head()
        wire.send(start)
        wire.wait_for_end()

    return talk


def resetting(start: bytes) -> Talk:
    def talk(wire: Wire) -> None:
        wire.read_head()
        wire.send(start)
        time.sleep(0.05)  # so that what was sent is read before the reset throws it away
        wire.reset()

    return talk


HEADER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_refused_connection_is_one_that_was_not_made() -> None:
    with pytest.raises(NotConnectedFailure):
        call(refusing_url())


def test_an_unknown_host_is_a_connection_that_was_not_made() -> None:
    with pytest.raises(NotConnectedFailure):
        call("http://nobody.invalid")


def test_an_upstream_that_speaks_no_tls_is_a_connection_that_was_not_made() -> None:
    def talk(wire: Wire) -> None:
        wire.sock.recv(1_000)
        wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(talk) as server, pytest.raises(NotConnectedFailure):
        call(server.url.replace("http:", "https:"))


@pytest.mark.parametrize(
    ("talk", "kind"),
    [
        pytest.param(resetting(b""), ResponseLostFailure, id="reset before the header"),
        pytest.param(resetting(b"HTTP/1.1 200 OK\r\nConte"), ResponseLostFailure, id="reset within the header"),
        pytest.param(saying(b"HTTP/1.1 200 OK"), ResponseLostFailure, id="closed after the status"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\nX: y\r\n"), ResponseLostFailure, id="closed between headers"),
        pytest.param(saying(HEADER[:-2]), ResponseLostFailure, id="closed before the empty line"),
        pytest.param(resetting(HEADER), BodyCutFailure, id="reset after the header"),
        pytest.param(resetting(HEADER + b"half"), BodyCutFailure, id="reset within the body"),
        pytest.param(saying(b""), ResponseLostFailure, id="closed before the header"),
        pytest.param(saying(HEADER), BodyCutFailure, id="closed after the header"),
        pytest.param(saying(HEADER + b"x" * 99), BodyCutFailure, id="closed one byte before the end"),
        pytest.param(saying(CHUNKED + b"5\r\nhel"), BodyCutFailure, id="closed within a chunk"),
        pytest.param(saying(CHUNKED + b"5\r\nhello\r\n"), BodyCutFailure, id="closed before the last chunk"),
        pytest.param(saying(CHUNKED + b"zz\r\nhello\r\n"), BodyCutFailure, id="a chunk size that is none"),
        pytest.param(saying(b"\x16\x03\x01\x00garbage\r\n\r\n"), ResponseLostFailure, id="no HTTP at all"),
        pytest.param(saying(b"HTTP/1.1 abc\r\n\r\n"), ResponseLostFailure, id="a status that is none"),
        # http.client closes the connection itself.
        pytest.param(
            saying(b"HTTP/1.1 fine OK\r\nContent-Length: 0\r\n\r\n"), ResponseLostFailure, id="a status in words"
        ),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), ResponseLostFailure, id="a line without end"),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), ResponseLostFailure, id="200 headers"
        ),
        pytest.param(saying(response(b"no", 500)), ServerFailure, id="500"),
        pytest.param(saying(response(b"no", 999)), ServerFailure, id="999"),
    ],
)
def test_every_broken_response_has_its_kind_and_no_foreign_exception_escapes(
    talk: Talk, kind: type[UpstreamFailure]
) -> None:
    failure = failure_of(talk)
    assert type(failure) is kind
    assert not failure.is_timeout


@pytest.mark.parametrize(
    ("talk", "kind"),
    [
        pytest.param(stalling(b""), ResponseLostFailure, id="a stall before the header"),
        pytest.param(stalling(b"HTTP/1.1 2"), ResponseLostFailure, id="a stall within the header"),
        pytest.param(stalling(HEADER + b"half"), BodyCutFailure, id="a stall within the body"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x"), ResponseLostFailure, id="a header line that drips"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), ResponseLostFailure, id="header lines that drip"),
        pytest.param(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), ResponseLostFailure, id="100 Continue for ever"),
        pytest.param(dripping(HEADER, b"x"), BodyCutFailure, id="a body that drips"),
        pytest.param(dripping(CHUNKED, b"1\r\nx\r\n"), BodyCutFailure, id="chunks that drip"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), BodyCutFailure, id="a body without length that drips"),
    ],
)
def test_no_try_takes_longer_than_its_total(talk: Talk, kind: type[UpstreamFailure]) -> None:
    started = time.monotonic()
    failure = failure_of(talk, SHORT)
    assert time.monotonic() - started < 10
    assert type(failure) is kind
    assert failure.is_timeout


def test_a_response_in_time_is_read_after_others_were_late() -> None:
    """The watchdog shuts down the socket of the try whose time is up, and no other."""

    def talk(wire: Wire) -> None:
        if wire.read_head().target == "/late":
            wire.wait_for_end()
        else:
            time.sleep(0.4)
            wire.send(response(b'{"a": 1}'))

    watchdog = Watchdog()
    with serving(talk) as server:
        client = upstream(server.url, watchdog)
        together = threading.Barrier(20)

        def one(number: int) -> bool:
            together.wait()
            try:
                if number % 2:
                    client.call("GET", "/late", timeouts=SHORT, headers={})
                    return False
                return client.call("GET", "/good", timeouts=SOON, headers={}).json() == {"a": 1}
            except ResponseLostFailure as failure:
                return failure.is_timeout

        with ThreadPoolExecutor(20) as pool:
            assert all(pool.map(one, range(20)))
        client.close()


def test_a_pooled_connection_is_watched_too() -> None:
    served = []

    def talk(wire: Wire) -> None:
        while True:
            served.append(wire.read_head())
            if len(served) > 1:
                wire.wait_for_end()
            wire.send(response(b"{}", headers={"Connection": "keep-alive"}))

    with serving(talk) as server:
        client = upstream(server.url)
        assert client.call("GET", "/1", timeouts=SOON, headers={}).status == 200
        with pytest.raises(ResponseLostFailure) as caught:
            client.call("GET", "/2", timeouts=SHORT, headers={})
        client.close()
        assert caught.value.is_timeout
        assert server.connections == 1


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(saying(response()), id="good"),
        pytest.param(saying(HEADER + b"half"), id="cut"),
        pytest.param(resetting(b""), id="reset"),
        pytest.param(saying(response(b"x", 503)), id="503"),
        pytest.param(saying(response(b"x", headers={"Content-Encoding": "gzip"})), id="gzip"),
        pytest.param(stalling(HEADER), id="stall"),
    ],
)
def test_nothing_leaks_whatever_the_upstream_does(talk: Talk) -> None:
    with serving(talk) as server:
        client = upstream(server.url)
        before = open_descriptors()
        for _ in range(5):
            with contextlib.suppress(UpstreamFailure):
                client.call("GET", "/x", timeouts=SHORT, headers={})
        client.close()
        give_up = time.monotonic() + 5
        # The server's own ends of the connections close when its threads get to it.
        while open_descriptors() > before and time.monotonic() < give_up:
            time.sleep(0.01)
        assert open_descriptors() <= before


def test_fifty_megabytes_of_json_are_not_read_to_their_end() -> None:
    sent = 0

    def talk(wire: Wire) -> None:
        nonlocal sent
        wire.read_head()
        total = 50 * 1024 * 1024
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            wire.send(b"[" * 65_536)
            sent += 65_536

    assert isinstance(failure_of(talk), UnusableResponseFailure)
    assert sent < 25 * 1024 * 1024


def test_a_response_of_exactly_the_limit_is_read_and_one_byte_more_is_refused() -> None:
    with serving(saying(response(b"x" * MAX_RESPONSE_BYTES))) as server:
        assert len(call(server.url).body) == MAX_RESPONSE_BYTES
    assert isinstance(failure_of(saying(response(b"x" * (MAX_RESPONSE_BYTES + 1)))), UnusableResponseFailure)


def test_bytes_after_the_announced_length_are_not_read() -> None:
    with serving(saying(response(b"{}") + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")) as server:
        assert call(server.url).body == b"{}"


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"a": Infinity}', b"[" * 100_000, b"\xff", b"9" * 5_000])
def test_a_body_that_is_not_json_is_unusable(body: bytes) -> None:
    with pytest.raises(NotJSONFailure):
        UpstreamResponse(200, {}, body).json()


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"a"', b"true"])
def test_json_of_another_shape_is_no_object(body: bytes) -> None:
    with pytest.raises(UnusableResponseFailure, match="not a JSON object"):
        UpstreamResponse(200, {}, body).json_object()


def test_no_failure_repeats_anything_of_the_body_or_the_url() -> None:
    with serving(saying(response(b"secret-of-the-upstream", headers={"Content-Encoding": "gzip"}))) as server:
        client = upstream(server.url)
        with pytest.raises(UnusableResponseFailure) as caught:
            client.call("GET", "/x", timeouts=SOON, headers={}, query={"q": "secret-query"})
        client.close()
    assert "secret" not in str(caught.value)
    with pytest.raises(NotConnectedFailure) as refused:
        upstream(refusing_url()).call("GET", "/secret-path", timeouts=SOON, headers={})
    assert "secret" not in str(refused.value)


def test_cookies_of_an_upstream_are_not_kept() -> None:
    script = Script([response(headers={"Set-Cookie": "sid=1; Path=/"})])
    with serving(script) as server:
        client = upstream(server.url)
        for _ in range(2):
            client.call("GET", "/x", timeouts=SOON, headers={})
        client.close()
    assert "cookie" not in script.requests[1].headers


def test_redirects_are_not_followed_and_carry_nothing_elsewhere() -> None:
    elsewhere = Script([response()])
    with serving(elsewhere) as other:
        script = Script([response(b"", 307, {"Location": other.url + "/steal"})])
        with serving(script) as server:
            client = upstream(server.url)
            assert client.call("POST", "/x", timeouts=SOON, headers={"Authorization": "Bearer s"}).status == 307
            client.close()
    assert elsewhere.requests == []


def test_a_redirect_is_as_bounded_as_any_response() -> None:
    """By default, requests reads the whole body of a redirect that it does not follow."""
    script = Script([response(b"x" * (MAX_RESPONSE_BYTES + 1), 302, {"Location": "/elsewhere"})])
    with serving(script) as server, pytest.raises(UnusableResponseFailure, match="too large"):
        call(server.url)


def test_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxies and netrc of the environment must not see the gateway's tokens."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief\n")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, refusing_url())
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    script = Script([response()])
    with serving(script) as server:
        assert call(server.url).status == 200
    assert "authorization" not in script.requests[0].headers


def test_a_request_carries_our_headers_and_no_others() -> None:
    script = Script([response()])
    with serving(script) as server:
        client = upstream(server.url)
        client.call(
            "POST",
            "/oauth/token",
            timeouts=SOON,
            headers={"X-Request-ID": "r-1", "Authorization": "Basic aWQ6cGFzcw=="},
            form={"scope": "a b"},
        )
        client.close()
    (request,) = script.requests
    assert request.headers.pop("host").startswith("127.0.0.1:")
    assert request.headers == {
        "x-request-id": "r-1",
        "accept-encoding": "identity",
        "accept": "*/*",
        "user-agent": "visiona-gateway",
        "content-type": "application/x-www-form-urlencoded",
        "content-length": "9",
        "authorization": "Basic aWQ6cGFzcw==",
    }
    assert request.body == b"scope=a+b"


def test_a_connection_that_the_upstream_closed_while_it_idled_is_replaced() -> None:
    first_is_closed = threading.Event()

    def talk(wire: Wire) -> None:
        wire.read_head()
        wire.send(response(headers={"Connection": "keep-alive"}))
        wire.sock.shutdown(socket.SHUT_RDWR)
        first_is_closed.set()

    with serving(talk) as server:
        client = upstream(server.url)
        for _ in range(3):
            first_is_closed.clear()
            assert client.call("GET", "/x", timeouts=SOON, headers={}).status == 200
            assert first_is_closed.wait(5)
        client.close()


def test_a_header_that_comes_as_its_time_runs_out_is_late() -> None:
    """The watchdog has shut the connection down by then, so no body can follow."""

    class Fired:
        @contextlib.contextmanager
        def limit(self, seconds: float) -> Iterator[Guard]:
            guard = Guard(seconds)
            guard.fire()
            yield guard

    with serving(saying(response(b"late"))) as server:
        client = upstream(server.url)
        client._watchdog = Fired()  # type: ignore[assignment]
        with pytest.raises(ResponseLostFailure) as caught:
            client.open("/x", timeouts=SOON, header_seconds=5, headers={})
        client.close()
    assert caught.value.is_timeout
