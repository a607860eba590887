"""Every call to an upstream has its cells in the fault matrix."""

import pytest

from app.clients.retry import MATRIX, Call
from app.errors import catalogue
from tests.faults import (
    test_fault_matrix_converter,
    test_fault_matrix_deadline,
    test_fault_matrix_results,
    test_fault_matrix_tokens,
)
from tests.support.calls import SERVICE_CALLS
from tests.support.fault_cells import COMMON, NOT_CONNECTED, WAYS, expected

PLAYED = [
    *test_fault_matrix_converter.CELLS,
    *test_fault_matrix_results.CELLS,
    *test_fault_matrix_tokens.CELLS,
    *test_fault_matrix_tokens.DOOR_CELLS,
]


@pytest.mark.parametrize("call", SERVICE_CALLS)
def test_every_call_is_played_with_every_fault(call: Call) -> None:
    faults = {cell.fault for cell in PLAYED if cell.call is call}

    assert call in WAYS
    assert call in MATRIX
    assert faults >= {*COMMON, *NOT_CONNECTED}


def test_every_cell_is_played_in_one_file_only() -> None:
    assert len(PLAYED) == len(set(PLAYED))


def test_every_expected_outcome_is_in_the_catalogue_and_the_retry_table() -> None:
    for cell in [*PLAYED, *test_fault_matrix_deadline.CELLS]:
        wanted = expected(cell)
        assert wanted.code is None or wanted.status == catalogue()[wanted.code].status, cell
        assert 1 <= wanted.tries <= MATRIX[cell.call].tries, cell
