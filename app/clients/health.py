"""What calls have lately experienced of each upstream: for people who look, and never to decide anything by.

Nothing is probed: what nobody has called, nobody knows anything of. Each process knows its own calls.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

#: An upstream's outcome where it has answered, whatever its answer was; else it is the failure's kind.
ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Experience:
    """The outcome of the last try, and how many seconds ago that was."""

    outcome: str
    seconds_ago: float


class UpstreamHealth:
    """The last outcome of each upstream. Thread-safe; noting it takes no lock."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: dict[str, tuple[str, float]] = {}

    def note(self, upstream: str, outcome: str) -> None:
        """Note how a try has just ended: ANSWERED, or a failure's kind."""
        self._last[upstream] = (outcome, self._monotonic())

    def last(self, upstream: str) -> Experience | None:
        """How the last try ended; None where there has been none."""
        known = self._last.get(upstream)
        return Experience(known[0], self._monotonic() - known[1]) if known else None
