"""Reading request bodies: whole or refused, never waited for without end, never a byte too many."""

from typing import Any

import pytest

from app.errors import DrainingError, GatewayError, PayloadTooLargeError, UploadTimeoutError
from app.streaming.inbound import (
    InboundLimits,
    IncompleteBodyError,
    RequestBody,
    announced_length,
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


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 8_192, b"x" * 100_000])
def test_a_whole_body_is_read_and_counted(data: bytes) -> None:
    body = RequestBody(environ(Input(data), len(data)), ROOMY)
    assert body.progress.announced_bytes == len(data)
    assert b"".join(body) == data
    assert body.progress.received_bytes == len(data)


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


def test_an_upload_that_is_not_complete_ends_with_the_server() -> None:
    """One that is complete goes on."""
    endings = iter([False, True])
    with pytest.raises(DrainingError):
        list(RequestBody(environ(Input(b"x", b"y", b"z"), 3), ROOMY, must_end=lambda: next(endings)))
    endings = iter([False, False, True])
    body = RequestBody(environ(Input(b"x", b"y"), 2), ROOMY, must_end=lambda: next(endings))
    assert b"".join(body) == b"xy"


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


def test_progress_is_counted_before_each_chunk_is_passed_on() -> None:
    body = RequestBody(environ(Input(b"aa", b"bbb"), 5), ROOMY)
    assert [(chunk, body.progress.received_bytes) for chunk in body] == [(b"aa", 2), (b"bbb", 5)]


def test_reads_are_small_where_a_read_may_block_until_it_is_full() -> None:
    source = Input(b"x" * 100_000)
    list(RequestBody(environ(source, 100_000), ROOMY))
    assert max(source.asked) == 8 * 1024


def test_an_incomplete_body_is_the_users_malformed_request() -> None:
    failure: GatewayError = IncompleteBodyError("cut")
    assert failure.code == "invalid_request"
