"""kill -9 at any moment loses nothing confirmed, leaves nothing that the sweep does not find, and blocks nobody."""

import pytest

from tests.durability.conftest import ON_BOTH_ENGINES, SCALED
from tests.support.crash import Round, Victim
from tests.support.scaled_stack import ScaledStack

pytestmark = [ON_BOTH_ENGINES, pytest.mark.timeout(120)]

SHORT = [
    (Victim.WORKER, 11),
    (Victim.MASTER, 12),
    (Victim.GATEWAY, 13),
    (Victim.CONVERTER, 14),
    (Victim.EVERYTHING, 15),
]
#: Five users are at work in each round, so that these are 200 moments.
LONG = [(victim, 1_000 + seed) for seed, victim in enumerate(list(Victim) * 8)]


@pytest.fixture(scope="module")
def application() -> str:
    """With short waits between tries, so that a round takes seconds."""
    return SCALED


def play(stack: ScaledStack, victim: Victim, seed: int) -> None:
    one = Round(stack, seed, victim)
    one.play()
    one.verify()


@pytest.mark.parametrize(("victim", "seed"), SHORT, ids=str)
def test_nothing_is_lost_or_left_when_something_is_killed(stack: ScaledStack, victim: Victim, seed: int) -> None:
    play(stack, victim, seed)


@pytest.mark.soak
@pytest.mark.parametrize(("victim", "seed"), LONG, ids=str)
def test_nothing_is_lost_or_left_at_200_moments(stack: ScaledStack, victim: Victim, seed: int) -> None:
    play(stack, victim, seed)
