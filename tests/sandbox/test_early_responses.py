"""Responses that come while the body is still on its way, and the four ways in which they end."""

import select
import time
from collections.abc import Iterator

import pytest

from sandbox.fault_rules import EARLY_ENDINGS
from sandbox.server import Ending
from sandbox.settings import CONVERTER
from tests.sandbox.callers import Caller, Wire
from tests.support.clients import RawResponse
from tests.support.processes import wait_until

ANNOUNCED_BYTES = 64 * 1024**2
#: More than the buffers of both sockets hold, so that it goes only if somebody reads.
MUCH = b"x" * (32 * 1024**2)


@pytest.fixture
def wire(caller: Caller) -> Iterator[Wire]:
    with Wire(caller.sandbox.urls.converter) as wire:
        yield wire


def _refused(caller: Caller, wire: Wire, ending: str, *, after: int = 0) -> RawResponse:
    """Begin an upload that is refused with 418 before its body has come; the response."""
    rule = {"call": "create_job", "status": 418, "body_json": {"no": "coffee"}, "early": ending, "early_after": after}
    assert caller.fault(CONVERTER, **rule).status_code == 201
    wire.request("POST", "/api/v1/jobs", {"Content-Length": str(ANNOUNCED_BYTES)}, b"x" * after)
    response = wire.read_response()
    assert (response.status, response.body) == (418, b'{"no": "coffee"}')
    return response


def _is_reset_or_ended(wire: Wire) -> bool:
    """Has the other side ended the connection? Looked for without waiting."""
    poll = select.poll()
    poll.register(wire.socket, select.POLLRDHUP)
    return bool(poll.poll(0))


def _takes_bytes(wire: Wire) -> bool:
    """Does it go on taking bytes, well beyond what buffers hold?"""
    wire.socket.settimeout(1.0)
    try:
        wire.socket.sendall(MUCH)
    except TimeoutError:
        return False
    return True


def test_the_endings_in_rules_are_those_of_the_server() -> None:
    assert tuple(Ending) == EARLY_ENDINGS


def test_close_closes_at_once_and_resets_who_sends_on(caller: Caller, wire: Wire) -> None:
    _refused(caller, wire, "close")
    wait_until(lambda: _is_reset_or_ended(wire), "the connection has ended")
    with pytest.raises(ConnectionError):
        wire.send(MUCH)


def test_close_with_unread_bytes_still_leaves_the_response_to_be_read(caller: Caller, wire: Wire) -> None:
    caller.fault(CONVERTER, call="create_job", status=418, early="close", early_after=1000)
    wire.request("POST", "/api/v1/jobs", {"Content-Length": str(ANNOUNCED_BYTES)}, b"x" * 500_000)
    wait_until(lambda: _is_reset_or_ended(wire), "the connection has ended")
    assert wire.read_response().status == 418


def test_linger_ends_its_direction_and_reads_on_for_a_while(caller: Caller, wire: Wire) -> None:
    assert _refused(caller, wire, "linger").header("Connection") == "close"
    assert wire.rest() == b""
    wire.send(b"x" * (4 * 1024**2))
    begun = time.monotonic()
    with pytest.raises(ConnectionError):
        # It reads 16 MB at most.
        wire.send(MUCH)
    assert time.monotonic() - begun < 20


def test_read_on_takes_the_whole_body_and_then_the_next_request(caller: Caller, wire: Wire) -> None:
    assert _refused(caller, wire, "read_on").header("Connection") is None
    wire.send(MUCH).send(MUCH)
    wire.request("GET", "/", {})
    assert wire.read_response().status == 200


def test_stop_reading_takes_nothing_more_and_keeps_the_connection(caller: Caller, wire: Wire) -> None:
    assert _refused(caller, wire, "stop_reading").header("Connection") is None
    assert not _takes_bytes(wire)
    assert not _is_reset_or_ended(wire)


def test_stop_reading_ends_when_the_sender_leaves(caller: Caller) -> None:
    with Wire(caller.sandbox.urls.converter) as wire:
        _refused(caller, wire, "stop_reading")
        poll = select.poll()
        poll.register(wire.socket, select.POLLRDHUP)
        wire.finish_sending()
        assert poll.poll(2000), "the server has not noticed"


@pytest.mark.parametrize("ending", EARLY_ENDINGS)
def test_the_response_comes_when_that_many_bytes_have(caller: Caller, wire: Wire, ending: str) -> None:
    caller.fault(CONVERTER, call="create_job", status=418, early=ending, early_after=100_000)
    wire.request("POST", "/api/v1/jobs", {"Content-Length": str(ANNOUNCED_BYTES)}, b"x" * 99_999)
    assert not select.select([wire.socket], [], [], 0.2)[0], "it has answered before"
    wire.send(b"x")
    assert wire.read_response().status == 418


@pytest.mark.parametrize("ending", EARLY_ENDINGS)
def test_a_body_that_is_whole_is_an_ordinary_request(caller: Caller, wire: Wire, ending: str) -> None:
    caller.fault(CONVERTER, call="create_job", status=418, early=ending, early_after=5)
    for _ in range(2):
        wire.request("POST", "/api/v1/jobs", {"Content-Length": "5"}, b"whole")
        assert wire.read_response().status == 418
