"""The fault matrix over real sockets: calls to the converter for uploads and polls.

The cells run in parallel before the first test of this file, each with its own user and job.
"""

from collections.abc import Callable, Iterator

import pytest

from app.clients.retry import Call
from tests.support.fault_cells import Cell, cells_of, expected
from tests.support.fault_runs import ENVIRONMENT, Outcome, limit_seconds, play_all, verify_nothing_is_left
from tests.support.scaled_stack import ScaledStack

CELLS = cells_of(Call.GET_JOB, Call.LIST_JOBS, Call.CREATE_JOB)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    with ScaledStack(tmp_path_factory.mktemp("converter"), environment=ENVIRONMENT) as stack:
        yield stack


@pytest.fixture(scope="module")
def outcomes(stack: ScaledStack, selected_cells: Callable[[], list[Cell]]) -> dict[Cell, Outcome]:
    return play_all(stack, selected_cells())


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_fault_ends_as_the_retry_table_and_the_catalogue_say(cell: Cell, outcomes: dict[Cell, Outcome]) -> None:
    outcomes[cell].verify(expected(cell), limit_seconds=limit_seconds(cell))


def test_all_the_faults_together_leave_nothing_behind(stack: ScaledStack, outcomes: dict[Cell, Outcome]) -> None:
    assert outcomes is not None
    verify_nothing_is_left(stack)
