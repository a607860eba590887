"""The connection of an upload: it hears an upstream that speaks before it is done, over TCP and over TLS."""

import contextlib
import fcntl
import hashlib
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from app.clients.transport import NotConnectedFailure, ResponseLostFailure, Timeouts, UpstreamResponse
from app.clients.upload import UploadTransport, _Sender, _TLSSender
from app.errors import UploadEndedError
from app.streaming.ending import Ending
from tests.clients.upstreams import WATCHDOG, Chunks, LocalServer, Request, Talk, Wire, response
from tests.support.certificates import write_certificate

IDLE_SECONDS = 20.0
BLOCK = bytes(range(256)) * 1024  # 256 KiB, and more than one send under TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder / "crt.pem", folder / "key.pem")
    return folder / "crt.pem"


class Far:
    """An upstream that does as told, and the transport that uploads to it."""

    def __init__(self, talk: Talk, certificate: Path | None) -> None:
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        self.server = LocalServer(talk, context)
        self.transport = UploadTransport(self.server.url, WATCHDOG, certificate)

    def post(
        self, chunks: Iterator[bytes], idle_seconds: float = IDLE_SECONDS, ending: Ending | None = None
    ) -> UpstreamResponse:
        body = Chunks(chunks)
        body.progress.ending = ending
        return self.transport.post("/jobs", body, timeouts=Timeouts(5, idle_seconds, None), headers={})


Reach = Callable[[Talk], Far]


@pytest.fixture(params=["tcp", "tls"])
def reach(request: pytest.FixtureRequest, certificate: Path) -> Iterator[Reach]:
    made: list[Far] = []

    def reach(talk: Talk) -> Far:
        made.append(Far(talk, certificate if request.param == "tls" else None))
        return made[-1]

    yield reach
    for far in made:
        far.server.close()


def endless() -> Iterator[bytes]:
    """More than any buffers on the way take."""
    for _ in range(2_000):
        yield BLOCK
    pytest.fail("nobody has stopped the sending")


def test_every_byte_arrives_in_order(reach: Reach) -> None:
    sizes = [1, 70_000, 0, 3 << 20, 16_384, 2, 1 << 19]
    chunks = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    arrived: list[Request] = []

    def talk(wire: Wire) -> None:
        request = wire.read_head()
        wire.read_body(request)
        arrived.append(request)
        wire.send(response(b"{}", 201))

    assert reach(talk).post(iter(chunks)).status == 201
    assert arrived[0].is_whole
    assert hashlib.sha256(arrived[0].body).digest() == hashlib.sha256(b"".join(chunks)).digest()


def stop_reading(wire: Wire, until: threading.Event) -> None:
    until.wait(30)


def keep_reading(wire: Wire, until: threading.Event) -> None:
    wire.wait_for_end()


def close(wire: Wire, until: threading.Event) -> None:
    wire.sock.close()


@pytest.mark.parametrize("then", [stop_reading, keep_reading, close])
def test_an_early_response_is_heard_at_once_whatever_the_upstream_does_then(
    reach: Reach, then: Callable[[Wire, threading.Event], None]
) -> None:
    heard = threading.Event()
    # What has not left an upstream that closes with our bytes unread never will.
    body = b"x" * (500 if then is close else 50_000)

    def talk(wire: Wire) -> None:
        wire.read_head()
        wire.send(response(body, 422))
        then(wire, heard)

    far = reach(talk)
    started = time.monotonic()
    reply = far.post(endless())
    heard.set()
    assert (reply.status, reply.body) == (422, body)
    assert time.monotonic() - started < IDLE_SECONDS / 2


def wait_until_full(sock: socket.socket) -> None:
    """Wait until nothing more arrives in the buffer of a socket that is not read."""
    before, now = -1, 0
    while not now or now != before:
        time.sleep(0.05)
        before, now = now, struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]


def test_a_response_that_comes_while_the_upstream_takes_nothing_is_heard_at_once(reach: Reach) -> None:
    """The sender waits for space in the buffer, and must not wait for the idle timeout."""
    heard = threading.Event()

    def talk(wire: Wire) -> None:
        wire.read_head()
        wait_until_full(wire.sock)
        wire.send(response(b"{}", 409))
        heard.wait(30)

    far = reach(talk)
    started = time.monotonic()
    assert far.post(endless()).status == 409
    heard.set()
    assert time.monotonic() - started < IDLE_SECONDS / 2


def test_a_request_to_end_the_upload_is_heard_while_the_upstream_takes_nothing(reach: Reach) -> None:
    """The upstream gets no last chunk."""
    received = bytearray()
    ended, gone = threading.Event(), threading.Event()

    def talk(wire: Wire) -> None:
        wire.read_head()
        wait_until_full(wire.sock)
        ending.request()
        ended.wait(30)
        with contextlib.suppress(ssl.SSLError):
            while data := wire.sock.recv(1 << 20):
                received.extend(data)
        gone.set()

    with Ending() as ending, pytest.raises(UploadEndedError):
        reach(talk).post(endless(), ending=ending)
    ended.set()
    assert gone.wait(30)
    assert not received.endswith(b"0\r\n\r\n")


