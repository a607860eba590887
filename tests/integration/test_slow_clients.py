"""Clients that stall or are slow within a body block others for a limited time. Hundreds of them: tests/wire."""

import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.multipart_bodies import model_upload
from tests.support.scaled_stack import ScaledStack
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("slow")
    environment = {
        "VISIONA_UPLOAD_IDLE_SECONDS": "3",
        "VISIONA_UPLOAD_MIN_BYTES_PER_SECOND": "1000",
        "SCALED_STALL_SECONDS": "3",
    }
    with ScaledStack(folder, environment=environment) as made:
        yield made


def test_chunked_upload_that_is_too_slow_is_ended_and_releases_its_slot_and_lease(stack: Stack) -> None:
    """A byte now and then never exceeds the time limit of a read, so the minimum rate must end the upload."""
    client = stack.signed_in("alice")
    body = model_upload(b"x" * 200_000)
    data = body.as_bytes()
    with stack.connect() as connection:
        head = {**body.headers, "Cookie": client.cookie_header, "Transfer-Encoding": "chunked"}
        head.pop("Content-Length", None)
        connection.send_head("POST", "/api/conversion/init", head)
        connection.send_chunk(data[:1_000])
        ends_at = time.monotonic() + 40
        for sent in range(1_000, 2_000):
            if select.select([connection.socket], [], [], 0.25)[0] or time.monotonic() > ends_at:
                break
            connection.send_chunk(data[sent : sent + 1])
        response = connection.read_response("POST")
    assert (response.status, response.json()["code"]) == (408, "upload_timeout")
    assert stack.upload(client)


def test_small_body_that_never_arrives_times_out(stack: Stack) -> None:
    """A small body that is announced and not sent must not occupy a thread forever."""
    client = stack.signed_in("alice")
    head = {
        "Cookie": client.cookie_header,
        "Content-Type": "multipart/form-data; boundary=b",
        "Content-Length": "1000",
    }
    with stack.connect() as connection:
        connection.send_head("POST", "/api/conversion/check", head)
        assert select.select([connection.socket], [], [], 45)[0], "the gateway still waits"
        assert connection.read_response("POST").json()["code"] == "invalid_request"
