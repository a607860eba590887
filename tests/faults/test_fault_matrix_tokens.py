"""The fault matrix over real sockets: service tokens, and upstreams that cannot be reached.

These faults affect all users, so the cells run one after another. Tokens expire too soon here to be cached.
"""

from collections.abc import Callable, Iterator

import pytest

from app.clients.retry import Call
from tests.support.calls import SERVICE_CALLS
from tests.support.fault_cells import NOT_CONNECTED, Cell, cells_of, expected
from tests.support.fault_runs import (
    ENVIRONMENT,
    Outcome,
    limit_seconds,
    play_all,
    play_behind_doors,
    verify_nothing_is_left,
)
from tests.support.scaled_stack import ScaledStack

CELLS = cells_of(Call.TOKEN)
DOOR_CELLS = cells_of(*SERVICE_CALLS, faults=NOT_CONNECTED)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    directory = tmp_path_factory.mktemp("tokens")
    with ScaledStack(directory, environment=ENVIRONMENT, with_doors=True, access_token_seconds=10) as stack:
        yield stack


@pytest.fixture(scope="module")
def outcomes(stack: ScaledStack, selected_cells: Callable[[], list[Cell]]) -> dict[Cell, Outcome]:
    selected = selected_cells()
    played = play_all(stack, [cell for cell in selected if cell in CELLS], side_by_side=1)
    return played | play_behind_doors(stack, [cell for cell in selected if cell in DOOR_CELLS])


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_fault_of_the_token_endpoint_ends_as_the_tables_say(cell: Cell, outcomes: dict[Cell, Outcome]) -> None:
    outcomes[cell].verify(expected(cell), limit_seconds=limit_seconds(cell))


@pytest.mark.parametrize("cell", DOOR_CELLS, ids=str)
def test_every_call_is_retried_if_no_connection_can_be_made(cell: Cell, outcomes: dict[Cell, Outcome]) -> None:
    outcomes[cell].verify(expected(cell), limit_seconds=limit_seconds(cell))


def test_all_the_faults_together_leave_nothing_behind(stack: ScaledStack, outcomes: dict[Cell, Outcome]) -> None:
    assert outcomes is not None
    verify_nothing_is_left(stack)
