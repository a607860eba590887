"""A converter that keeps the bytes it is sent, and judges nothing.

It takes every upload that ends as a chunked body must, and answers 201 with a job that has ended already, so that the
next upload finds nothing in its way.
"""

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import BinaryIO, Self

_SECONDS = 30.0


@dataclass
class Received:
    """One upload as it came over the wire. `wire` is the raw body, chunk sizes included; `body` is what they frame."""

    content_type: str
    headers: list[tuple[str, str]]
    wire: bytearray = field(default_factory=bytearray)
    body: bytearray = field(default_factory=bytearray)
    #: Whether the last chunk came, without which the body is incomplete (RFC 9112, section 8).
    is_whole: bool = False

    @property
    def has_closing_boundary(self) -> bool:
        boundary = self.content_type.partition("boundary=")[2].encode()
        return b"--%b--" % boundary in self.body


class RecordingConverter:
    """Listens on a port of its own from the beginning to the end of a `with`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._changed = threading.Condition()
        # Connections on which a request is coming, as far as is known.
        self._busy: set[socket.socket] = set()
        self._uploads: list[Received] = []
        self._jobs = 0
        self._threads: list[threading.Thread] = []
        self._is_closing = False

    @property
    def url(self) -> str:
        return f"http://localhost:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(_SECONDS)

    def take(self) -> list[Received]:
        """Every upload that has begun since the last time, once it has ended."""
        # Connections are accepted in the order in which they were made: when ours is served, all before it are known.
        with socket.create_connection(self._listener.getsockname(), timeout=_SECONDS) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            connection.recv(1)
        with self._changed:
            if not self._changed.wait_for(lambda: not self._busy, _SECONDS):
                raise TimeoutError("an upload has not ended")
            taken, self._uploads = self._uploads, []
            return taken

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(_SECONDS)
            with self._changed:
                self._busy.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
                while head := stream.readline():
                    headers = []
                    while line := stream.readline().strip():
                        name, _, value = line.decode("latin-1").partition(":")
                        headers.append((name.lower(), value.strip()))
                    if head.startswith(b"POST "):
                        self._receive(connection, stream, headers)
                        return
                    self._is_idle(connection)
                    self._answer(connection, 200, {"jobs": []})
        finally:
            self._is_idle(connection)

    def _is_idle(self, connection: socket.socket) -> None:
        with self._changed:
            self._busy.discard(connection)
            self._changed.notify_all()

    def _receive(self, connection: socket.socket, stream: BinaryIO, headers: list[tuple[str, str]]) -> None:
        upload = Received(dict(headers).get("content-type", ""), headers)
        with self._changed:
            self._uploads.append(upload)
            self._jobs += 1
            job_id = f"recorded-{self._jobs}"
        upload.is_whole = _read_chunks(stream, upload)
        # Before the response, so that a test that has received it finds the upload here.
        self._is_idle(connection)
        if upload.is_whole:
            self._answer(connection, 201, {"job_id": job_id, "status": "completed"})

    def _answer(self, connection: socket.socket, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        connection.sendall(
            b"HTTP/1.1 %d Status\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )


def _read_chunks(stream: BinaryIO, upload: Received) -> bool:
    """Read a chunked body to its end; False if there was none."""
    while line := stream.readline():
        upload.wire += line
        size = int(line, 16)
        data = stream.read(size + 2)
        upload.wire += data
        if len(data) < size + 2:
            upload.body += data[:size]
            return False
        upload.body += data[:size]
        if size == 0:
            return data == b"\r\n"
    return False
