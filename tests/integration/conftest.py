"""One gateway with its sandbox for all tests of a pytest process; a file that needs another overrides `stack`."""

from collections.abc import Iterator

import pytest

from tests.support.clients import Client
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """The shared stack, without jobs, faults and logs of calls."""
    shared_stack.reset()
    return shared_stack


@pytest.fixture
def alice(stack: Stack) -> Client:
    return stack.signed_in("alice")


@pytest.fixture
def bob(stack: Stack) -> Client:
    return stack.signed_in("bob")
