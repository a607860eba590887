"""An answer's head and body in one send. That nobody's answer changes by it: every test through a real gateway."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidResponseHeader

from app.api.models import PIECE_BYTES
from app.server import answering
from app.server.answering import OneSendResponse, send_heads_with_bodies
from tests.support.clocks import FakeMonotonic


class CountedSocket(socket.socket):
    """Counts what is sent at once."""

    sends: int

    def sendmsg(self, *arguments: Any) -> int:
        self.sends = getattr(self, "sends", 0) + 1
        return super().sendmsg(*arguments)

    def send(self, *arguments: Any) -> int:
        self.sends = getattr(self, "sends", 0) + 1
        return super().send(*arguments)


@pytest.fixture
def pair() -> Iterator[tuple[CountedSocket, socket.socket]]:
    """The server's end, as a worker's thread has it, and the client's."""
    ours, theirs = socket.socketpair()
    with CountedSocket(fileno=ours.detach()) as server, theirs:
        theirs.settimeout(10)
        yield server, theirs


def response_on(sock: socket.socket, method: str = "GET") -> OneSendResponse:
    request = SimpleNamespace(version=(1, 1), method=method, should_close=lambda: False, headers=[])
    return OneSendResponse(request, sock, Config())


def received(sock: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of what has come until the other side ended."""
    data = b""
    while piece := sock.recv(65_536):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def test_a_short_answer_is_one_send(pair: tuple[CountedSocket, socket.socket]) -> None:
    server, client = pair
    response = response_on(server)
    response.start_response("200 OK", [("Content-Length", "5"), ("X-One", "1")])
    assert response.headers_sent is False
    response.write(b"hello")
    response.close()
    assert server.sends == 1
    assert server.gettimeout() is None, "nothing had to be waited for"
    server.shutdown(socket.SHUT_WR)
    head, body = received(client)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nX-One: 1" in head
    assert body == b"hello"


@pytest.mark.parametrize(
    ("method", "status", "pieces"),
    [("HEAD", "200 OK", [b"ab"]), ("GET", "304 NOT MODIFIED", []), ("GET", "200 OK", [])],
)
def test_an_answer_without_a_body_is_its_head(
    pair: tuple[CountedSocket, socket.socket], method: str, status: str, pieces: list[bytes]
) -> None:
    server, client = pair
    response = response_on(server, method)
    response.start_response(status, [("Content-Length", str(sum(map(len, pieces))))])
    for piece in pieces:
        response.write(piece)
    response.close()
    server.shutdown(socket.SHUT_WR)
    head, body = received(client)
    assert head.startswith(f"HTTP/1.1 {status}\r\n".encode())
    assert body == b""
    assert server.sends == 1


def test_an_answer_of_unknown_length_is_chunked(pair: tuple[CountedSocket, socket.socket]) -> None:
    server, client = pair
    response = response_on(server)
    response.start_response("200 OK", [])
    for piece in (b"", b"abc", b"", b"x" * 20):
        response.write(piece)
    response.close()
    server.shutdown(socket.SHUT_WR)
    head, body = received(client)
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"3\r\nabc\r\n14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_what_the_kernel_does_not_take_at_once_follows(
    pair: tuple[CountedSocket, socket.socket], timeout: float | None
) -> None:
    """Every byte, in order, and from then on with a time-out."""
    server, client = pair
    server.settimeout(timeout)
    sent = [os.urandom(3_000_000), os.urandom(10), os.urandom(2_000_000)]
    found: list[tuple[bytes, bytes]] = []
    reader = threading.Thread(target=lambda: found.append(received(client)))
    response = response_on(server)
    response.start_response("200 OK", [("Content-Length", str(sum(map(len, sent))))])
    reader.start()
    for piece in sent:
        response.write(piece)
    response.close()
    server.shutdown(socket.SHUT_WR)
    reader.join()
    assert found[0][1] == b"".join(sent)
    assert server.gettimeout() is not None


def test_a_client_that_does_not_read_holds_nobody_for_ever(
    pair: tuple[CountedSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = pair
    monkeypatch.setattr(answering, "UNREAD_SECONDS", 0.05)
    response = response_on(server)
    response.start_response("200 OK", [("Content-Length", "5000000")])
    with pytest.raises(TimeoutError):
        response.write(b"x" * 5_000_000)


class PacedSocket:
    """A client's end with room for `room` bytes at first, and again after each wait of `seconds`."""

    def __init__(self, clock: FakeMonotonic, room: int, seconds: float) -> None:
        self._clock, self._room, self._seconds = clock, room, seconds
        self._free = room
        self.timeout: float | None = None
        self.received = 0

    def gettimeout(self) -> float | None:
        return self.timeout

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def sendmsg(self, parts: list[memoryview], *_: object) -> int:
        if not self._free:
            raise BlockingIOError
        return self._take(sum(map(len, parts)))

    def send(self, data: memoryview) -> int:
        if not self._free:
            assert self.timeout is not None
            assert self._seconds <= self.timeout, "the socket itself would raise"
            self._clock.advance(self._seconds)
            self._free = self._room
        return self._take(len(data))

    def _take(self, size: int) -> int:
        taken = min(size, self._free)
        self._free -= taken
        self.received += taken
        return taken


def send_paced(room: int, seconds: float, pieces: int) -> tuple[PacedSocket, FakeMonotonic]:
    """Send as many pieces, as large as a download's, to such a client; what it got, and how long it took."""
    clock = FakeMonotonic(0)
    client = PacedSocket(clock, room, seconds)
    response = response_on(client)  # type: ignore[arg-type]
    response.monotonic = clock
    response.start_response("200 OK", [("Content-Length", str(pieces * PIECE_BYTES))])
    try:
        for _ in range(pieces):
            response.write(bytes(PIECE_BYTES))
        response.close()
    except TimeoutError:
        pass
    return client, clock


@pytest.mark.parametrize(
    ("room", "seconds"),
    [(5_000, 1), (1_000_000, 57), (300_000, 57), (PIECE_BYTES, 30), (50_000, 10.5)],
    ids=["steady", "nginx on loopback", "nginx", "a piece at a time", "a little, rarely"],
)
def test_a_slow_but_steady_reader_gets_all_of_it(room: int, seconds: float) -> None:
    """nginx makes room for a megabyte about once a minute when its client reads 20 KB/s; the rate is what counts."""
    client, clock = send_paced(room, seconds, pieces=200)
    assert client.received > 200 * PIECE_BYTES
    assert clock.now > 600


@pytest.mark.parametrize(("room", "seconds"), [(3_000, 1), (500, 0.5), (100_000, 59)])
def test_a_reader_below_the_minimum_rate_is_given_up(room: int, seconds: float) -> None:
    """Soon, and however much it has taken at first."""
    client, clock = send_paced(room, seconds, pieces=200)
    assert client.received < 400_000
    assert clock.now <= 120


def test_a_file_follows_its_head(pair: tuple[CountedSocket, socket.socket], tmp_path: Path) -> None:
    """By the kernel, and with a time-out, for that may wait as well."""
    server, client = pair
    (tmp_path / "file").write_bytes(b"content")
    response = response_on(server)
    response.start_response("200 OK", [("Content-Length", "7")])
    with (tmp_path / "file").open("rb") as file:
        response.write_file(SimpleNamespace(filelike=file))
    response.close()
    assert server.gettimeout() == answering.UNREAD_SECONDS
    server.shutdown(socket.SHUT_WR)
    head, body = received(client)
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b"content"


def test_gunicorn_answers_so_once_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi, "Response", wsgi.Response)  # put back at the end
    assert send_heads_with_bodies()
    assert wsgi.Response is OneSendResponse


