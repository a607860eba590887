"""A bound on how many threads may wait for one upstream, so that a stalled upstream does not stop the whole worker.

A control call to a stalled upstream holds its thread for half a minute, and so does a caller that waits for another's
call. So each upstream has a number of slots in a worker, and each kind of call has a few of them reserved: a slow kind
cannot take the slots of the others. How long a call may take before it counts as hanging depends on its own time limit.

A call without a free slot waits for a few seconds. It is refused at once if most calls of its kind hang, and those
that hang are then not retried. No failures are counted and nothing is probed: the refusals end when the calls do
(docs/adr/0008-a-bulkhead-and-no-circuit-breaker.md).
"""

import math
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
    """Too many threads wait for this upstream already; nothing was sent. Never retried."""

    kind = "bulkhead_full"


class Bulkhead:
    """The slots of one upstream in this process. Thread-safe.

    At most `slots` calls are in flight at once. `limits_seconds` has the time limit of one try of each kind of call.
    Half of the slots are reserved for the kinds, in equal shares. A call without a free slot waits `patience_seconds`
    for one.
    """

    def __init__(
        self,
        slots: int,
        limits_seconds: Mapping[str, float],
        *,
        patience_seconds: float = 4.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._reserved = slots // (2 * len(limits_seconds))
        self._hanging_seconds = {kind: HANGING_SHARE * limit for kind, limit in limits_seconds.items()}
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._calls: Counter[str] = Counter()
        #: The kind and the start time of each thread that makes a call or waits for another's, oldest first.
        self._inside: dict[object, tuple[str, float]] = {}

    @contextmanager
    def entered(self, kind: str, seconds: float = math.inf) -> Iterator[None]:
        """Hold a slot for a call of `kind` during the block.

        Raises BulkheadFullFailure if none becomes free, and as a timeout if none did within `seconds`.
        """
        ticket = object()
        with self._changed:
            until = self._monotonic() + min(self._patience_seconds, seconds)
            while not self._has_slot(kind):
                left = until - self._monotonic()
                if left <= 0 or self._hangs(kind):
                    raise self._failure(is_timeout=left <= 0)
                # No longer, so that it notices when the calls of its kind begin to hang.
                self._changed.wait(min(left, self._hanging_seconds[kind] / 4))
            self._calls[kind] += 1
            self._inside[ticket] = kind, self._monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._calls[kind] -= 1
                del self._inside[ticket]
                # All of them: the thread that has waited longest may be of a kind that may not enter yet.
                self._changed.notify_all()

    def wait(self, kind: str, event: threading.Event, seconds: float) -> bool:
        """Wait for another thread's call of `kind` to end, as `event.wait` does; return whether it has.

        Raises BulkheadFullFailure, before or during the wait, if that kind hangs and more threads are inside than there
        are slots.
        """
        ticket, until = object(), self._monotonic() + seconds
        with self._changed:
            self._inside[ticket] = kind, self._monotonic()
        try:
            while True:
                with self._changed:
                    if ticket not in islice(self._inside, self._slots) and self._hangs(kind):
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
            return not self._has_slot(kind) and self._hangs(kind)

    def _has_slot(self, kind: str) -> bool:
        others = (other for other in self._hanging_seconds if other != kind)
        reserved = sum(max(0, self._reserved - self._calls[other]) for other in others)
        return self._calls.total() + reserved < self._slots

    def _hangs(self, kind: str) -> bool:
        """Return whether at least half of the threads of `kind` have been inside for longer than is usual."""
        since = self._monotonic() - self._hanging_seconds[kind]
        hang = [came_at <= since for other, came_at in self._inside.values() if other == kind]
        return any(hang) and 2 * sum(hang) >= len(hang)

    def _failure(self, *, is_timeout: bool = False) -> BulkheadFullFailure:
        reason = f"{len(self._inside)} threads wait for this upstream already"
        return BulkheadFullFailure(reason, is_timeout=is_timeout)
