"""The outcome of the last call to each upstream, for people to look at. No decision depends on it.

Nothing is probed: without calls there is no outcome. Each process knows its own calls only.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

#: The outcome if the upstream has answered with a status below 500. Otherwise it is the kind of the failure.
ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Experience:
    """The outcome of the last try, and how many seconds ago that was."""

    outcome: str
    seconds_ago: float


class UpstreamHealth:
    """The last outcome of each upstream. Thread-safe without a lock."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: dict[str, tuple[str, float]] = {}

    def note(self, upstream: str, outcome: str) -> None:
        """Record the outcome of a try: ANSWERED, or a failure's kind."""
        self._last[upstream] = (outcome, self._monotonic())

    def last(self, upstream: str) -> Experience | None:
        """Return the outcome of the last try; None if there has been none."""
        known = self._last.get(upstream)
        return Experience(known[0], self._monotonic() - known[1]) if known else None
