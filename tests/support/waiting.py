"""Counts the threads that wait for another thread's fetch, so that a test can let the fetch end when all have come."""

import threading

from tests.support.processes import wait_until


class CountedWait:
    """Waits for an event as callers of a cache do. `until(count)` returns once so many threads are waiting."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0

    def __call__(self, event: threading.Event, seconds: float) -> bool:
        with self._lock:
            self._waiting += 1
        try:
            return event.wait(seconds)
        finally:
            with self._lock:
                self._waiting -= 1

    def until(self, count: int) -> None:
        wait_until(lambda: self._waiting == count, f"{count} threads wait", every=0.001)
