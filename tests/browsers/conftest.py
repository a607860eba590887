"""One gateway behind nginx for all browsers, and each browser for one test."""

from collections.abc import Iterator

import pytest

from tests.browsers.drivers import Browser
from tests.browsers.engines import ENGINES, browser_of
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("browsers"), nginx={}) as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    shared_stack.reset()
    return shared_stack


@pytest.fixture(params=ENGINES)
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    # Chromium makes a socket there, so the path must be short.
    with browser_of(request.param, tmp_path_factory.mktemp(request.param)) as browser:
        yield browser
