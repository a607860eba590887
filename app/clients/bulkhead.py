"""A bound on how many threads may hang on one upstream, so that a stalled neighbour does not take the whole worker.

A control call to a stalled upstream holds its thread for half a minute, and whoever waits for somebody else's call
holds one too. So each upstream has a number of places in a worker. While it answers nobody notices: whoever finds no
place waits for one, for a moment. Once several calls have been hanging for longer than a healthy upstream ever takes,
new callers are refused at once, and those that hang are not retried. No failures are counted and nothing is probed:
it ends by itself when the calls do (docs/adr/0008).
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.clients.transport import UpstreamFailure


class CrowdedFailure(UpstreamFailure):
    """Too many callers hang on this upstream already; nothing was sent. Never retried."""

    kind = "crowded"


class Bulkhead:
    """One upstream's places in this process. Thread-safe.

    `places` calls may be under way at once; who finds none free waits `patience_seconds` for one. With `most_hanging`
    threads, in calls or waiting for others' calls, there for over `hanging_seconds`, nobody new comes in, and of
    those who wait only as many stay as there are places.
    """

    def __init__(
        self,
        places: int,
        *,
        most_hanging: int = 8,
        hanging_seconds: float = 2.0,
        patience_seconds: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places
        self._most_hanging = most_hanging
        self._hanging_seconds = hanging_seconds
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._calls = 0
        # When each thread came in; a dict keeps that order, so those who hang are its first.
        self._inside: dict[object, float] = {}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make a call in the block. Raises CrowdedFailure where enough hang on the upstream already."""
        ticket = object()
        with self._changed:
            until = self._monotonic() + self._patience_seconds
            while self._calls >= self._places or self._is_crowded():
                left = until - self._monotonic()
                if left <= 0 or self._is_crowded():
                    raise self._failure()
                self._changed.wait(left)
            self._calls += 1
            self._inside[ticket] = self._monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                del self._inside[ticket]
                self._changed.notify()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for somebody else's call to end, as `event.wait` does; True if it has.

        Raises CrowdedFailure where enough hang on the upstream, before or while this thread waits.
        """
        ticket, until = object(), self._monotonic() + seconds
        with self._changed:
            if self._is_crowded():
                raise self._failure()
            self._inside[ticket] = self._monotonic()
        try:
            while True:
                left = until - self._monotonic()
                if event.wait(max(0.0, min(left, self._hanging_seconds / 4))):
                    return True
                if left <= 0:
                    return False
                with self._changed:
                    if self._is_crowded() and self._is_in_excess(ticket):
                        raise self._failure()
        finally:
            with self._changed:
                del self._inside[ticket]

    @property
    def is_crowded(self) -> bool:
        """Would a new caller be refused at once?"""
        with self._changed:
            return self._is_crowded()

    def _is_crowded(self) -> bool:
        # They stand in the order in which they came: if the n-th has been here for long, n have.
        nth = next(itertools.islice(self._inside.values(), self._most_hanging - 1, None), None)
        return nth is not None and nth <= self._monotonic() - self._hanging_seconds

    def _is_in_excess(self, ticket: object) -> bool:
        return ticket not in itertools.islice(self._inside, self._places)

    def _failure(self) -> CrowdedFailure:
        return CrowdedFailure(f"{len(self._inside)} threads hang on this upstream already")
