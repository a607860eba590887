"""A new bench for each test."""

import pytest

from tests.unit.services.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
