"""Reading request bodies: whole or refused, never waited for without end, never a byte too many."""

import io
import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import GatewayError, PayloadTooLargeError, UploadInProgressError, UploadTimeoutError
from app.streaming.inbound import (
    CHUNK_BYTES,
    LENT_FROM_BYTES,
    InboundLimits,
    IncompleteBodyError,
    RequestBody,
    announced_length,
    end_connection,
)
from tests.support.clocks import FakeMonotonic

ROOMY = InboundLimits(max_bytes=10_000_000, idle_seconds=5, min_bytes_per_second=0)


class Input:
    """Any server's `wsgi.input`: gives what it has, in pieces, and remembers how much was asked for."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.asked: list[int] = []

    def read(self, size: int) -> bytes:
        self.asked.append(size)
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]


def environ(body: Any, length: int | str | None = None, **more: Any) -> dict[str, Any]:
    announced = {"HTTP_TRANSFER_ENCODING": "chunked"} if length is None else {"CONTENT_LENGTH": str(length)}
    return {"wsgi.input": body, **announced, **more}


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = socket.socketpair()
    with client, server:
        yield client, server


def gunicorn_environ(server: socket.socket) -> dict[str, Any]:
    """What gunicorn's own parser makes of a request on this socket."""
    request = next(RequestParser(Config(), server, ("127.0.0.1", 1)))
    headers = dict(request.headers)
    found: dict[str, Any] = {"wsgi.input": request.body, "gunicorn.socket": server}
    if "CONTENT-LENGTH" in headers:
        found["CONTENT_LENGTH"] = headers["CONTENT-LENGTH"]
    if "TRANSFER-ENCODING" in headers:
        found["HTTP_TRANSFER_ENCODING"] = headers["TRANSFER-ENCODING"]
    return found


def post(body: bytes, length: int | None = None) -> bytes:
    return (
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body
    )


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


# --- any server


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 8_192, b"x" * 100_000])
def test_a_whole_body_is_read_and_counted(data: bytes) -> None:
    body = RequestBody(environ(Input(data), len(data)), ROOMY)
    assert body.announced_bytes == len(data)
    assert b"".join(body) == data
    assert body.bytes_read == len(data)


@pytest.mark.parametrize("missing", [1, 50, 100])
def test_a_body_that_ends_early_is_incomplete(missing: int) -> None:
    body = RequestBody(environ(Input(b"x" * (100 - missing)), 100), ROOMY)
    with pytest.raises(IncompleteBodyError):
        list(body)


def test_not_a_byte_beyond_the_announced_length_is_asked_for() -> None:
    source = Input(b"x" * 10, b"the next request")
    assert b"".join(RequestBody(environ(source, 10), ROOMY)) == b"x" * 10
    assert source.pieces == [b"the next request"]


def test_exactly_the_limit_is_taken_and_one_byte_more_refused_before_anything_is_read() -> None:
    limits = InboundLimits(max_bytes=100, idle_seconds=5, min_bytes_per_second=0)
    assert b"".join(RequestBody(environ(Input(b"x" * 100), 100), limits)) == b"x" * 100
    source = Input(b"x" * 101)
    with pytest.raises(PayloadTooLargeError):
        RequestBody(environ(source, 101), limits)
    assert source.asked == []


def test_a_chunked_body_is_counted_as_it_comes() -> None:
    limits = InboundLimits(max_bytes=100, idle_seconds=5, min_bytes_per_second=0)
    assert b"".join(RequestBody(environ(Input(b"x" * 60, b"x" * 40)), limits)) == b"x" * 100
    with pytest.raises(PayloadTooLargeError):
        list(RequestBody(environ(Input(b"x" * 60, b"x" * 41)), limits))


@pytest.mark.parametrize(
    ("more", "length"),
    [
        ({"CONTENT_LENGTH": "7"}, 7),
        ({"CONTENT_LENGTH": ""}, 0),
        ({}, 0),
        ({"CONTENT_LENGTH": "-5"}, 0),
        ({"CONTENT_LENGTH": "many"}, 0),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, None),
        ({"HTTP_TRANSFER_ENCODING": "Chunked", "CONTENT_LENGTH": "7"}, None),
    ],
)
def test_how_much_a_request_announces(more: dict[str, str], length: int | None) -> None:
    assert announced_length(more) == length


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), ValueError("bad chunk"), OSError("gone"), EOFError()])
def test_whatever_the_server_raises_is_an_incomplete_body_and_no_oserror(error: Exception) -> None:
    """urllib3 takes an OSError out of a body iterator for the upstream's own doing."""
    with pytest.raises(IncompleteBodyError) as caught:
        list(RequestBody(environ(Input(b"x", error), 100), ROOMY))
    assert caught.value.__cause__ is error
    assert not isinstance(caught.value, OSError)


