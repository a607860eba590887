"""End connections without cutting off the last response.

A response that comes before the whole request is lost if the connection is closed then: the kernel answers the bytes on
their way with a reset, which reaches a client that is still sending before it reads. So a server closes its own side,
reads on until the client closes too, and closes then (RFC 9112, section 9.6). Here the event loop does the reading, so
that a thousand such connections hold no thread.
"""

import contextlib
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: How long a client may go on sending, and how long it may pause, in seconds. A pause is noticed within twice that.
TOTAL_SECONDS, IDLE_SECONDS = 30.0, 2.0
#: How many bytes are read from one connection in one turn of the loop.
TURN_BYTES = 1024 * 1024
# On Linux, TCP then discards without copying. Elsewhere the bytes land in the buffer.
_DISCARD = getattr(socket, "MSG_TRUNC", 0)


@dataclass(slots=True)
class _Lingering:
    conn: Any
    until: float
    check_at: float
    has_sent: bool = False
    is_closed: bool = False


class LingeringConnections:
    """gunicorn connections whose last response has been sent. For the thread of the event loop only.

    The loop calls the `data` of its selector's keys with the ready socket. `close` is called once for each connection.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        close: Callable[[Any], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._selector = selector
        self._close = close
        self._monotonic = monotonic
        self._buffer = bytearray(TURN_BYTES)
        # In the order of `check_at`.
        self._connections: deque[_Lingering] = deque()

    def add(self, conn: Any) -> None:
        """Close our side of a connection, and read on until the client closes its own."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # the client has reset it
            self._close(conn)
            return
        now = self._monotonic()
        lingering = _Lingering(conn, until=now + TOTAL_SECONDS, check_at=now + IDLE_SECONDS)
        self._connections.append(lingering)
        self._selector.register(conn.sock, selectors.EVENT_READ, lambda sock: self._read(sock, lingering))

    def expire(self) -> None:
        """Close the connections that have paused or sent for too long. Call it about every second."""
        now = self._monotonic()
        while self._connections and self._connections[0].check_at <= now:
            lingering = self._connections.popleft()
            if lingering.has_sent and now < lingering.until:
                lingering.has_sent, lingering.check_at = False, now + IDLE_SECONDS
                self._connections.append(lingering)
            else:
                self._end(lingering)

    def _read(self, sock: socket.socket, lingering: _Lingering) -> None:
        try:
            count = sock.recv_into(self._buffer, TURN_BYTES, _DISCARD)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        lingering.has_sent = count > 0
        if not count:
            self._end(lingering)

    def _end(self, lingering: _Lingering) -> None:
        if not lingering.is_closed:
            lingering.is_closed = True
            with contextlib.suppress(OSError, KeyError, ValueError):
                self._selector.unregister(lingering.conn.sock)
            self._close(lingering.conn)
