"""The path of an upload from the client's socket to the converter's: the frames of each chunk, and early responses."""

import socket
import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from app.clients import upload
from app.clients.converter import ConverterConflictError
from app.server.body import open_reader
from app.services.leases import HeldLease
from app.services.transfers import Transfer, TransferKind
from app.services.uploads import _arriving
from app.streaming.ending import Ending
from app.streaming.inbound import InboundLimits, RequestBody
from app.streaming.multipart import UploadMessage
from tests.clients.upstreams import JOB, Script, Wire, clients_of, response
from tests.support.fakes import MemoryLeases, call_context

MOST_FRAMES = 10
MODEL_BYTES = 64 << 20
HEAD = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'
END = b"\r\n--b--\r\n"


class Depths:
    """Counts the frames above the sending loop whenever one of the sockets is read, sent to or waited for.

    The loop itself runs once per upload and is not counted; the function that reads, sends or waits is.
    """

    def __init__(self) -> None:
        self.seen: dict[str, Counter[int]] = {"recv_into": Counter(), "sendmsg": Counter(), "poll": Counter()}

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call" or function.__name__ not in self.seen:
            return
        depth, current = 0, frame
        while current.f_code is not upload._send_body.__code__:
            if current.f_back is None:
                return  # before or after the loop
            depth, current = depth + 1, current.f_back
        self.seen[function.__name__][depth] += 1


def body_from(server: socket.socket, length: int) -> RequestBody:
    """The body of the request that arrives on this socket, as our worker would give it to the view."""
    request = next(RequestParser(Config(), server, ("127.0.0.1", 1)))
    limits = InboundLimits(1 << 30, idle_seconds=20, min_bytes_per_second=0)
    return RequestBody({"wsgi.input": request.body, "CONTENT_LENGTH": str(length)}, limits, open_reader)


def test_a_chunk_passes_at_most_ten_frames_between_the_clients_socket_and_the_converters() -> None:
    client, server = socket.socketpair()
    length = len(HEAD) + MODEL_BYTES + len(END)

    def send() -> None:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length + HEAD)
        for _ in range(MODEL_BYTES >> 20):
            client.sendall(bytes(1 << 20))
        client.sendall(END)

    depths = Depths()
    leases = MemoryLeases()
    leases.acquire("upload:alice", "u1", 150)
    sender = threading.Thread(target=send)
    with client, server, Ending() as ending, clients_of(Script([response(JOB, 201)])) as (clients, _):
        sender.start()
        body = body_from(server, length)
        lease = HeldLease(leases, "upload:alice", "u1", ValueError, lambda: 0.0)  # type: ignore[arg-type]
        body.progress.ending = ending
        chunks = _arriving(body, Transfer(TransferKind.UPLOAD), lease, ending)
        message = UploadMessage(chunks, "b", "alice", max_parts=10, progress=body.progress)
        sys.setprofile(depths)
        try:
            assert clients.converter.create_job(message, call_context()).job_id == "job-1"
        finally:
            sys.setprofile(None)
        sender.join()
    assert all(depths.seen[name].total() > 50 for name in depths.seen), "too few chunks to say anything"
    assert max(depth for counts in depths.seen.values() for depth in counts) <= MOST_FRAMES, depths.seen
    assert body.progress.received_bytes == length
    assert body.progress.sent_bytes > MODEL_BYTES
    assert body.progress.is_whole


def test_a_response_is_noticed_while_the_client_pauses() -> None:
    """The client may pause because it waits for the response, so the gateway must not wait for its next bytes."""

    def talk(wire: Wire) -> None:
        request = wire.read_head()
        assert request.headers["transfer-encoding"] == "chunked"
        time.sleep(0.3)  # by now the gateway waits for the client
        wire.send(response(b'{"active_job": {"job_id": "job-2"}}', 409))
        wire.wait_for_end()

    client, server = socket.socketpair()
    with client, server, clients_of(talk) as (clients, _):
        client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + HEAD + bytes(200_000))
        body = body_from(server, 1_000_000)
        started = time.monotonic()
        with pytest.raises(ConverterConflictError):
            clients.converter.create_job(
                UploadMessage(body, "b", "alice", max_parts=10, progress=body.progress), call_context()
            )
    assert time.monotonic() - started < 10
    assert not body.progress.is_whole
