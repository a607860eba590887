"""A threaded HTTP/1.1 server for the stand-ins: keep-alive, chunked both ways, early responses, broken connections.

Werkzeug's development server closes every connection after one response, and reads the rest of a body. Real upstreams
hold connections open and may respond before the body has ended. So this is a request handler of our own on werkzeug's
server. It has no TLS, and limits headers as the standard library does.
"""

import contextlib
import enum
import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from werkzeug.serving import WSGIRequestHandler, make_server

from sandbox.request_body import BadFramingError, RequestBody
from sandbox.settings import Address

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

LISTEN_BACKLOG = 512
IDLE_SECONDS = 120.0

# The rest of a body after an early response: a small one is read, so that the connection can be used again. Of a large
# one a bounded amount is read, because closing at once could reset the connection before the client has the response.
SMALL_REST_BYTES = 64 * 1024
DRAIN_BYTES = 16 * 1024**2
DRAIN_SECONDS = 3.0
# The key of `environ` that says how the connection of an early response ends, if not as above.
ENDING_KEY = "sandbox.ending"
_PIECE_BYTES = 64 * 1024


class Ending(enum.StrEnum):
    """What a server does after an early response, while the body is still arriving."""

    CLOSE = "close"
    LINGER = "linger"
    READ_ON = "read_on"
    STOP_READING = "stop_reading"


class HangUp(Exception):  # noqa: N818 - an instruction to the server, not a failure
    """An application raises this to close the connection without another byte, in order or with a reset."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


class AddressInUseError(OSError):
    """Another process listens there."""


def bind(address: Address) -> socket.socket:
    """Return a listening socket, so that all addresses are bound before any server starts; raises AddressInUseError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressInUseError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
    return listener


class OpenConnections:
    """The open connections, so that a server can close them all when it stops, including stalled ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            self._open[threading.current_thread()] = connection

    def remove(self) -> None:
        with self._lock:
            self._open.pop(threading.current_thread(), None)

    def close_all(self, timeout_seconds: float) -> None:
        with self._lock:
            leaving = dict(self._open)
        for connection in leaving.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + timeout_seconds
        for thread in leaving:
            thread.join(max(0.0, deadline - time.monotonic()))


class HTTPServer:
    """The server of one stand-in: one thread accepts, and each connection has a thread."""

    def __init__(self, listener: socket.socket, app: "WSGIApplication", stopping: threading.Event) -> None:
        """Use `listener`. `stopping` is set when the server closes; everything that waits must wait on it."""
        self._stopping = stopping
        self._connections = OpenConnections()
        handler = type("Handler", (ConnectionHandler,), {"connections": self._connections})
        host, port = listener.getsockname()[:2]
        with listener:
            self._server = make_server(host, port, app, threaded=True, request_handler=handler, fd=listener.fileno())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=f"sandbox-{port}")
        self._thread.start()

    def close(self) -> None:
        """Stop accepting, close every connection, and wait a bounded time for their threads."""
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._connections.close_all(timeout_seconds=5.0)


class ConnectionHandler(WSGIRequestHandler):
    """Serves the requests of one connection, one after another."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    connections: OpenConnections

    def setup(self) -> None:
        self.connections.add(self.request)
        super().setup()

    def finish(self) -> None:
        try:
            with contextlib.suppress(OSError):
                super().finish()
        finally:
            self.connections.remove()

    def handle_expect_100(self) -> bool:
        # Send "100 Continue" when the application begins to read, so that a refusal can come first.
        return True

    @property
    def ending(self) -> Ending | None:
        """Return how the connection of an early response ends, if a fault rule says so."""
        ending: Ending | None = self.environ.get(ENDING_KEY)
        return ending

    def run_wsgi(self) -> None:
        self.environ: WSGIEnvironment = {}
        try:
            body = RequestBody.of(self.headers, cast("BinaryIO", self.rfile), self._continue_if_expected())
        except BadFramingError as error:
            _Response(self, RequestBody(cast("BinaryIO", self.rfile), 0), head=False).send_plain(400, str(error))
            self.close_connection = True
            return
        environ = self.make_environ()
        environ["wsgi.input"] = body
        environ["wsgi.input_terminated"] = True
        self.environ = environ
        response = _Response(self, body, head=self.command == "HEAD")
        try:
            self._run(environ, response)
        except HangUp as ending:
            self.close_connection = True
            if ending.reset:
                self._reset()
                return
        except OSError:
            # The client has closed the connection or stopped reading.
            self.close_connection = True
            return
        self._settle(body, self.ending)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name is werkzeug's
        """Write nothing: requests are in the call log."""

    def _run(self, environ: "WSGIEnvironment", response: "_Response") -> None:
        chunks: Iterable[bytes] = ()
        try:
            try:
                chunks = self.server.app(environ, response.start)
                for chunk in chunks:
                    response.write(chunk)
                response.finish()
            finally:
                if hasattr(chunks, "close"):
                    chunks.close()
        except (HangUp, OSError):
            raise
        except Exception:
            log.exception("the sandbox failed at %s %s", self.command, self.path.partition("?")[0])
            self.close_connection = True
            if not response.is_started:
                response.send_plain(500, "The sandbox itself failed; see its log.")

    def _continue_if_expected(self) -> Any:
        if self.headers.get("Expect", "").strip().lower() != "100-continue":
            return None
        return lambda: self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _settle(self, body: RequestBody, ending: Ending | None) -> None:
        """Read to the start of the next request, or close the connection, in order or as a fault rule says."""
        if body.complete or body.broken:
            self.close_connection = self.close_connection or body.broken
            return
        match ending:
            case Ending.CLOSE:
                self._close_at_once()
            case Ending.STOP_READING:
                self._wait_until_left()
                self.close_connection = True
            case Ending.LINGER:
                self._linger()
                self.close_connection = True
            case Ending.READ_ON:
                self._read_on(body)
            case _ if self.close_connection:
                self._linger()
            case _:
                self._read_on(body)

    def _read_on(self, body: RequestBody) -> None:
        try:
            while body.read(_PIECE_BYTES):
                pass
        except OSError:
            self.close_connection = True

    def _linger(self) -> None:
        """Close the sending side, and read on for a bounded time."""
        deadline = time.monotonic() + DRAIN_SECONDS
        left = DRAIN_BYTES
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (wait := deadline - time.monotonic()) > 0:
                if not select.select([self.connection], [], [], wait)[0]:
                    return
                data = self.connection.recv(min(left, _PIECE_BYTES))
                if not data:
                    return
                left -= len(data)

    def _wait_until_left(self) -> None:
        """Read nothing until the client closes, the server stops, or the time is over."""
        poll = select.poll()
        # poll reports the end of the connection in any case; arrived bytes are not polled for.
        poll.register(self.connection, select.POLLRDHUP)
        poll.poll(IDLE_SECONDS * 1000)

    def _close_at_once(self) -> None:
        """Close with unread bytes, which resets the connection."""
        self.close_connection = True
        # socketserver would close it in order.
        os.close(self.connection.detach())

    def _reset(self) -> None:
        # socketserver would send FIN before it closes, so take the descriptor away from it.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())


