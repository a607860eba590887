"""What a request passes down through all layers: its deadline, and the ids that find it in the logs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class Deadline:
    """A time on the monotonic clock by which control calls must be done. Immutable and thread-safe."""

    __slots__ = ("_at", "_monotonic")

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._at = monotonic() + seconds

    def remaining_seconds(self) -> float:
        """Return the seconds left, never less than 0."""
        return max(0.0, self._at - self._monotonic())

    @property
    def is_spent(self) -> bool:
        """Whether no time is left."""
        return self.remaining_seconds() <= 0

    def clip(self, timeout_seconds: float) -> float:
        """Return `timeout_seconds`, or the seconds left if that is less."""
        return min(timeout_seconds, self.remaining_seconds())


@dataclass(frozen=True, slots=True)
class CallContext:
    """Carries a request's deadline and its correlation headers (X-Request-ID, …) from the edge to every upstream call.

    `has_short_deadline` means that the deadline is much shorter than a request's, so a call may fail for lack of time.
    """

    deadline: Deadline
    correlation: Mapping[str, str] = field(default_factory=dict)
    has_short_deadline: bool = False
