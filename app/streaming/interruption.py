"""Hearing one end of a stream while waiting for the other.

Whoever passes an upload on waits for the client's bytes most of the time. An upstream that refuses it meanwhile would
not be heard before the next of them came; and a client that has paused, because it waits for an answer, sends none.
"""

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class StreamInterruptedError(Exception):
    """The other end has spoken, or gone; what was waited for does not matter any more. Not an OSError, on purpose."""


class Interruption:
    """Names the socket that is to be heard while another is waited for. For the one thread that serves the stream."""

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._hear: Callable[[], None] | None = None

    @contextlib.contextmanager
    def hearing(self, sock: socket.socket, hear: Callable[[], None]) -> Iterator[None]:
        """For the length of the block, call `hear` when `sock` is readable while `wait_for` waits.

        It raises StreamInterruptedError if that was an answer or an end, and returns if it was neither.
        """
        self._sock, self._hear = sock, hear
        try:
            yield
        finally:
            self._sock = self._hear = None

    def wait_for(self, sock: socket.socket, seconds: float) -> None:
        """Wait until `sock` is readable, or has ended. Raises TimeoutError, and what `hear` raises."""
        other, hear = self._sock, self._hear
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        if other is not None:
            poll.register(other, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(seconds * 1000)]
            if not ready:
                raise TimeoutError("nothing arrived")
            if other is not None and hear is not None and other.fileno() in ready:
                hear()
            if sock.fileno() in ready:
                return


class HearingSocket:
    """A socket to read from that waits by way of an Interruption. It reads, and does nothing more.

    The socket has to be non-blocking, but for TLS of the server's own, whose bytes cannot be asked for without waiting.
    """

    def __init__(self, sock: socket.socket, interruption: Interruption, idle_seconds: float) -> None:
        self._sock = sock
        self._interruption = interruption
        self._idle_seconds = idle_seconds

    def recv(self, size: int) -> bytes:
        """As a socket's `recv`. Raises TimeoutError after the idle time, and what `Interruption.wait_for` raises."""
        return self._read(lambda: self._sock.recv(size))

    def recv_into(self, buffer: memoryview, size: int) -> int:
        """As a socket's `recv_into`; waits and raises as `recv` does."""
        return self._read(lambda: self._sock.recv_into(buffer, size))

    def _read(self, read: Callable[[], T]) -> T:
        if is_tls(self._sock):
            # It may hold bytes that it has decrypted already; the descriptor knows nothing of those.
            if not self._sock.pending():  # type: ignore[attr-defined]
                self._interruption.wait_for(self._sock, self._idle_seconds)
            return read()
        while True:
            # Asked first: while bytes come as fast as they are passed on, nothing has to be waited for, and whoever
            # sends them on hears the other end, too.
            try:
                return read()
            except BlockingIOError:
                self._interruption.wait_for(self._sock, self._idle_seconds)


def is_tls(sock: socket.socket) -> bool:
    """Does TLS lie between this socket's descriptor and its bytes?"""
    return hasattr(sock, "pending")