def test_a_time_out_of_the_socket_is_a_stalled_upload() -> None:
    with pytest.raises(UploadTimeoutError) as caught:
        list(RequestBody(environ(Input(b"x", TimeoutError("timed out")), 100), ROOMY))
    assert not isinstance(caught.value, OSError)


class SlowInput:
    """Pieces of so many bytes, each of which takes so many seconds to come."""

    def __init__(self, clock: FakeMonotonic, *pieces: tuple[int, float]) -> None:
        self._clock = clock
        self._pieces = list(pieces)

    def read(self, _size: int) -> bytes:
        size, seconds = self._pieces.pop(0)
        self._clock.advance(seconds)
        return b"x" * size


def slow_body(clock: FakeMonotonic, *pieces: tuple[int, float], floor: int = 100) -> RequestBody:
    limits = InboundLimits(max_bytes=10_000_000, idle_seconds=60, min_bytes_per_second=floor)
    return RequestBody(environ(SlowInput(clock, *pieces), sum(size for size, _ in pieces)), limits, monotonic=clock)


@pytest.mark.parametrize(
    ("seconds", "is_ended"), [(9.9, False), (10.0, False), (10.2, False), (10.3, True), (60.0, True)]
)
def test_the_minimum_rate_holds_for_every_stretch_of_ten_seconds(seconds: float, is_ended: bool) -> None:
    clock = FakeMonotonic()
    body = slow_body(clock, (1_024, seconds), (1_000, 1.0))
    if is_ended:
        with pytest.raises(UploadTimeoutError):
            list(body)
    else:
        assert len(b"".join(body)) == 2_024


def test_what_came_fast_does_not_make_up_for_a_drip() -> None:
    clock = FakeMonotonic()
    chunks = iter(slow_body(clock, (1_000_000, 10.0), (1, 5.0), (1, 5.0), (1, 5.0)))
    assert len(next(chunks)) == 1_000_000
    next(chunks)
    with pytest.raises(UploadTimeoutError):
        next(chunks)


def test_time_that_the_upstream_takes_is_not_held_against_the_client() -> None:
    clock = FakeMonotonic()
    chunks = iter(slow_body(clock, (1, 0.0), (1, 0.1), (1, 0.1)))
    for _ in range(3):
        next(chunks)
        clock.advance(100)
    assert list(chunks) == []


def test_a_minimum_rate_of_zero_is_none() -> None:
    clock = FakeMonotonic()
    assert len(b"".join(slow_body(clock, (1, 0.0), (1, 100_000.0), floor=0))) == 2


def test_progress_is_told_after_every_read_and_may_end_the_reading() -> None:
    told: list[int] = []
    assert list(RequestBody(environ(Input(b"aa", b"bbb"), 5), ROOMY, on_progress=told.append)) == [b"aa", b"bbb"]
    assert told == [2, 5]

    def refuse(_: int) -> None:
        raise UploadInProgressError("the lease was lost")

    with pytest.raises(UploadInProgressError):
        list(RequestBody(environ(Input(b"aa"), 2), ROOMY, on_progress=refuse))


def test_the_idle_time_is_set_where_the_server_shows_its_socket() -> None:
    class Socket:
        timeout: float | None = None

        def settimeout(self, seconds: float) -> None:
            self.timeout = seconds

    shown = Socket()
    list(RequestBody(environ(Input(b"x"), 1, **{"gunicorn.socket": shown}), ROOMY))
    assert shown.timeout == 5


def test_reads_are_small_where_a_read_may_block_until_it_is_full() -> None:
    source = Input(b"x" * 100_000)
    list(RequestBody(environ(source, 100_000), ROOMY))
    assert max(source.asked) == 8 * 1024


