"""Deadlines: what is left, never less than nothing."""

from app.domain.call import Deadline
from tests.support.clocks import FakeMonotonic


def test_a_deadline_tells_what_is_left_and_when_it_is_spent() -> None:
    clock = FakeMonotonic()
    deadline = Deadline(10, clock)
    assert deadline.remaining_seconds() == 10
    clock.advance(9.999)
    assert not deadline.is_spent
    clock.advance(0.001)
    assert deadline.is_spent
    clock.advance(100)
    assert deadline.remaining_seconds() == 0


def test_a_time_out_is_clipped_to_what_is_left() -> None:
    clock = FakeMonotonic()
    deadline = Deadline(10, clock)
    assert deadline.clip(5) == 5
    clock.advance(7)
    assert deadline.clip(5) == 3
    clock.advance(7)
    assert deadline.clip(5) == 0
