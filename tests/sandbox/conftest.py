"""A sandbox for these tests, started once."""

import uuid
from collections.abc import Iterator

import pytest
import requests

from sandbox.running import Running, start
from tests.sandbox.callers import Browser, Caller, settings_for


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with start(settings_for(tmp_path_factory.mktemp("sandbox"))) as running:
        yield running


@pytest.fixture
def sandbox(shared_sandbox: Running) -> Iterator[Running]:
    """The shared sandbox, left without fault rules and logs."""
    yield shared_sandbox
    with requests.Session() as session:
        for url in (shared_sandbox.urls.of(service) for service in shared_sandbox.settings.services):
            session.delete(f"{url}/_sandbox/faults", timeout=10)
            session.delete(f"{url}/_sandbox/calls", timeout=10)
        session.delete(f"{shared_sandbox.urls.converter}/_sandbox/uploads", timeout=10)


@pytest.fixture
def caller(sandbox: Running) -> Iterator[Caller]:
    caller = Caller(sandbox)
    yield caller
    caller.close()


@pytest.fixture
def browser(sandbox: Running) -> Iterator[Browser]:
    browser = Browser(sandbox)
    yield browser
    browser.close()


@pytest.fixture
def user_id() -> str:
    """Return a user id that no other test uses."""
    return f"u-{uuid.uuid4().hex[:12]}"
