"""An upload that does not end as announced never looks complete to the converter, and blocks no one afterwards."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.clients import Client, RawConnection, RawResponse
from tests.support.multipart_bodies import LazyBytes, Multipart, model_upload
from tests.support.processes import wait_until
from tests.support.stack import Stack

MODEL_BYTES = 3 * 1024 * 1024
IDLE_SECONDS = 2


@pytest.fixture(scope="module")
def narrow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One transfer slot in each worker, so that a slot that is not released is noticed at once."""
    environment = {"VISIONA_UPLOAD_SLOTS": "1", "VISIONA_UPLOAD_IDLE_SECONDS": str(IDLE_SECONDS)}
    with Stack(tmp_path_factory.mktemp("narrow"), environment=environment) as stack:
        yield stack


@pytest.fixture
def stack(narrow_stack: Stack) -> Stack:
    narrow_stack.reset()
    return narrow_stack


def body_of(size: int = MODEL_BYTES) -> Multipart:
    return model_upload(LazyBytes(size, seed=5))


def begin(stack: Stack, client: Client, body: Multipart, **headers: str) -> RawConnection:
    """Return a connection on which the head of an upload was sent."""
    connection = stack.connect()
    connection.send_head("POST", "/api/conversion/init", {"Cookie": client.cookie_header, **body.headers, **headers})
    return connection


def wait_until_it_flows(stack: Stack) -> None:
    """Wait until the converter has part of the model, so that the gateway is in the middle of the upload."""
    wait_until(lambda: any(len(u["parts"]) > 1 for u in stack.sandbox.uploads()), "the converter receives the upload")


def assert_nothing_was_whole(stack: Stack, client: Client, *, uploads: int = 1) -> None:
    """No request looked complete, no job exists, and the next upload works in every worker."""
    for upload in stack.sandbox.ended_uploads(uploads):
        assert not upload["complete"], upload["outcome"]
        assert not upload["final_boundary_seen"], upload["outcome"]
        assert upload["job_id"] is None
    assert client.get("/api/conversion/active").json() == {"active_job": None}

    def next_upload() -> str | None:
        # The converter knows a moment earlier than the gateway has given everything back.
        response = stack.send(client, model_upload())
        assert response.status_code in {201, 409, 503}, response.text
        return str(response.json()["job_id"]) if response.status_code == 201 else None

    stack.sandbox.complete(wait_until(next_upload, "the next upload works"))
    for connection in stack.connect_to_all_workers().values():
        with connection:
            body = model_upload()
            headers = {"Cookie": client.cookie_header, **body.headers, "Content-Length": str(len(body))}
            response = (
                connection.send_head("POST", "/api/conversion/init", headers).send(body.as_bytes()).read_response()
            )
            assert response.status == 201, response.body
            stack.sandbox.complete(response.json()["job_id"])


def finish(connection: RawConnection) -> RawResponse:
    return connection.finish_sending().read_response()


def assert_refused(response: RawResponse, status: int = 400, code: str = "invalid_request") -> None:
    assert response.status == status, response.body
    assert response.header("Content-Type") == "application/problem+json"
    assert response.json()["code"] == code


@pytest.mark.parametrize("framing", ["counted", "chunked"])
@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(RawConnection.reset, id="RST"),
        pytest.param(RawConnection.close, id="FIN both ways"),
        pytest.param(RawConnection.finish_sending, id="FIN one way"),
    ],
)
def test_client_that_goes_away_in_the_middle_leaves_nothing_whole(
    stack: Stack, alice: Client, leave: Callable[[RawConnection], object], framing: str
) -> None:
    """The request to the converter is aborted, too."""
    body = body_of()
    whole = body.as_bytes()
    length = {"Content-Length": str(len(whole))} if framing == "counted" else {"Transfer-Encoding": "chunked"}
    with begin(stack, alice, body, **length) as connection:
        first = whole[: len(whole) // 2]
        if framing == "counted":
            connection.send(first)
        else:
            connection.send_chunk(first).send(b"100000\r\nonly a few")
        wait_until_it_flows(stack)
        leave(connection)

        assert_nothing_was_whole(stack, alice)


@pytest.mark.parametrize(
    ("announced", "sent"),
    [
        *[pytest.param(0, -missing, id=f"{missing} less sent") for missing in range(1, 6)],
        *[pytest.param(extra, 0, id=f"{extra} more announced") for extra in (1, 100, 10_000_000)],
        # Bytes beyond the announced length do not belong to the message, so it has no end.
        *[pytest.param(-missing, 0, id=f"{missing} less announced") for missing in (8, 100, 50_000)],
    ],
)
def test_body_of_another_length_than_announced_is_refused(
    stack: Stack, alice: Client, announced: int, sent: int
) -> None:
    body = body_of(100_000)
    whole = body.as_bytes()
    with begin(stack, alice, body, **{"Content-Length": str(len(whole) + announced)}) as connection:
        connection.send(whole[: len(whole) + sent])
        assert_refused(finish(connection))

    assert_nothing_was_whole(stack, alice)


@pytest.mark.parametrize("framing", ["counted", "chunked"])
@pytest.mark.parametrize("closing", [b"-", b"", b"\r\n"])
def test_message_without_its_closing_boundary_is_refused(
    stack: Stack, alice: Client, framing: str, closing: bytes
) -> None:
    body = Multipart(closing=closing)
    body.fields(model_id="32769", version="0001", platform="720").file("model", b"m" * 5_000, "model.onnx")

    response = alice.post(
        "/api/conversion/init", data=body if framing == "counted" else body.chunked(), headers=body.headers
    )

    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert_nothing_was_whole(stack, alice)


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(b"", id="no last chunk"),
        pytest.param(b"0\r\n", id="no end after the last chunk"),
        pytest.param(b"zz\r\n\r\n", id="a size that is no number"),
        pytest.param(b"-1\r\n\r\n", id="a negative size"),
        pytest.param(b"5\r\nabc", id="a chunk shorter than it says"),
    ],
)
def test_chunked_body_that_is_cut_off_after_a_whole_message_is_refused(
    stack: Stack, alice: Client, ending: bytes
) -> None:
    body = body_of(100_000)
    with begin(stack, alice, body, **{"Transfer-Encoding": "chunked"}) as connection:
        connection.send_chunk(body.as_bytes()).send(ending)
        assert_refused(finish(connection))

    assert_nothing_was_whole(stack, alice)


@pytest.mark.parametrize("size", [1_000, 100_000, 1_000_000])
def test_refusal_before_the_body_was_read_says_whether_the_connection_stays_open(
    stack: Stack, alice: Client, size: int
) -> None:
    """After an early 409 the connection serves the next request, or the response has said that it closes."""
    job_id = stack.upload(alice)
    body = body_of(size)
    for _ in range(5):
        with begin(stack, alice, body, **{"Content-Length": str(len(body))}) as connection:
            response = connection.send(body.as_bytes()).read_response()
            assert (response.status, response.json()["active_job"]["job_id"]) == (409, job_id)
            if (response.header("Connection") or "keep-alive").lower() != "close":
                next_response = connection.send_head("GET", "/api/me", {"Cookie": alice.cookie_header}).read_response()
                assert next_response.status == 200