# --- gunicorn's own classes


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=5_000),
    cuts=st.lists(st.integers(0, 5_000), max_size=4),
    is_chunked=st.booleans(),
    lends_buffer=st.booleans(),
)
def test_gunicorns_bodies_are_read_whole_however_they_arrive(
    data: bytes, cuts: list[int], is_chunked: bool, lends_buffer: bool
) -> None:
    client, server = socket.socketpair()
    with client, server:
        message = chunked(*([data] if data else [])) if is_chunked else post(data)
        edges = sorted({0, *(cut for cut in cuts if cut < len(message)), len(message)})

        def send() -> None:
            for start, end in itertools.pairwise(edges):
                client.sendall(message[start:end])

        sender = threading.Thread(target=send)
        sender.start()
        body = RequestBody(gunicorn_environ(server), ROOMY, lends_buffer=lends_buffer)
        assert b"".join(bytes(chunk) for chunk in body) == data
        assert body.bytes_read == len(data)
        sender.join()


def test_gunicorns_length_reader_is_read_past_its_buffering(wire: tuple[socket.socket, socket.socket]) -> None:
    """Each arrival counts as progress: nothing waits until a whole chunk is there."""
    client, server = wire
    client.sendall(post(b"", 10) + b"abc")
    chunks = iter(RequestBody(gunicorn_environ(server), ROOMY))
    assert next(chunks) == b"abc"
    client.sendall(b"defghij")
    assert next(chunks) == b"defghij"
    assert list(chunks) == []


def test_large_chunks_are_lent_and_small_ones_given(wire: tuple[socket.socket, socket.socket]) -> None:
    """A view is of the one buffer, so it shows the next chunk when that has come; bytes stay what they were."""
    client, server = wire
    data = bytes(range(256)) * 8_000
    sender = threading.Thread(target=lambda: client.sendall(post(data)))
    sender.start()
    chunks = list(RequestBody(gunicorn_environ(server), ROOMY, lends_buffer=True))
    sender.join()
    assert sum(len(chunk) for chunk in chunks) == len(data)
    views = [chunk for chunk in chunks if isinstance(chunk, memoryview)]
    assert views
    assert len({id(view.obj) for view in views}) == 1
    assert all(len(view) >= LENT_FROM_BYTES for view in views)
    assert all(len(chunk) < LENT_FROM_BYTES for chunk in chunks if isinstance(chunk, bytes))


def test_the_server_goes_on_after_a_lent_body_as_after_any_other(wire: tuple[socket.socket, socket.socket]) -> None:
    client, server = wire
    data = b"x" * 400_000
    sender = threading.Thread(target=lambda: client.sendall(post(data) + post(b"second")))
    sender.start()
    parser = RequestParser(Config(), server, ("127.0.0.1", 1))
    read = []
    for _ in range(2):
        request = next(parser)
        found = {"wsgi.input": request.body, "CONTENT_LENGTH": dict(request.headers)["CONTENT-LENGTH"]}
        read.append(b"".join(bytes(chunk) for chunk in RequestBody(found, ROOMY, lends_buffer=True)))
    sender.join()
    assert read == [data, b"second"]


def test_a_pipelined_request_is_left_for_its_own_turn(wire: tuple[socket.socket, socket.socket]) -> None:
    client, server = wire
    client.sendall(post(b"first") + post(b"second!"))
    parser = RequestParser(Config(), server, ("127.0.0.1", 1))
    read = []
    for _ in range(2):
        request = next(parser)
        length = dict(request.headers)["CONTENT-LENGTH"]
        read.append(b"".join(RequestBody({"wsgi.input": request.body, "CONTENT_LENGTH": length}, ROOMY)))
    assert read == [b"first", b"second!"]


def test_gunicorn_knows_that_the_body_was_read(wire: tuple[socket.socket, socket.socket]) -> None:
    client, server = wire
    client.sendall(post(b"x" * 1_000))
    found = gunicorn_environ(server)
    list(RequestBody(found, ROOMY))
    assert found["wsgi.input"].reader.length == 0
    assert found["wsgi.input"].read(10) == b""


@pytest.mark.parametrize("sent", [b"", b"x" * 99])
def test_a_client_that_goes_away_leaves_an_incomplete_body(
    sent: bytes, wire: tuple[socket.socket, socket.socket]
) -> None:
    client, server = wire
    client.sendall(post(sent, 100))
    client.close()
    with pytest.raises(IncompleteBodyError):
        list(RequestBody(gunicorn_environ(server), ROOMY))


