"""Real processes that are stopped, killed and filled up. Each file has a stack of its own and says how it differs.

A file whose `pytestmark` has ON_BOTH_ENGINES runs on SQLite and a folder, and again on PostgreSQL and S3: where it
matters how the two behave. The others run on the former alone, which is quicker.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scaled_stack import ScaledStack
from tests.support.stores import LocalStores, ServerStores, Stores

ON_BOTH_ENGINES = pytest.mark.parametrize("engine", ["local", "servers"], indirect=True, scope="module")

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
    """Where records and files are: see ON_BOTH_ENGINES."""
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
    """A gateway with two workers, a sandbox of its own, and as many people as a test wants."""
    directory: Path = tmp_path_factory.mktemp("durable")
    stores: Stores = LocalStores(directory)
    if engine == "servers":
        stores = ServerStores(request.getfixturevalue("postgresql"), request.getfixturevalue("s3_server"))
    with ScaledStack(
        directory, application=application, workers=2, environment=environment, stores=stores, **sandbox_options
    ) as stack:
        yield stack


@pytest.fixture
def stack(module_stack: ScaledStack) -> ScaledStack:
    """The file's stack, without jobs, faults and logs of calls."""
    module_stack.reset()
    return module_stack
