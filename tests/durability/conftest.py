"""Real processes that are stopped, killed and filled up. Each file has a stack of its own and says how it differs.

A file whose `pytestmark` has ON_BOTH_ENGINES runs on SQLite and a folder, and again on PostgreSQL and S3: where it
matters how the two behave. With ON_HOST_AND_CLUSTER the second run has two replicas. The others run on SQLite and a
folder alone, which is quicker.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.scaled_stack import ScaledStack
from tests.support.stores import LocalStores, ServerStores, Stores

ON_BOTH_ENGINES = pytest.mark.parametrize("engine", ["local", "servers"], indirect=True, scope="module")
ON_HOST_AND_CLUSTER = pytest.mark.parametrize("engine", ["local", "cluster"], indirect=True, scope="module")

WSGI = "wsgi:app"
SCALED = "tests.support.scaled_gateway:make_app()"


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Return further settings of the gateway; a file overrides it."""
    return {}


@pytest.fixture(scope="module")
def application() -> str:
    """The product itself; a file that has to wait for retries takes the scaled one."""
    return WSGI


@pytest.fixture(scope="module")
def sandbox_options() -> dict[str, object]:
    """Options of the sandbox; without one a job lasts until a test ends it."""
    return {}


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    """Where records and files are, and how many replicas there are: "local", "servers" or "cluster"."""
    return str(getattr(request, "param", "local"))


@pytest.fixture(scope="module")
def module_stack(
    request: pytest.FixtureRequest,
    engine: str,
    tmp_path_factory: pytest.TempPathFactory,
    application: str,
    environment: dict[str, str],
    sandbox_options: dict[str, object],
) -> Iterator[ScaledStack]:
    """A gateway with two workers (each), a sandbox of its own, and as many people as a test wants."""
    directory: Path = tmp_path_factory.mktemp("durable")
    options: dict[str, Any] = {"application": application, "environment": environment, **sandbox_options}
    if engine == "cluster":
        servers = request.getfixturevalue("postgresql"), request.getfixturevalue("s3_server")
        with Cluster(directory, *servers, **options) as cluster:
            yield cluster
        return
    stores: Stores = LocalStores(directory)
    if engine == "servers":
        stores = ServerStores(request.getfixturevalue("postgresql"), request.getfixturevalue("s3_server"))
    with ScaledStack(directory, workers=2, stores=stores, **options) as stack:
        yield stack


@pytest.fixture
def stack(module_stack: ScaledStack) -> ScaledStack:
    """The file's stack, without jobs, faults and logs of calls."""
    module_stack.reset()
    return module_stack
