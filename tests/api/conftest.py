"""Fixtures of the edge's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.edge import Edge, make_edge


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """The edge with conversion enabled."""
    with make_edge(tmp_path) as made:
        yield made
