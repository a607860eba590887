"""What holds for every test: no settings from outside, no skips in CI, hypothesis without a stopwatch."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from app.api.openapi import documented_statuses
from tests.support import seen_statuses

# A slow machine is no failure, and what fails on one machine must fail on the next: the examples are a fixed set.
settings.register_profile(
    "visiona", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("visiona")

seen_statuses.watch_applications()

_SEEN_ELSEWHERE = pytest.StashKey[list[seen_statuses.Seen]]()
_DIFFERENCES = pytest.StashKey[list[str]]()

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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """In CI a skipped test is a failure: what is not run there proves nothing."""
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


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SEEN_ELSEWHERE] = []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the controller of several processes: one of them has ended, and tells what it has seen if it can."""
    output = getattr(node, "workeroutput", {})  # one that has crashed has none
    node.config.stash[_SEEN_ELSEWHERE].extend(tuple(one) for one in output.get("seen_statuses", []))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hold what all tests saw against the document, where all tests were run."""
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
