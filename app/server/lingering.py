"""Throwing away what still arrives on connections, on the thread of an event loop, without waiting for any of them.

An answer that is given before the request's body has been read is lost if the connection is then closed: the kernel
answers the bytes on their way with a reset, and a client that is hit by it while it sends may never look for an answer.
So whoever ends a connection closes his own side, goes on reading until the other side is closed too, and closes then
(RFC 9112, section 9.6). Here an event loop does the reading, so that a thousand such connections hold no thread.
"""

import contextlib
import selectors
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: What one connection may take of one turn of the loop.
TURN_BYTES = 1024 * 1024
# On Linux, TCP then discards without copying; elsewhere the bytes land in the buffer, and nobody looks at them.
_DISCARD = getattr(socket, "MSG_TRUNC", 0)


@dataclass(frozen=True, slots=True)
class DiscardLimits:
    """How much is read of one connection, how long a pause may be, and how long it may take in all."""

    max_bytes: int
    idle_seconds: float
    total_seconds: float


@dataclass(slots=True)
class _Discarded:
    bytes_left: int
    idle_seconds: float
    idle_until: float
    until: float
    on_end: Callable[[bool], None]


class Discarder:
    """Connections whose bytes are thrown away. For the thread of the loop alone.

    The loop's selector has to hold callables as `data` and to call them with the ready file object.
    """

    def __init__(self, selector: selectors.BaseSelector, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._selector = selector
        self._monotonic = monotonic
        self._buffer = bytearray(TURN_BYTES)
        # By the moment at which the pause becomes too long; whatever arrives sends a connection to the end.
        self._held: OrderedDict[socket.socket, _Discarded] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def discard(self, sock: socket.socket, limits: DiscardLimits, on_end: Callable[[bool], None]) -> None:
        """Throw away what arrives on a non-blocking socket, then call `on_end`, once, possibly at once.

        Its argument is true if `max_bytes` were read, and false after the peer's end, an error, or too long a time.
        The socket is out of the selector by then; to close it is the caller's. Idle limits must be the same for all
        connections that are held at a time, or the shorter ones are noticed late.
        """
        now = self._monotonic()
        held = _Discarded(
            limits.max_bytes, limits.idle_seconds, now + limits.idle_seconds, now + limits.total_seconds, on_end
        )
        outcome = self._read(sock, held)
        if outcome is not None:
            on_end(outcome)
            return
        self._held[sock] = held
        self._selector.register(sock, selectors.EVENT_READ, self._on_readable)

    def expire(self) -> None:
        """End what has paused or taken too long. To be called every now and then."""
        now = self._monotonic()
        while self._held:
            sock, held = next(iter(self._held.items()))
            if min(held.idle_until, held.until) > now:
                break
            self._end(sock, is_all=False)

    def cut_short(self, deadline: float) -> None:
        """Have all that is held now end by a moment of the clock."""
        for held in self._held.values():
            held.until = min(held.until, deadline)
            held.idle_until = min(held.idle_until, deadline)

    @property
    def next_expiry(self) -> float | None:
        """The moment at which `expire` has something to do, if nothing arrives until then."""
        for held in self._held.values():
            return min(held.idle_until, held.until)
        return None

    def _on_readable(self, sock: socket.socket) -> None:
        held = self._held[sock]
        now = self._monotonic()
        outcome = False if now >= held.until else self._read(sock, held)
        if outcome is not None:
            self._end(sock, is_all=outcome)
            return
        held.idle_until = min(now + held.idle_seconds, held.until)
        self._held.move_to_end(sock)

    def _read(self, sock: socket.socket, held: _Discarded) -> bool | None:
        """One turn's reading. None: more may come; else what `on_end` is to be told."""
        try:
            count = sock.recv_into(self._buffer, min(TURN_BYTES, held.bytes_left), _DISCARD)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return False
        held.bytes_left -= count
        if not count:
            return False
        return True if held.bytes_left <= 0 else None

    def _end(self, sock: socket.socket, *, is_all: bool) -> None:
        held = self._held.pop(sock)
        with contextlib.suppress(OSError, KeyError, ValueError):
            self._selector.unregister(sock)
        held.on_end(is_all)
