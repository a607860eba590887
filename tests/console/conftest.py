"""One gateway behind nginx, and one Chromium, for all tests of a pytest process."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.browser import Visitor, VisitorFactory
from tests.support.chromium import shared_browser
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("console"), nginx={}) as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """The shared stack, without jobs and faults at the converter and with empty libraries. Histories remain."""
    shared_stack.reset()
    for name in ("alice", "bob"):
        person = shared_stack.signed_in(name)
        for model in person.get("/api/models?limit=100").json()["models"]:
            assert person.delete(f"/api/models/{model['id']}").status_code == 204
    return shared_stack


@pytest.fixture
def visit(stack: Stack) -> Iterator[VisitorFactory]:
    """Create visitors. When the test ends, they are closed, and it fails if their browsers reported problems."""
    visitors: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        visitors.append(Visitor(shared_browser(), stack, **options))
        return visitors[-1]

    yield make
    troubles = [trouble for visitor in visitors for trouble in visitor.leave()]
    assert not troubles, "\n".join(troubles)
