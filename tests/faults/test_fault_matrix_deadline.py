"""If an upstream hangs longer than a request may take, the deadline ends the request, not the tries' timeouts."""

from collections.abc import Iterator

import pytest

from app.clients.retry import MATRIX, Call
from app.errors import catalogue
from tests.support.calls import SERVICE_CALLS
from tests.support.fault_cells import COMMON, Cell, Expected, cells_of, expected
from tests.support.fault_runs import ENVIRONMENT, SLACK_SECONDS, Outcome, verify_nothing_is_left
from tests.support.scaled_stack import ScaledStack

DEADLINE_SECONDS = 2.0
#: A single try may take longer than the whole request.
TRY_SECONDS = 4.0
# A download's four calls and their tokens have to fit into it, too, so tokens are kept here.
CELLS = cells_of(
    *(call for call in SERVICE_CALLS if call is not Call.TOKEN),
    faults=[fault for fault in COMMON if fault.is_slow],
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    environment = {
        **ENVIRONMENT,
        "VISIONA_REQUEST_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "SCALED_TRY_SECONDS": str(TRY_SECONDS),
    }
    with ScaledStack(tmp_path_factory.mktemp("deadline"), environment=environment) as stack:
        yield stack


def expected_at_the_deadline(cell: Cell) -> Expected:
    """Waiting for a response head ends at the deadline, in the first try; bodies are bounded by their idle time."""
    if is_bound_by_the_deadline(cell):
        return Expected(catalogue()["deadline_exceeded"].status, "deadline_exceeded", tries=1)
    return expected(cell)


def is_bound_by_the_deadline(cell: Cell) -> bool:
    if cell.call is Call.GET_FILE:
        return cell.fault.name == "stall_before_response"  # a body that has begun is no control call any more
    return MATRIX[cell.call].timeouts.total_seconds is not None


def limit_seconds(cell: Cell) -> float:
    tries = expected_at_the_deadline(cell).tries
    return SLACK_SECONDS + (DEADLINE_SECONDS if is_bound_by_the_deadline(cell) else tries * TRY_SECONDS)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_deadline_ends_a_control_call_and_spares_a_stream(cell: Cell, outcomes: dict[Cell, Outcome]) -> None:
    outcomes[cell].verify(expected_at_the_deadline(cell), limit_seconds=limit_seconds(cell))


def test_all_the_faults_together_leave_nothing_behind(stack: ScaledStack, outcomes: dict[Cell, Outcome]) -> None:
    assert outcomes is not None
    verify_nothing_is_left(stack)
