"""A client or upstream that stalls is disconnected, and its slot, lease and thread are free at once.

The gateway has one worker here with one slot for uploads, so that a slot that is not released is noticed.
"""

import hashlib
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import requests

from tests.support.clients import Client, RawConnection
from tests.support.counts import Counts
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.processes import wait_until
from tests.support.sandbox_processes import CONVERTER, FILE_ACCESS
from tests.support.scaled_stack import ScaledStack

pytestmark = pytest.mark.timeout(90)

ENVIRONMENT = {
    "VISIONA_UPLOAD_SLOTS": "1",
    "VISIONA_UPLOAD_IDLE_SECONDS": "1.5",
    "VISIONA_UPLOAD_MIN_BYTES_PER_SECOND": "1000",
    "SCALED_TRY_SECONDS": "1.5",
    "SCALED_STALL_SECONDS": "2",
}
#: More than the kernel takes of an upload for a converter that reads nothing, or of a download for nobody.
MUCH = 40 * 1024 * 1024
BEGUN = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n'


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    directory = tmp_path_factory.mktemp("ends")
    with ScaledStack(directory, environment=ENVIRONMENT, workers=1, nginx={}) as stack:
        yield stack


@pytest.fixture
def stack(module_stack: ScaledStack) -> ScaledStack:
    module_stack.reset()
    return module_stack


