"""Fixtures of the tests of the edge and of the sign-in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.edge import Edge, make_edge
from tests.api.oidc_provider import FakeClock, OIDCProvider, World, make_world, running_provider


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """The edge with conversion enabled."""
    with make_edge(tmp_path) as made:
        yield made


@pytest.fixture
def clock() -> FakeClock:
    """The clock of `world` and `provider`."""
    return FakeClock()


@pytest.fixture
def provider(clock: FakeClock) -> Iterator[OIDCProvider]:
    """A real OpenID provider on a local port."""
    with running_provider(clock) as provider:
        yield provider


@pytest.fixture
def world(provider: OIDCProvider, clock: FakeClock) -> World:
    """A gateway whose people sign in at `provider`."""
    return make_world(provider.issuer, clock, provider=provider)
