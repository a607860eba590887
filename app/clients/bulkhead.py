"""A bound on how many threads may wait for one upstream, so that a stalled upstream does not take the whole worker.

A control call to a stalled upstream holds its thread for half a minute, and a caller that waits for another's call
holds one, too. So each upstream has a number of places in a worker. Each kind of call keeps a few of them for itself:
a kind that is slow, whether it is healthy or stalled, cannot take the places of the others, and what is slow for it is
judged by its own time limit. A call that finds no place waits a moment for one. It is refused at once if most calls of
its kind hang, and those that hang are then not retried. No failures are counted and nothing is probed: the refusals end
when the calls do (docs/adr/0008).
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

from app.clients.transport import UpstreamFailure

#: A call hangs once it has taken this share of its time limit: two seconds of ten, six of thirty.
HANGING_SHARE = 0.2


class BulkheadFullFailure(UpstreamFailure):
    """Too many callers wait for this upstream already; nothing was sent. Never retried."""

    kind = "crowded"


class Bulkhead:
    """One upstream's places in this process. Thread-safe.

    `places` calls may be in flight at once. `limits_seconds` has the kinds of calls, with the time limit of one try of
    each. Half of the places are reserved, in equal shares, for the kinds. A call that finds no place waits
    `patience_seconds` for one.
    """

    def __init__(
        self,
        places: int,
        limits_seconds: Mapping[str, float],
        *,
        patience_seconds: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places
        self._reserved = places // (2 * len(limits_seconds))
        self._hanging_seconds = {kind: HANGING_SHARE * limit for kind, limit in limits_seconds.items()}
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._calls: Counter[str] = Counter()
        #: The kind of each thread, in a call or waiting for another's, and when it came; in the order of coming.
        self._inside: dict[object, tuple[str, float]] = {}

    @contextmanager
    def entered(self, kind: str) -> Iterator[None]:
        """Make a call of `kind` in the block. Raises BulkheadFullFailure if there is no place for it."""
        ticket = object()
        with self._changed:
            until = self._monotonic() + self._patience_seconds
            while not self._has_place(kind):
                left = until - self._monotonic()
                if left <= 0 or self._hangs(kind):
                    raise self._failure()
                self._changed.wait(left)
            self._calls[kind] += 1
            self._inside[ticket] = kind, self._monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._calls[kind] -= 1
                del self._inside[ticket]
                # All of them: the one that waits longest may be of a kind that has no place yet.
                self._changed.notify_all()

    def wait(self, kind: str, event: threading.Event, seconds: float) -> bool:
        """Wait for another thread's call of `kind` to end, as `event.wait` does; True if it has.

        Raises BulkheadFullFailure, before or while this thread waits, if that kind hangs and more threads are here than
        there are slots.
        """
        ticket, until = object(), self._monotonic() + seconds
        with self._changed:
            self._inside[ticket] = kind, self._monotonic()
        try:
            while True:
                with self._changed:
                    if ticket not in islice(self._inside, self._places) and self._hangs(kind):
                        raise self._failure()
                left = until - self._monotonic()
                if event.wait(max(0.0, min(left, self._hanging_seconds[kind] / 4))):
                    return True
                if left <= 0:
                    return False
        finally:
            with self._changed:
                del self._inside[ticket]

    def is_full(self, kind: str) -> bool:
        """Return whether another call of `kind` would be refused at once."""
        with self._changed:
            return not self._has_place(kind) and self._hangs(kind)

    def _has_place(self, kind: str) -> bool:
        kept = sum(max(0, self._reserved - self._calls[other]) for other in self._hanging_seconds if other != kind)
        return self._calls.total() + kept < self._places

    def _hangs(self, kind: str) -> bool:
        """Return whether at least half of the threads of `kind` have been here for longer than is usual."""
        since = self._monotonic() - self._hanging_seconds[kind]
        hang = [came_at <= since for other, came_at in self._inside.values() if other == kind]
        return any(hang) and 2 * sum(hang) >= len(hang)

    def _failure(self) -> BulkheadFullFailure:
        return BulkheadFullFailure(f"{len(self._inside)} threads wait for this upstream already")