class _Response:
    """Writes one response: WSGI's start_response and write, and the framing."""

    def __init__(self, handler: ConnectionHandler, body: RequestBody, *, head: bool) -> None:
        self._handler = handler
        self._body = body
        self._head = head
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._chunked = False
        self._promised: int | None = None
        self._written = 0
        self.is_started = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self.is_started and exc_info:
            raise exc_info[1].with_traceback(exc_info[2])
        self._status, self._headers = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece; an empty first piece sends only the headers."""
        head = b"" if self.is_started else self._header_block()
        self.is_started = True
        if self._head or not self._may_have_content:
            data = b""
        self._written += len(data)
        if data and self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if head or data:
            self._handler.connection.sendall(head + data)

    def finish(self) -> None:
        if not self.is_started:
            self.write(b"")
        if self._chunked and not self._head:
            self._handler.connection.sendall(b"0\r\n\r\n")
        if self._promised is not None and self._promised != self._written and self._may_have_content and not self._head:
            # Only a fault rule announces a wrong length. The next response would be read as the rest of this one.
            self._handler.close_connection = True

    def send_plain(self, code: int, sentence: str) -> None:
        text = f"{sentence}\n".encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(text))),
            ("Connection", "close"),
        ]
        self.start(f"{code} {HTTPStatus(code).phrase}", headers)
        with contextlib.suppress(OSError):
            self.write(text)

    @property
    def _may_have_content(self) -> bool:
        return self._status[:3] not in {"204", "304"} and not self._status.startswith("1")

    def _header_block(self) -> bytes:
        names = {name.lower() for name, _ in self._headers}
        lines = [f"HTTP/1.1 {self._status}", *(f"{name}: {value}" for name, value in self._headers)]
        for name, value in self._headers:
            if name.lower() == "content-length" and value.isdigit():
                self._promised = int(value)
        handler = self._handler
        if handler.request_version < "HTTP/1.1":
            handler.close_connection = True
        elif "content-length" not in names and self._may_have_content:
            self._chunked = True
            lines.append("Transfer-Encoding: chunked")
        rest = self._body.remaining
        if handler.ending in {Ending.READ_ON, Ending.STOP_READING}:
            # Neither announces that it will close.
            rest = 0
        if self._body.broken or (not self._body.complete and (rest is None or rest > SMALL_REST_BYTES)):
            handler.close_connection = True
        if handler.close_connection and "connection" not in names:
            lines.append("Connection: close")
        if "date" not in names:
            lines.append(f"Date: {formatdate(usegmt=True)}")
        lines.append("Server: visionA-sandbox")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
