"""The gateway works if gunicorn itself terminates TLS, where the worker cannot read the raw bytes."""

import hashlib
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.support.clients import Client
from tests.support.multipart_bodies import model_upload
from tests.support.processes import wait_until
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("tls"), own_tls=True) as made:
        yield made


@pytest.fixture
def alice(stack: Stack) -> Client:
    stack.reset()
    return stack.signed_in("alice")


def test_a_model_is_uploaded_and_its_result_downloaded(stack: Stack, alice: Client) -> None:
    """An upload of many TLS records, polls on one connection, and the library's file."""
    model = bytes(range(256)) * 20_000
    job_id = stack.completed_job(alice, model)
    alice.headers["Connection"] = "keep-alive"
    stack.wait_for_status(alice, job_id, "completed")
    kept = alice.promote(job_id).json()
    content = alice.get(f"/api/models/{kept['id']}/file").content
    assert (len(content), hashlib.sha256(content).hexdigest()) == (kept["size"], kept["sha256"])
    alice.headers["Connection"] = "close"


def test_early_refusals_and_the_next_request_are_answered(stack: Stack, alice: Client) -> None:
    """Of uploads small enough to be read on: with gigabytes to come, only a server that sees the bytes can."""
    job_id = stack.upload(alice)
    alice.headers["Connection"] = "keep-alive"
    for _ in range(5):
        refused = stack.send(alice, model_upload(b"x" * 50_000))
        assert (refused.status_code, refused.json()["active_job"]["job_id"]) == (409, job_id)
        assert alice.get("/healthz").status_code == 200
    alice.headers["Connection"] = "close"


def test_an_upload_that_stopped_within_a_record_can_be_ended(stack: Stack, alice: Client) -> None:
    """Most connections that break do so within a record."""
    model = model_upload(b"x" * 50_000)
    fields = {"Host": f"localhost:{stack.port}", "Cookie": alice.cookie_header, **model.headers}
    fields |= {"Content-Length": str(len(model)), "X-Upload-ID": "lost"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl._create_unverified_context().wrap_bio(received, to_send, server_hostname="localhost")
    with socket.create_connection(("localhost", stack.port)) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(to_send.read())
                received.write(sock.recv(100_000))
        tls.write(f"POST /api/conversion/init HTTP/1.1\r\n{head}\r\n".encode())
        tls.write(model.as_bytes()[:10_000])
        tls.write(model.as_bytes()[10_000:20_000])
        sock.sendall(to_send.read()[:-5_000])
        wait_until(stack.sandbox.uploads, "the converter has a part of it")
        assert alice.delete("/api/conversion/upload?upload_id=lost").status_code == 204