def test_gunicorns_own_answers_stay_where_its_inside_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        """A later version's."""

    monkeypatch.setattr(wsgi, "Response", Other)
    assert not send_heads_with_bodies()
    assert wsgi.Response is Other


def test_headers_keep_their_order_whatever_was_sent_before(pair: tuple[CountedSocket, socket.socket]) -> None:
    """Otherwise an answer would tell what its worker has answered to others: a job that is there, say."""
    headers = [
        ("X-A", "1"),
        ("Cache-Control", "no-store"),
        ("ETag", '"x"'),
        ("Vary", "Cookie"),
        ("Content-Length", "0"),
    ]
    for known in ([], headers[1:2], headers[3:4], headers[:4]):
        answering._RIGHT.clear()
        answering._RIGHT.update(known)
        response = response_on(pair[0])
        response.start_response("200 OK", headers)
        assert response.headers == headers
        assert response.response_length == 0


def test_a_header_that_gunicorn_refuses_is_refused_every_time(pair: tuple[CountedSocket, socket.socket]) -> None:
    for _ in range(2):
        with pytest.raises(InvalidResponseHeader):
            response_on(pair[0]).start_response("200 OK", [("Content-Type", "a\r\nX-Forged: 1")])
    assert ("Content-Type", "a\r\nX-Forged: 1") not in answering._RIGHT
