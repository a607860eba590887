"""Collect the cells that pytest selected, so that `-k` runs no others."""

from collections.abc import Callable

import pytest

from tests.support.fault_cells import Cell


@pytest.fixture(scope="module")
def selected_cells(request: pytest.FixtureRequest) -> Callable[[], list[Cell]]:
    def find() -> list[Cell]:
        here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
        return list(dict.fromkeys(item.callspec.params["cell"] for item in here if "cell" in item.callspec.params))

    return find
