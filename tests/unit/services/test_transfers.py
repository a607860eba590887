"""Places for long transfers: as many as there are, given back whatever happens."""

import pytest

from app.errors import UploadCapacityError
from app.services.transfers import TransferSlots
from tests.unit.services.bench import in_parallel


def fail_inside(slots: TransferSlots) -> None:
    with slots.taken():
        raise ValueError("a bug")


def test_a_place_is_given_back_whatever_happens() -> None:
    slots = TransferSlots(1)
    with slots.taken():
        assert slots.free == 0
    with pytest.raises(ValueError, match="a bug"):
        fail_inside(slots)
    assert slots.free == 1


def test_who_finds_no_place_is_told_at_once_and_when_to_come_back() -> None:
    slots = TransferSlots(2)
    slots.take()
    slots.take()
    with pytest.raises(UploadCapacityError) as caught:
        slots.take()
    assert caught.value.retry_after_seconds == 5
    slots.give_back()
    slots.take()


@pytest.mark.parametrize("round_", range(3))
def test_of_a_hundred_threads_exactly_as_many_as_there_are_places_get_one(round_: int) -> None:
    slots = TransferSlots(7)
    outcomes = in_parallel(100, lambda _: slots.take())
    assert outcomes.count(None) == 7
    assert slots.free == 0
