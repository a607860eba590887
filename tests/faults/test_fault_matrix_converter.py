"""The fault matrix over real sockets: calls to the converter for uploads and polls."""

import pytest

from app.clients.retry import Call
from tests.support.fault_cells import Cell, cells_of, expected
from tests.support.fault_runs import Outcome, limit_seconds, verify_nothing_is_left
from tests.support.scaled_stack import ScaledStack

CELLS = cells_of(Call.GET_JOB, Call.LIST_JOBS, Call.CREATE_JOB)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_fault_ends_as_the_retry_table_and_the_catalogue_say(cell: Cell, outcomes: dict[Cell, Outcome]) -> None:
    outcomes[cell].verify(expected(cell), limit_seconds=limit_seconds(cell))


def test_all_the_faults_together_leave_nothing_behind(stack: ScaledStack, outcomes: dict[Cell, Outcome]) -> None:
    assert outcomes is not None
    verify_nothing_is_left(stack)
