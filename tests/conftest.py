"""What holds for every test: no settings from outside, no skips in CI, hypothesis without a stopwatch."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A slow machine is no failure, and what fails on one machine must fail on the next: the examples are a fixed set.
settings.register_profile(
    "visiona", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("visiona")

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