@pytest.mark.parametrize(
    "message",
    [
        chunked(b"hello", end=b""),
        chunked(b"hello", end=b"0\r\n"),
        chunked(b"hello", end=b"5\r\nhe"),
        chunked(b"hello", end=b"zz\r\nhello\r\n0\r\n\r\n"),
        chunked(b"hello", end=b"5\r\nhelloXX0\r\n\r\n"),
        chunked(b"hello", end=b"-5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["no end", "half an end", "half a chunk", "no number", "no line end", "a negative size"],
)
def test_chunks_that_are_cut_off_or_malformed_make_an_incomplete_body(
    message: bytes, wire: tuple[socket.socket, socket.socket]
) -> None:
    client, server = wire
    client.sendall(message)
    client.close()
    with pytest.raises(IncompleteBodyError):
        list(RequestBody(gunicorn_environ(server), ROOMY))


@pytest.mark.parametrize("message", [post(b"abc", 10), chunked(b"abc", end=b"")])
def test_a_client_that_stalls_is_given_up_after_the_idle_time(
    message: bytes, wire: tuple[socket.socket, socket.socket]
) -> None:
    client, server = wire
    client.sendall(message)
    limits = InboundLimits(max_bytes=100, idle_seconds=0.1, min_bytes_per_second=0)
    with pytest.raises(UploadTimeoutError):
        list(RequestBody(gunicorn_environ(server), limits))


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(wire: tuple[socket.socket, socket.socket]) -> None:
    client, server = wire
    client.sendall(chunked(b"x" * 60, b"x" * 60))
    limits = InboundLimits(max_bytes=100, idle_seconds=5, min_bytes_per_second=0)
    with pytest.raises(PayloadTooLargeError):
        list(RequestBody(gunicorn_environ(server), limits))


def test_a_body_that_somebody_has_begun_to_read_is_read_on_the_ordinary_way(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    client, server = wire
    client.sendall(post(b"abcdef"))
    found = gunicorn_environ(server)
    assert found["wsgi.input"].readline(2) == b"ab"
    found["CONTENT_LENGTH"] = "4"
    assert b"".join(RequestBody(found, ROOMY)) == b"cdef"


@pytest.mark.parametrize("lacking", ["reader", "unreader", "buf", "length", "nothing but read_ahead"])
def test_another_version_of_gunicorn_is_read_on_the_ordinary_way(lacking: str) -> None:
    class Anything:
        pass

    body = Anything()
    body.read = io.BytesIO(b"abc").read  # type: ignore[attr-defined]
    body.buf = io.BytesIO()  # type: ignore[attr-defined]
    body.reader = Anything()  # type: ignore[attr-defined]
    body.reader.length = 3  # type: ignore[attr-defined]
    body.reader.unreader = Anything()  # type: ignore[attr-defined]
    body.reader.unreader.read = lambda size: b""  # type: ignore[attr-defined]
    for holder in (body, body.reader):  # type: ignore[attr-defined]
        if hasattr(holder, lacking):
            delattr(holder, lacking)
    assert b"".join(RequestBody(environ(body, 3), ROOMY)) == b"abc"


def test_a_chunk_is_never_larger_than_announced(wire: tuple[socket.socket, socket.socket]) -> None:
    client, server = wire
    data = b"x" * 3_000_000
    sender = threading.Thread(target=lambda: client.sendall(post(data)))
    sender.start()
    sizes = [len(chunk) for chunk in RequestBody(gunicorn_environ(server), ROOMY)]
    sender.join()
    assert sum(sizes) == len(data)
    assert max(sizes) <= CHUNK_BYTES + 8_192


def test_ending_the_connection_needs_our_own_worker_and_harms_nobody_without() -> None:
    asked = []
    body = io.BytesIO()
    end_connection({"wsgi.input": body})
    end_connection({})

    class Hung:
        def close_connection(self) -> None:
            asked.append("close")

    end_connection({"wsgi.input": Hung()})
    assert asked == ["close"]


def test_an_incomplete_body_is_the_users_malformed_request() -> None:
    failure: GatewayError = IncompleteBodyError("cut")
    assert failure.code == "invalid_request"
