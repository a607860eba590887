"""The connection of one upload: it hears the upstream while it sends, and copies nothing that it sends.

http.client writes a body with blocking sends, and would go on for as long as an upstream that has answered neither
reads nor closes. This connection asks, before every send, whether the socket takes bytes *or has something to say*.
What it has to say is an early answer or its end: then BrokenPipeError is raised, which urllib3 takes for "the upstream
has stopped reading", and goes on to read the answer.

Under TLS a readable socket may hold but a session ticket, so there the bytes are decrypted first; those of an
answer are kept for the one who reads it.
"""

import io
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any, Protocol

from urllib3.connection import HTTPConnection

from app.clients.transport import WholeHeaderResponse, bounded_connection
from app.clients.watchdog import Watchdog
from app.streaming import Chunk
from app.streaming.interruption import Interruption, StreamInterruptedError

_READ_BYTES = 16 * 1024
_WRITABLE = select.POLLOUT
_ANYTHING = select.POLLIN | select.POLLOUT


def upload_connection_class(
    base: type[HTTPConnection], idle_seconds: float, watchdog: Watchdog
) -> type[HTTPConnection]:
    """Return a connection class like `base` whose upstream may pause for `idle_seconds`, in either direction."""

    class UploadConnection(bounded_connection(base, watchdog)):  # type: ignore[misc]
        response_class = WholeHeaderResponse
        sock: Any
        #: The connection forgets its socket with the header of an answer that is to be its last; the guard must not.
        answering_socket: socket.socket | None = None
        _early_bytes = b""

        def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
            super().request(method, url, None if body is None else self._sent(body), *args, **kwargs)

        def getresponse(self) -> Any:
            # The idle time is for the whole header: one that drips in would never be late otherwise.
            with watchdog.limit(idle_seconds) as guard:
                self.answering_socket = self.sock
                guard.watch(self.sock)
                if self._early_bytes:
                    self.sock = _ReadAheadSocket(self.sock, self._early_bytes)
                return super().getresponse()

        def _sent(self, chunks: "Interruptible") -> Iterator[bytes]:
            """Send the chunks when urllib3, having sent the head, asks for the first; and give it none to send.

            It then sends the last chunk, and only then: what is raised here leaves the message without its end.
            """
            sock = self.sock
            sender = (_TLSSender if isinstance(sock, ssl.SSLSocket) else _Sender)(sock, idle_seconds)
            sock.setblocking(False)
            try:
                with chunks.interruption.hearing(sock, sender.interrupt):
                    for chunk in chunks:
                        sender.send(chunk)
                sender.wait()
            except StreamInterruptedError as interrupted:
                raise BrokenPipeError("the upstream spoke while its next bytes were waited for") from interrupted
            finally:
                self._early_bytes = sender.early_bytes
                # urllib3 leaves the connect time-out on the socket otherwise; a busy upstream may pause for longer.
                sock.settimeout(idle_seconds)
            yield from ()

    return UploadConnection


class Interruptible(Protocol):
    """A body that says how waiting for its next chunk is interrupted."""

    interruption: Interruption

    def __iter__(self) -> Iterator[Chunk]: ...


class _Sender:
    """Sends chunks (RFC 9112, section 7.1) over a non-blocking socket.

    Raises BrokenPipeError once the other side has said anything, TimeoutError where a chunk takes too long.
    """

    early_bytes = b""

    def __init__(self, sock: socket.socket, idle_seconds: float) -> None:
        self._sock = sock
        self._idle_seconds = idle_seconds
        self._poll = select.poll()
        self._poll.register(sock, _ANYTHING)

    def send(self, chunk: Chunk) -> None:
        """Send one chunk, with its frame; an empty one is not sent, for it would be the last."""
        if not chunk:
            return
        ends_at = time.monotonic() + self._idle_seconds
        parts = [memoryview(part) for part in (b"%x\r\n" % len(chunk), chunk, b"\r\n")]
        while parts:
            self.wait(ends_at - time.monotonic())
            try:
                sent = self._sock.sendmsg(parts)
            except BlockingIOError:
                continue
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the socket takes bytes; for the idle time, unless told otherwise."""
        seconds = self._idle_seconds if seconds is None else seconds
        ready = self._poll.poll(max(0.0, seconds) * 1000)
        if not ready:
            raise TimeoutError("the upstream takes nothing")
        if ready[0][1] & ~_WRITABLE:
            self._hear()

    def interrupt(self) -> None:
        """The upstream is readable while we wait for bytes to send. Raises StreamInterruptedError if it has spoken."""
        try:
            self._hear()
        except OSError as error:
            raise StreamInterruptedError from error

    def _hear(self) -> None:
        raise BrokenPipeError("the upstream has answered, or ended the connection")


class _TLSSender(_Sender):
    """The same over TLS, where a socket that is readable need not have anything for us, nor a writable one take it."""

    _sock: ssl.SSLSocket

    def send(self, chunk: Chunk) -> None:
        if not chunk:
            return
        ends_at = time.monotonic() + self._idle_seconds
        # One buffer, for each send makes a record: the copy is nothing beside the encryption.
        view = memoryview(b"".join((b"%x\r\n" % len(chunk), chunk, b"\r\n")))
        while view:
            self.wait(ends_at - time.monotonic())
            try:
                view = view[self._sock.send(view) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                continue
            except ssl.SSLError:
                # An upstream that has answered and closed resets what we still send; its answer is here all the same.
                self._hear()
                raise

    def _hear(self) -> None:
        try:
            self.early_bytes = self._sock.recv(_READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        super()._hear()


class _ReadAheadSocket:
    """A socket of which some bytes have been read already; enough of one for http.client to read an answer from."""

    def __init__(self, sock: socket.socket, first: bytes) -> None:
        self._sock = sock
        self._first = first
        self.settimeout = sock.settimeout
        self.shutdown = sock.shutdown
        self.close = sock.close

    def makefile(self, _mode: str) -> io.BufferedReader:
        """A reader of the bytes that were read already, and then of the rest."""
        return io.BufferedReader(_Chained(self._first, self._sock.makefile("rb", buffering=0)))


class _Chained(io.RawIOBase):
    def __init__(self, first: bytes, rest: Any) -> None:
        self._first = first
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._first:
            read: int | None = self._rest.readinto(buffer)
            return read
        size = min(len(buffer), len(self._first))
        buffer[:size], self._first = self._first[:size], self._first[size:]
        return size

    def close(self) -> None:
        self._rest.close()
        super().close()
