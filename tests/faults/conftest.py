"""What the files of the fault matrix share: a stack, the outcomes of the selected cells, and a look at what is left.

The cells run in parallel before the first test of a file, each with its own user and job.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.support.fault_cells import Cell
from tests.support.fault_runs import ENVIRONMENT, Outcome, play_all
from tests.support.scaled_stack import ScaledStack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    with ScaledStack(tmp_path_factory.mktemp("faults"), environment=ENVIRONMENT) as stack:
        yield stack


@pytest.fixture(scope="module")
def outcomes(stack: ScaledStack, selected_cells: Callable[[], list[Cell]]) -> dict[Cell, Outcome]:
    return play_all(stack, selected_cells())


@pytest.fixture(scope="module")
def selected_cells(request: pytest.FixtureRequest) -> Callable[[], list[Cell]]:
    """Collect the cells that pytest selected, so that `-k` runs no others."""

    def find() -> list[Cell]:
        here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
        return list(dict.fromkeys(item.callspec.params["cell"] for item in here if "cell" in item.callspec.params))

    return find
