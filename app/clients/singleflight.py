"""Many callers, one call: whoever asks for the same thing while it is being fetched shares the outcome.

Failures are shared too, so that a dead upstream is asked once and not once a caller. What is not shared is a leader's
own misfortune: when its deadline runs out (or its thread is torn down), one of the waiters takes over.
"""

import copy
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.domain.call import CallContext
from app.errors import DeadlineExceededError, GatewayError

T = TypeVar("T")

#: Waits for an event for so many seconds at most, and says whether it came.
Wait = Callable[[threading.Event, float], bool]


@dataclass(slots=True)
class _Flight(Generic[T]):
    landed: threading.Event = field(default_factory=threading.Event)
    value: list[T] = field(default_factory=list)
    failure: GatewayError | None = None


class SingleFlight(Generic[T]):
    """Gathers concurrent calls by key. Thread-safe; different keys never wait for each other."""

    def __init__(self, wait: Wait = threading.Event.wait) -> None:
        """`wait` is how waiters wait; what it raises is what they get (see `Bulkhead.wait`)."""
        self._wait = wait
        self._guard = threading.Lock()
        self._flights: dict[Hashable, _Flight[T]] = {}

    def run(self, key: Hashable, context: CallContext, fetch: Callable[[], T]) -> T:
        """Return what `fetch` gives, fetched by this caller or by one that was first.

        Raises what `fetch` raised (a copy, for those who waited) if that is a GatewayError other than
        DeadlineExceededError; DeadlineExceededError when the caller's own time runs out while it waits. A failure of
        a leader whose context is hurried is its own: those who waited try again.
        """
        while True:
            with self._guard:
                flight = self._flights.get(key)
                is_leader = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if is_leader:
                return self._lead(key, flight, fetch, shares_failure=not context.has_short_deadline)
            if not self._wait(flight.landed, context.deadline.remaining_seconds()):
                raise DeadlineExceededError("waited for another caller's fetch until the deadline")
            if flight.value:
                return flight.value[0]
            if flight.failure is not None:
                # A copy each: a raised exception collects the traceback of the thread that raises it.
                raise copy.copy(flight.failure)
            # The leader came to grief on its own account. Somebody else must lead, perhaps this caller.

    def _lead(self, key: Hashable, flight: _Flight[T], fetch: Callable[[], T], *, shares_failure: bool) -> T:
        try:
            value = fetch()
            flight.value.append(value)
            return value
        except DeadlineExceededError:
            raise
        except GatewayError as failure:
            # One who is in a hurry may have failed for want of a retry: somebody with more time tries again.
            flight.failure = copy.copy(failure) if shares_failure else None
            raise
        finally:
            with self._guard:
                del self._flights[key]
            flight.landed.set()
