"""One gateway behind nginx and a network for all browsers, and each browser for one test."""

from collections.abc import Iterator

import pytest

from tests.browsers.drivers import Browser
from tests.browsers.engines import ENGINES, browser_of
from tests.browsers.network import Network
from tests.support.processes import free_port
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Network]]:
    port = free_port()
    with Stack(tmp_path_factory.mktemp("stack"), nginx={"public": f"http://localhost:{port}"}) as stack:
        assert stack.nginx is not None
        with Network(port, stack.nginx.port) as network:
            yield stack, network


@pytest.fixture
def stack(shared: tuple[Stack, Network]) -> Stack:
    stack, network = shared
    network.restore()
    stack.reset()
    return stack


@pytest.fixture
def network(shared: tuple[Stack, Network]) -> Network:
    return shared[1]


@pytest.fixture(params=ENGINES)
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    # Chromium makes a socket there, so the path must be short.
    with browser_of(request.param, tmp_path_factory.mktemp(request.param)) as browser:
        yield browser
