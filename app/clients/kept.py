"""A value that is fetched from an upstream and kept for a while."""

from collections.abc import Callable
from typing import Generic, TypeVar

from app.clients.singleflight import SingleFlight, Wait
from app.domain.call import CallContext

T = TypeVar("T")


class Kept(Generic[T]):
    """Keeps the value that `fetch` returned last. Thread-safe. Callers that wait share a failure; it is never kept."""

    def __init__(
        self, fetch: Callable[[CallContext], T], *, seconds: float, monotonic: Callable[[], float], wait: Wait
    ) -> None:
        """`wait` is how callers wait for another's fetch (see `SingleFlight`)."""
        self._fetch = fetch
        self._seconds = seconds
        self._monotonic = monotonic
        self._flights: SingleFlight[T] = SingleFlight(wait)
        self._kept: tuple[T, float] | None = None

    def get(self, context: CallContext, *, instead_of: T | None = None) -> T:
        """Return the value, fetched at most `seconds` ago; fetch again if it is `instead_of`, a useless one.

        Raises what `fetch` raises, and DeadlineExceededError where the caller's time runs out while it waits.
        """
        fresh = self._find_fresh(instead_of)
        return fresh if fresh is not None else self._flights.run("", context, lambda: self._renew(context, instead_of))

    def find(self) -> T | None:
        """Return the value that was fetched last, at any time; None if there is none."""
        kept = self._kept
        return None if kept is None else kept[0]

    def _find_fresh(self, instead_of: T | None) -> T | None:
        kept = self._kept
        if kept is None or kept[0] is instead_of or self._monotonic() - kept[1] >= self._seconds:
            return None
        return kept[0]

    def _renew(self, context: CallContext, instead_of: T | None) -> T:
        # Between this caller's look and its becoming the leader, another flight may have landed.
        value = self._find_fresh(instead_of)
        if value is None:
            value = self._fetch(context)
            self._kept = (value, self._monotonic())
        return value
