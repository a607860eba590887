"""A cache of values that are fetched from an upstream, with one fetch at a time for each key.

Callers who ask for a key that is being fetched wait for that fetch and share its value, or its failure: an upstream
that is down is asked once, and not once per caller. Failures are never cached.
"""

import copy
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cachetools import TTLCache

from app.domain.call import CallContext
from app.errors import DeadlineExceededError, GatewayError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Waits at most so many seconds for an event, and returns whether it came.
Wait = Callable[[threading.Event, float], bool]


@dataclass(slots=True)
class _Fetch(Generic[V]):
    """A fetch that other callers may be waiting for. It has ended without outcome if it failed for its caller only."""

    has_ended: threading.Event = field(default_factory=threading.Event)
    value: V | None = None
    failure: GatewayError | None = None


class SingleFlightCache(Generic[K, V]):
    """Caches what `fetch` returns for a key. Thread-safe; callers of different keys never wait for each other."""

    def __init__(
        self,
        fetch: Callable[[K, CallContext], V],
        *,
        seconds: float,
        max_entries: int,
        wait: Wait = threading.Event.wait,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Values live for `seconds`; with 0 they are only shared by those who wait for them.

        `wait` is how a caller waits for another's fetch; it may raise (see `Bulkhead.wait`).
        """
        self._fetch = fetch
        self._wait = wait
        self._lock = threading.Lock()
        self._cached: TTLCache[K, V] = TTLCache(max_entries, seconds, timer=monotonic)
        self._fetches: dict[K, _Fetch[V]] = {}

    def get(self, key: K, context: CallContext, *, accepts: Callable[[V], bool] = lambda _value: True) -> V:
        """Return the cached value if `accepts` returns true for it, else fetch one.

        Raises what `fetch` raises. A caller who waited gets a copy of the failure, unless it was the fetching caller's
        own: after DeadlineExceededError, an exception other than GatewayError, or any failure within a short deadline,
        one of those who wait fetches again. Raises DeadlineExceededError when the time runs out during the wait.
        """
        while True:
            with self._lock:
                cached = self._cached.get(key)
                if cached is not None and accepts(cached):
                    return cached
                running = self._fetches.get(key)
                if running is None:
                    ours = self._fetches[key] = _Fetch()
            if running is None:
                return self._run(ours, key, context)
            if not self._wait(running.has_ended, context.deadline.remaining_seconds()):
                raise DeadlineExceededError("waited for another caller's fetch until the deadline")
            if running.value is not None:
                return running.value
            if running.failure is not None:
                # A copy each: a raised exception collects the traceback of the thread that raises it.
                raise copy.copy(running.failure)

    def find(self, key: K) -> V | None:
        """Return the cached value; None if there is none."""
        with self._lock:
            try:
                return self._cached[key]  # `get` takes twice as long
            except KeyError:
                return None

    def forget(self, key: K, value: V | None = None) -> bool:
        """Remove the cached value, if it is `value` or that is None. Return whether one was removed."""
        with self._lock:
            cached = self._cached.get(key)
            is_meant = cached is not None and (value is None or cached is value)
            if is_meant:
                self._cached.pop(key, None)  # `del` raises if the value has expired since
            return is_meant

    def keys(self) -> list[K]:
        """Return the keys that have a cached value."""
        with self._lock:
            return list(self._cached)

    def _run(self, ours: _Fetch[V], key: K, context: CallContext) -> V:
        try:
            ours.value = self._fetch(key, context)
            return ours.value
        except GatewayError as failure:
            # Within a short deadline there may have been no time for a retry; a caller with more time tries again.
            if not isinstance(failure, DeadlineExceededError) and not context.has_short_deadline:
                ours.failure = copy.copy(failure)
            raise
        finally:
            with self._lock:
                if ours.value is not None:
                    self._cached[key] = ours.value
                del self._fetches[key]
            ours.has_ended.set()