@pytest.fixture(params=["direct", "nginx"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connect(stack: ScaledStack, way: str) -> RawConnection:
    return RawConnection(stack.direct_url if way == "direct" else stack.url)


def host(stack: ScaledStack) -> dict[str, str]:
    return {"Host": stack.url.partition("//")[2]}


def begin_upload(stack: ScaledStack, way: str, client: Client, length: int | None) -> RawConnection:
    """Send the head of an upload, chunked if it has no length."""
    connection = connect(stack, way)
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    headers = {**host(stack), "Cookie": client.cookie_header, "Content-Type": "multipart/form-data; boundary=b"}
    return connection.send_head("POST", "/api/conversion/init", {**headers, **framing})


def in_flight(stack: ScaledStack, **labels: str) -> float:
    """Return the number of transfers that hold a slot."""
    text = requests.get(f"{stack.direct_url}/metrics", timeout=10).text
    return Counts.of(text).sum("visiona_transfers_in_flight", **labels)


def assert_all_is_free(stack: ScaledStack, client: Client) -> None:
    """No transfer holds a slot, and the same user's next upload goes through, in the only slot."""
    wait_until(lambda: in_flight(stack) == 0, "every slot is free", seconds=10)
    job_id = wait_until(lambda: next_upload(stack, client), "the next upload goes through", seconds=10)
    stack.sandbox.complete(job_id)


def next_upload(stack: ScaledStack, client: Client) -> str | None:
    response = stack.send(client, model_upload())
    assert response.status_code in {201, 409, 503}, response.text
    return str(response.json()["job_id"]) if response.status_code == 201 else None


def test_upload_that_stalls_ends_with_upload_timeout(stack: ScaledStack, way: str) -> None:
    client = stack.person("stalls")
    with begin_upload(stack, way, client, 1_000_000) as connection:
        connection.send(BEGUN + b"x" * 3_000)
        response = connection.read_response("POST")
        assert (response.status, response.json()["code"]) == (408, "upload_timeout")
        assert_all_is_free(stack, client)


def test_upload_that_drips_ends_with_upload_timeout(stack: ScaledStack, way: str) -> None:
    """Never idle for long, and far below the minimum rate."""
    client = stack.person("drips")
    with begin_upload(stack, way, client, 1_000_000) as connection:
        connection.send(BEGUN)
        verify_that_it_ends(connection, lambda: connection.send(b"x"))
        assert_all_is_free(stack, client)


def test_chunked_upload_that_drips_ends_with_upload_timeout(stack: ScaledStack) -> None:
    """A chunk now and then never exceeds the time limit of a read, so the minimum rate must end the upload."""
    client = stack.person("drips chunks")
    with begin_upload(stack, "direct", client, None) as connection:
        connection.send_chunk(BEGUN)
        verify_that_it_ends(connection, lambda: connection.send_chunk(b"x"))
        assert_all_is_free(stack, client)


def verify_that_it_ends(connection: RawConnection, drip: Callable[[], object]) -> None:
    ends_at = time.monotonic() + 30
    while not select.select([connection.socket], [], [], 0.2)[0] and time.monotonic() < ends_at:
        drip()
    response = connection.read_response("POST")
    assert (response.status, response.json()["code"]) == (408, "upload_timeout")


def test_small_body_that_never_arrives_times_out(stack: ScaledStack) -> None:
    client = stack.person("sends no body")
    headers = {**host(stack), "Cookie": client.cookie_header, "Content-Type": "multipart/form-data; boundary=b"}
    with connect(stack, "direct") as connection:
        connection.send_head("POST", "/api/conversion/check", {**headers, "Content-Length": "1000"})
        assert connection.read_response("POST").json()["code"] == "invalid_request"


def test_converter_that_stops_reading_ends_the_upload(stack: ScaledStack) -> None:
    client = stack.person("unread upload")
    stack.sandbox.fault(CONVERTER, call="create_job", read_body=False, stall_seconds=3600, times=1)
    response = stack.send(client, model_upload(LazyBytes(MUCH, seed=1)))
    assert (response.status_code, response.json()["code"]) == (502, "converter_unavailable")
    assert_all_is_free(stack, client)


def test_file_service_that_stalls_ends_the_pull(stack: ScaledStack) -> None:
    client = stack.person("stalled pull")
    job_id = stack.completed_job(client, b"m" * 400_000)
    stack.sandbox.fault(FILE_ACCESS, call="get_file", when="after", stall_seconds=3600, stall_at=70_000)
    response = client.promote(job_id)
    assert (response.status_code, response.json()["code"]) == (502, "file_service_unavailable")
    assert_all_is_free(stack, client)


def test_download_that_nobody_reads_ends(stack: ScaledStack, way: str) -> None:
    """It is cut off, short of its length, and not lingered on."""
    client = stack.person("unread download")
    model_id = kept_model(stack, client)
    with connect(stack, way) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        headers = {**host(stack), "Cookie": client.cookie_header}
        connection.send_head("GET", f"/api/models/{model_id}/file", headers)
        wait_until(lambda: select.select([connection.socket], [], [], 0)[0], "the download has begun")
        assert in_flight(stack, kind="library_download") == 1
        # The kernel and nginx hold some of it for the reader; the slot is free once the rest has been given up.
        wait_until(lambda: in_flight(stack) == 0, "the download has ended", seconds=20, every=0.2)


def test_download_that_is_read_too_slowly_ends_and_resumes_by_range(stack: ScaledStack, way: str) -> None:
    """A little at a time gains nobody more. What came is right, and the rest can be asked for."""
    client = stack.person(f"slow download {way}")
    path = f"/api/models/{kept_model(stack, client)}/file"
    whole = client.get(path)
    headers = {**host(stack), "Cookie": client.cookie_header}
    with connect(stack, way) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.send_head("GET", path, headers)
        received = connection.socket.recv(2_048)

        def has_ended_while_it_was_read() -> bool:
            nonlocal received
            received += connection.socket.recv(512)
            return in_flight(stack) == 0

        wait_until(has_ended_while_it_was_read, "the download has ended", seconds=20, every=0.2)
    _, _, begun = received.partition(b"\r\n\r\n")
    resumed = client.get(path, headers={"Range": f"bytes={len(begun)}-", "If-Range": whole.headers["ETag"]})
    assert (resumed.status_code, len(begun) < len(whole.content)) == (206, True)
    assert hashlib.sha256(begun + resumed.content).digest() == hashlib.sha256(whole.content).digest()


def test_small_body_that_was_not_read_keeps_its_connection(stack: ScaledStack) -> None:
    """A response that keeps the connection may come before the end of a small body; the next request follows it."""
    headers = {**host(stack), "Content-Type": "application/json", "Content-Length": "1000"}
    with connect(stack, "direct") as connection:
        response = connection.send_head("POST", "/api/conversion/check", headers).read_response("POST")
        assert (response.status, response.header("Connection")) == (401, "keep-alive")
        connection.send(b"x" * 600)
        connection.send(b"x" * 400)
        assert connection.send_head("GET", "/healthz").read_response().status == 200
        # And with all of it in one piece, the next request included.
        connection.send_head("POST", "/api/conversion/check", headers)
        connection.send(b"x" * 1_000 + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.read_response("POST").status == 401
    with connect(stack, "direct") as connection:
        connection.send_head("POST", "/api/conversion/check", headers).send(b"x" * 999)
        assert connection.read_response("POST").status == 401
        assert connection.socket.recv(1) == b"", "a rest that never comes is not waited for without end"


@pytest.mark.parametrize("size", [64 * 1024 - 1, 64 * 1024])
def test_an_unread_body_ends_its_connection_only_as_announced(stack: ScaledStack, size: int) -> None:
    """gunicorn reads on for less than 64 KB; a client that was promised the connection would lose its next request."""
    headers = {**host(stack), "Content-Type": "application/json", "Content-Length": str(size)}
    with connect(stack, "direct") as connection:
        response = connection.send_head("POST", "/api/conversion/check", headers).read_response("POST")
        assert (response.status, response.header("Connection")) == (401, "close" if size == 64 * 1024 else "keep-alive")
        connection.send(b"x" * size)
        if response.header("Connection") == "keep-alive":
            assert connection.send_head("GET", "/healthz").read_response().status == 200


def kept_model(stack: ScaledStack, client: Client) -> str:
    return str(stack.kept_model(client, LazyBytes(MUCH, seed=2))["id"])
