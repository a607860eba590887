"""A server between the gateway and the tests' S3 server that lets chosen operations fail.

    with FailingBucket(s3_server.port) as bucket:
        with bucket.failing("PutObject", refuse(503, "SlowDown")):
            ...

A failure gets the call before it is forwarded, and `Call.forward` forwards it.
"""

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.support.processes import free_port

_SECONDS = 30.0
_ANY = "any operation"


@dataclass(frozen=True)
class Response:
    """A response of the S3 server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Call:
    """One request to the S3 server, and the connection on which it came."""

    def __init__(self, handler: BaseHTTPRequestHandler, server_port: int) -> None:
        self._handler = handler
        self._server_port = server_port
        self._body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))

    @property
    def operation(self) -> str:
        """The operation's name in S3's API."""
        parts = urlsplit(self._handler.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        is_object = "/" in parts.path.strip("/")
        match self._handler.command:
            case "PUT":
                return "UploadPart" if "partNumber" in query else "PutObject"
            case "POST":
                return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
            case "HEAD":
                return "HeadObject" if is_object else "HeadBucket"
            case "DELETE":
                return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
            case _:
                listing = "ListMultipartUploads" if "uploads" in query else "ListObjectsV2"
                return "GetObject" if is_object else listing

    def forward(self) -> Response:
        """Send the call to the S3 server. Return its response."""
        connection = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=_SECONDS)
        try:
            connection.request(self._handler.command, self._handler.path, self._body, dict(self._handler.headers))
            response = connection.getresponse()
            return Response(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def respond(self, response: Response, *, body_bytes: int | None = None) -> None:
        """Send a response, or only the first bytes of its body and then the end of the connection."""
        handler = self._handler
        handler.send_response_only(response.status)
        names = {name.lower() for name, _ in response.headers}
        for name, value in response.headers:
            if name.lower() not in {"transfer-encoding", "connection"}:
                handler.send_header(name, value)
        if "content-length" not in names:
            handler.send_header("Content-Length", str(len(response.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(response.body[:body_bytes])
        handler.close_connection = body_bytes is not None

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._handler.connection.close()
        self._handler.close_connection = True


Failure = Callable[[Call], None]


class FailingBucket:
    """Forwards to the S3 server, and lets operations fail. Thread-safe."""

    def __init__(self, server_port: int) -> None:
        self._failures: dict[str, Failure] = {}
        self.calls: list[str] = []
        failures, calls = self._failures, self.calls

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def serve(self) -> None:
                call = Call(self, server_port)
                calls.append(call.operation)
                if failure := failures.get(call.operation, failures.get(_ANY)):
                    failure(call)
                else:
                    call.respond(call.forward())

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                pass

        self._handler = Handler
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _open(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse connections during the block, and reset those that are open."""
        self._close()
        self._failures[_ANY] = reset
        try:
            yield
        finally:
            del self._failures[_ANY]
            self._open()

    @contextmanager
    def failing(self, operation: str, failure: Failure) -> Iterator[None]:
        """Let all calls of an operation fail during the block. Raises AssertionError if there were none."""
        self.calls.clear()
        self._failures[operation] = failure
        try:
            yield
        finally:
            del self._failures[operation]
        assert operation in self.calls, self.calls


def refuse(status: int, code: str) -> Failure:
    """Return a failure that responds with an error of S3."""
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return lambda call: call.respond(Response(status, [("Content-Type", "application/xml")], body))


def once(failure: Failure) -> Failure:
    """Return a failure of the first call only."""
    failures = [failure]
    return lambda call: failures.pop()(call) if failures else call.respond(call.forward())


def reset(call: Call) -> None:
    """Reset the connection before the call is forwarded."""
    call.reset()


def lose_response(call: Call) -> None:
    """Forward the call, and reset the connection instead of responding."""
    call.forward()
    call.reset()


def end_early(call: Call) -> None:
    """Send the whole head and half of the body, and close the connection."""
    response = call.forward()
    call.respond(response, body_bytes=len(response.body) // 2)


def reset_early(call: Call) -> None:
    """Send the whole head and half of the body, and reset the connection."""
    end_early(call)
    call.reset()


def shorten(call: Call) -> None:
    """Say that the object is shorter than it is."""
    response = call.forward()
    headers = [(name, value) for name, value in response.headers if name.lower() != "content-length"]
    call.respond(Response(response.status, [*headers, ("Content-Length", "3")], b""))


def change_etag(call: Call) -> None:
    """Respond with another ETag, as if the object had been replaced."""
    response = call.forward()
    headers = [(name, value) for name, value in response.headers if name.lower() != "etag"]
    call.respond(Response(response.status, [*headers, ("ETag", '"another"')], response.body))
