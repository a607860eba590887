"""Deadlines: the seconds left, never less than zero."""

from app.domain.call import Deadline
from tests.support.clocks import FakeMonotonic


def test_a_deadline_tells_the_seconds_left_and_when_it_is_over() -> None:
    clock = FakeMonotonic()
    deadline = Deadline(10, clock)
    assert deadline.remaining_seconds() == 10
    clock.advance(9.999)
    assert not deadline.is_spent
    clock.advance(0.001)
    assert deadline.is_spent
    clock.advance(100)
    assert deadline.remaining_seconds() == 0


def test_a_timeout_is_clipped_to_the_seconds_left() -> None:
    clock = FakeMonotonic()
    deadline = Deadline(10, clock)
    assert deadline.clip(5) == 5
    clock.advance(7)
    assert deadline.clip(5) == 3
    clock.advance(7)
    assert deadline.clip(5) == 0
