"""Rules and fixtures for all tests.

Tests see no settings from outside, a skip fails in CI, and hypothesis has no deadline. Each process of a test run has
one PostgreSQL cluster and one S3 server, started for the first test that needs it.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from app.api.openapi import documented_statuses
from tests.support import seen_statuses
from tests.support.postgresql import PostgreSQL
from tests.support.s3_server import S3Server

# A slow machine is no failure, and what fails on one machine must fail on the next: the examples are a fixed set.
settings.register_profile(
    "visiona", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("visiona")

seen_statuses.watch_applications()

_SEEN_ELSEWHERE = pytest.StashKey[list[seen_statuses.Seen]]()
_DIFFERENCES = pytest.StashKey[list[str]]()

#: Folders whose tests start no processes.
_QUICK = {"api", "clients", "unit"}

IS_CI = os.environ.get("CI") == "true"


@pytest.fixture(autouse=True, scope="session")
def _without_settings_from_outside() -> Iterator[None]:
    """Keep the developer's own VISIONA_* out of the tests."""
    outside = {name: value for name, value in os.environ.items() if name.startswith("VISIONA_")}
    kept = {name: value for name, value in outside.items() if name.startswith("VISIONA_TEST_")}
    for name in outside.keys() - kept.keys():
        del os.environ[name]
    yield
    os.environ.update(outside)


@pytest.fixture(autouse=True, scope="session")
def _without_a_browser_left() -> Iterator[None]:
    """End the browser, if a test has started one."""
    yield
    if browser := sys.modules.get("tests.support.chromium"):
        browser.end_shared_browser()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A running PostgreSQL cluster. Leave it running: stop and freeze it by `stopped()` and `frozen()`."""
    with PostgreSQL(tmp_path_factory.mktemp("postgresql") / "postgresql.log") as cluster:
        yield cluster


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """The URL of an empty database for one test."""
    url = postgresql.create_database()
    yield url
    postgresql.drop_database(url)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server. Leave it running: freeze it by `frozen()`."""
    with S3Server(tmp_path_factory.mktemp("s3") / "s3.log") as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket for one test; boto3 finds its server, in this process and in those it starts."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.create_bucket()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Make a skipped test fail in CI: it would prove nothing there."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if IS_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as a failure in CI: {report.longrepr}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole-suite",
        action="store_true",
        help="fail unless every status that the API documents was seen, and no other",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the folders with slow files first, so that no worker is left with a long one at the end."""
    tests = config.rootpath / "tests"
    items.sort(key=lambda item: item.path.is_relative_to(tests) and item.path.relative_to(tests).parts[0] in _QUICK)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SEEN_ELSEWHERE] = []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the statuses that a worker has seen, in the controller."""
    output = getattr(node, "workeroutput", {})  # one that has crashed has none
    node.config.stash[_SEEN_ELSEWHERE].extend(tuple(one) for one in output.get("seen_statuses", []))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Compare the statuses that all tests saw with the documented ones, if all tests ran."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["seen_statuses"] = seen_statuses.seen()
        return
    if config.getoption("--whole-suite"):
        everything = [*config.stash[_SEEN_ELSEWHERE], *seen_statuses.seen()]
        found = seen_statuses.differences(everything, documented_statuses())
        config.stash[_DIFFERENCES] = found
        if found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if found := config.stash.get(_DIFFERENCES, []):
        terminalreporter.section("the API's description and what was seen differ", red=True)
        for sentence in found:
            terminalreporter.line(sentence)
