"""Clocks that stand until they are turned, and a sleep that turns them instead of waiting."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class FakeMonotonic:
    """`time.monotonic` in a test's hands; several threads may read it."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeClock:
    """The time of day in a test's hands."""

    now: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class FakeSleep:
    """Remembers every wait; with a clock, time passes as it would have."""

    clock: FakeMonotonic | None = None
    waits: list[float] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, seconds: float) -> None:
        with self._guard:
            self.waits.append(seconds)
            if self.clock is not None:
                self.clock.advance(seconds)