def test_an_upstream_that_takes_nothing_is_given_up_after_the_idle_time(reach: Reach) -> None:
    heard = threading.Event()

    def talk(wire: Wire) -> None:
        wire.read_head()
        heard.wait(30)

    with pytest.raises(ResponseLostFailure) as failure:
        reach(talk).post(endless(), idle_seconds=0.5)
    heard.set()
    assert failure.value.is_timeout


def test_an_upstream_that_closes_without_a_word_has_lost_the_response(reach: Reach) -> None:
    def talk(wire: Wire) -> None:
        wire.read_head()

    with pytest.raises(ResponseLostFailure) as failure:
        reach(talk).post(endless())
    assert not isinstance(failure.value, NotConnectedFailure)


def test_a_reset_in_the_middle_has_lost_the_response(reach: Reach) -> None:
    def talk(wire: Wire) -> None:
        wire.read_head()
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with pytest.raises(ResponseLostFailure):
        reach(talk).post(endless())


def test_what_the_body_raises_comes_out_and_leaves_the_message_without_its_end(reach: Reach) -> None:
    arrived: list[Request] = []
    ended = threading.Event()

    def talk(wire: Wire) -> None:
        request = wire.read_head()
        wire.read_body(request)
        arrived.append(request)
        ended.set()

    def broken() -> Iterator[bytes]:
        yield BLOCK
        raise ValueError("the client went away")

    with pytest.raises(ValueError, match="went away"):
        reach(talk).post(broken())
    assert ended.wait(10)
    assert not arrived[0].is_whole


def test_a_certificate_that_nobody_vouches_for_is_refused_before_a_byte_is_sent(certificate: Path) -> None:
    far = Far(lambda wire: None, certificate)
    stranger = UploadTransport(far.server.url, WATCHDOG)
    taken: list[bytes] = []

    def chunks() -> Iterator[bytes]:
        taken.append(BLOCK)
        yield BLOCK

    try:
        with pytest.raises(NotConnectedFailure):
            stranger.post("/jobs", Chunks(chunks()), timeouts=Timeouts(5, 5, None), headers={})
    finally:
        far.server.close()
    assert taken == []


class Reluctant:
    """A socket that says it takes bytes, and then takes none, or a few."""

    def __init__(self, takes: list[int | Exception]) -> None:
        self.takes = takes
        self.taken = b""
        self._pair = socket.socketpair()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._pair:
            end.close()

    def fileno(self) -> int:
        return self._pair[0].fileno()

    def _take(self, parts: list[bytes | memoryview]) -> int:
        data = b"".join(parts)
        size = self.takes.pop(0) if self.takes else len(data)
        if isinstance(size, Exception):
            raise size
        self.taken += data[:size]
        return min(size, len(data))

    def sendmsg(self, parts: list[bytes | memoryview]) -> int:
        return self._take(parts)

    def send(self, data: memoryview) -> int:
        return self._take([data])

    def recv(self, size: int) -> bytes:
        raise ssl.SSLWantReadError


def test_a_chunk_goes_out_whole_however_little_is_taken_at_a_time() -> None:
    """Its frame may be split anywhere, and the buffer may fill up between the check and the send."""
    for first in (1, 2, 3, 4, 5, 10, 12, 13):
        with Reluctant([first, BlockingIOError(), 1, 1]) as sock:
            _Sender(sock, 5).send(b"0123456789")  # type: ignore[arg-type]
        assert sock.taken == b"a\r\n0123456789\r\n"


def test_tls_may_have_to_read_or_to_wait_before_it_sends() -> None:
    with Reluctant([ssl.SSLWantWriteError(), 4, ssl.SSLWantReadError(), 1]) as sock:
        _TLSSender(sock, 5).send(b"0123456789")  # type: ignore[arg-type]
    assert sock.taken == b"a\r\n0123456789\r\n"


def test_tls_that_breaks_without_a_word_of_the_upstream_is_told_as_it_is() -> None:
    with Reluctant([ssl.SSLError("broken")]) as sock, pytest.raises(ssl.SSLError, match="broken"):
        _TLSSender(sock, 5).send(b"x")  # type: ignore[arg-type]


def test_tls_that_breaks_after_bytes_are_gone_is_no_connection_that_was_not_made(certificate: Path) -> None:
    """A retry could start a second job."""

    def breaking() -> Iterator[bytes]:
        yield BLOCK
        raise ssl.SSLError("broken")

    far = Far(lambda wire: wire.wait_for_end(), certificate)
    try:
        with pytest.raises(ResponseLostFailure):
            far.post(breaking())
    finally:
        far.server.close()
