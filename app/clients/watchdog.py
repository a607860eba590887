"""Limit how long one try of an upstream call may take in all.

Socket timeouts bound a single recv(), so an upstream that sends a byte now and then is never late. The watchdog is one
daemon thread per process that shuts down the sockets of tries whose time is up. The thread that waits in recv() then
wakes up with an end of file, and `guard.has_fired` is true.
"""

import contextlib
import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator


class Guard:
    """The limit of one try: `watch` names the socket in use, and `has_fired` is true once the time has run out."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.is_done = False
        self.has_fired = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def watch(self, sock: socket.socket | None) -> None:
        """Name the socket to shut down; a later call replaces it."""
        with self._lock:
            self._socket = sock
            if self.has_fired:
                self._shut_down()

    def fire(self) -> None:
        """End the try, unless it is finished."""
        with self._lock:
            if not self.is_done:
                self.has_fired = True
                self._shut_down()

    def finish(self) -> None:
        """Note that the try has ended, so that its socket is not shut down any more."""
        with self._lock:
            self.is_done = True
            self._socket = None

    def _shut_down(self) -> None:
        if self._socket is not None:
            # Not SSLSocket.shutdown: it would drop the TLS object that the reading thread uses.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Watchdog:
    """Fires guards when their time is up. Thread-safe; its thread starts with the first guard, hence after any fork."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._guards: list[tuple[float, int, Guard]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._current = threading.local()

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[Guard]:
        """Limit the block to `seconds` of waiting for the sockets that the guard watches.

        In nested blocks, `watch` names the socket to the innermost guard.
        """
        guard = Guard(self._monotonic() + seconds)
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="upstream-watchdog", daemon=True)
                thread.start()
                self._thread = thread
            heapq.heappush(self._guards, (guard.at, next(self._order), guard))
            if self._guards[0][2] is guard:
                self._changed.notify()
        outer, self._current.guard = getattr(self._current, "guard", None), guard
        try:
            yield guard
        finally:
            self._current.guard = outer
            guard.finish()

    def watch(self, sock: socket.socket | None) -> None:
        """Name the socket that the calling thread uses now to its guard, if it has one."""
        guard: Guard | None = getattr(self._current, "guard", None)
        if guard is not None:
            guard.watch(sock)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._guards and self._guards[0][2].is_done:
                    heapq.heappop(self._guards)
                wait = self._guards[0][0] - self._monotonic() if self._guards else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                guard = heapq.heappop(self._guards)[2]
            guard.fire()
