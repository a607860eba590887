"""Sending an upload over real sockets: what reaches the converter, what it answers, and what is never sent twice."""

import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from app.clients.converter import ConverterConflictError
from app.errors import (
    ConverterBusyError,
    ConverterRejectedError,
    ConverterUnavailableError,
    GatewayError,
    InvalidRequestError,
    PayloadTooLargeError,
    ServiceClientUnauthorizedError,
    UploadOutcomeUnknownError,
    UploadTimeoutError,
)
from app.streaming.inbound import IncompleteBodyError
from tests.clients.upstreams import JOB, Clients, Request, Script, Wire, clients_of, message, refusing_url, response
from tests.support.fakes import call_context

START = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'
END = b"\r\n--b--\r\n"


def endless(until: threading.Event) -> Iterator[bytes]:
    """A body that goes on until the test says that it has seen enough."""
    yield START
    while not until.is_set():
        yield b"x" * 65_536
    yield END


def test_a_whole_message_arrives_chunked_on_a_connection_of_its_own() -> None:
    script = Script([response(JOB, 201)])
    with clients_of(script) as (clients, server):
        for _ in range(2):
            assert clients.converter.create_job(message(b"x" * 1_000_000), call_context()).job_id == "job-1"
        assert server.connections == 2
    request = script.requests[0]
    assert request.is_whole
    assert request.headers["transfer-encoding"] == "chunked"
    assert request.headers["connection"] == "close"
    assert request.headers["authorization"] == "Bearer token-1"
    assert "content-length" not in request.headers
    assert request.body.index(b'name="user_id"') < request.body.index(b'name="model"')
    assert b"x" * 1_000_000 in request.body


@pytest.mark.parametrize("url", ["http://converter.invalid", None], ids=["unknown host", "refused"])
def test_a_connection_that_cannot_be_made_is_tried_three_times_and_the_body_is_not_begun(url: str | None) -> None:
    clients = Clients(url or refusing_url())
    taken = []

    def source() -> Iterator[bytes]:
        taken.append("a chunk")
        yield START + END

    with pytest.raises(ConverterUnavailableError, match="not_connected"):
        clients.converter.create_job(message(source=source()), call_context())
    clients.close()
    assert clients.sleep.waits == [1.0, 2.0]
    assert taken == []


def test_a_converter_that_comes_up_between_two_tries_gets_the_whole_body_once() -> None:
    script = Script([response(JOB, 201)])
    with clients_of(script) as (clients, server):
        transport = clients.uploads
        alive, transport._base_url = transport._base_url, refusing_url()

        def come_up(seconds: float) -> None:
            transport._base_url = alive

        clients.retrier._sleep = come_up
        assert clients.converter.create_job(message(), call_context()).job_id == "job-1"
        assert server.connections == 1
    assert script.requests[0].is_whole


def reading(size: int, then: Callable[[Wire], None]) -> Callable[[Wire], None]:
    def talk(wire: Wire) -> None:
        wire.read_head()
        wire.read_exactly(size)
        then(wire)

    return talk


def wait(wire: Wire) -> None:
    while wire.sock.recv(65_536):
        pass


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(Wire.reset, id="a reset"),
        pytest.param(lambda wire: None, id="an end"),
        pytest.param(lambda wire: wire.send(b"HTTP/1.1 2"), id="half a status"),
        pytest.param(lambda wire: wire.send(b"HTTP/1.1 201 Created\r\nContent-Le"), id="half a header"),
        pytest.param(lambda wire: wire.send(response(JOB, 201)[:-5]), id="half a body"),
    ],
)
@pytest.mark.parametrize("size", [1, 70_000])
def test_after_a_byte_was_sent_nothing_is_tried_again(size: int, then: Callable[[Wire], None]) -> None:
    done = threading.Event()

    def talk(wire: Wire) -> None:
        try:
            reading(size, then)(wire)
        finally:
            wire.sock.close()
            done.set()

    with clients_of(talk) as (clients, server):
        with pytest.raises(ConverterUnavailableError):
            clients.converter.create_job(message(source=endless(done)), call_context())
        assert server.connections == 1
        assert clients.sleep.waits == []


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="no response"),
        pytest.param(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nhalf", id="half a response"),
        pytest.param(response(b"<html>", 201), id="not JSON"),
        pytest.param(response(b"[]", 201), id="a list"),
        pytest.param(response(b'{"job_id": "../../etc"}', 201), id="an id that is none"),
        pytest.param(response(b"", 204), id="no content"),
        pytest.param(response(JOB, 201, {"Content-Encoding": "gzip"}), id="gzip"),
        pytest.param(response(b" " * 2_000_000, 201), id="too large"),
    ],
)
def test_a_lost_or_unusable_response_to_a_whole_body_leaves_the_outcome_unknown(reply: bytes) -> None:
    with clients_of(Script([reply])) as (clients, server):
        with pytest.raises(UploadOutcomeUnknownError):
            clients.converter.create_job(message(), call_context())
        assert server.connections == 1


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 201 Created\r\nX: ", b"HTTP/1.1 201 Created\r\n\r\n"])
def test_a_response_that_never_ends_is_given_up_after_the_idle_time(drip: bytes) -> None:
    def talk(wire: Wire) -> None:
        wire.read_body(wire.read_head())
        wire.send(drip)
        while drip:
            wire.send(b"x")
            time.sleep(0.02)
        wait(wire)

    started = time.monotonic()
    with clients_of(talk, seconds=0.3) as (clients, _):
        with pytest.raises(UploadOutcomeUnknownError):
            clients.converter.create_job(message(), call_context())
        assert time.monotonic() - started < 10


def test_a_converter_that_stops_reading_is_given_up_after_the_idle_time() -> None:
    stop = threading.Event()

    def talk(wire: Wire) -> None:
        wire.read_head()
        stop.wait(10)

    with clients_of(talk, seconds=0.3) as (clients, server):
        with pytest.raises(ConverterUnavailableError):
            clients.converter.create_job(message(source=endless(stop)), call_context())
        stop.set()
        assert server.connections == 1


EARLY = [
    (400, b'{"error": {"code": "bad_model", "message": "no"}}', ConverterRejectedError),
    (401, b"", ServiceClientUnauthorizedError),
    (403, b"", ServiceClientUnauthorizedError),
    (404, b"", ConverterUnavailableError),
    (409, b'{"active_job": {"job_id": "job-2"}}', ConverterConflictError),
    (413, b"", PayloadTooLargeError),
    (422, b"{}", ConverterRejectedError),
    (429, b"", ConverterBusyError),
    (302, b"", ConverterUnavailableError),
    (500, b"", ConverterUnavailableError),
    (503, b"", ConverterUnavailableError),
]


@pytest.mark.parametrize(("status", "body", "failure"), EARLY)
def test_an_early_response_is_heard_and_ends_the_sending(status: int, body: bytes, failure: type[GatewayError]) -> None:
    """The converter responds after the head, while the client's body has no end."""

    def talk(wire: Wire) -> None:
        wire.read_head()
        wire.send(response(body, status))
        wait(wire)

    never = threading.Event()
    with clients_of(talk) as (clients, server):
        upload = message(source=endless(never))
        with pytest.raises(failure):
            clients.converter.create_job(upload, call_context())
        assert not upload.progress.is_whole
        assert server.connections == 1
        assert clients.sleep.waits == []


@pytest.mark.parametrize(("status", "body", "failure"), EARLY)
def test_the_same_response_after_the_whole_body_is_the_same_failure(
    status: int, body: bytes, failure: type[GatewayError]
) -> None:
    """Unless the response leaves open whether there is a job: then the outcome is unknown."""
    expected = UploadOutcomeUnknownError if failure is ConverterUnavailableError else failure
    with clients_of(Script([response(body, status)])) as (clients, _), pytest.raises(expected):
        clients.converter.create_job(message(), call_context())


@pytest.mark.parametrize(
    "failure",
    [
        IncompleteBodyError("the client went away"),
        UploadTimeoutError("stalled"),
        PayloadTooLargeError("at most 1 byte"),
        InvalidRequestError("malformed"),
    ],
)
def test_a_body_that_fails_on_its_way_in_is_never_whole_for_the_converter(failure: GatewayError) -> None:
    seen: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def talk(wire: Wire) -> None:
        request = wire.read_head()
        wire.read_body(request)
        seen.put(request)

    def source() -> Iterator[bytes]:
        yield START
        yield b"x" * 300_000
        raise failure

    with clients_of(talk) as (clients, server):
        with pytest.raises(type(failure)) as caught:
            clients.converter.create_job(message(source=source()), call_context())
        assert caught.value is failure
        request = seen.get(timeout=10)
        assert server.connections == 1
    assert not request.is_whole, "neither the last chunk nor the closing boundary may have come"
    assert b"--\r\n" not in request.body[-10:]
    assert clients.sleep.waits == []


def test_a_message_without_its_end_is_never_whole_for_the_converter() -> None:
    seen: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def talk(wire: Wire) -> None:
        request = wire.read_head()
        wire.read_body(request)
        seen.put(request)

    with clients_of(talk) as (clients, _):
        with pytest.raises(InvalidRequestError):
            clients.converter.create_job(message(source=iter([START, b"data"])), call_context())
        assert not seen.get(timeout=10).is_whole


def test_a_refused_token_is_dropped_and_the_body_not_sent_again() -> None:
    with clients_of(Script([response(b"", 401)])) as (clients, server):
        with pytest.raises(ServiceClientUnauthorizedError):
            clients.converter.create_job(message(), call_context())
        assert server.connections == 1
        with pytest.raises(ServiceClientUnauthorizedError):
            clients.converter.create_job(message(), call_context())
        assert clients.token_source.scopes == ["converter:job.write"] * 2
