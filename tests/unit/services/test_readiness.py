"""Readiness while parts fail, hang and recover, with many probes at once."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.config import ConfigurationError
from app.errors import StorageUnavailableError
from app.services.readiness import CACHE_SECONDS, Readiness
from tests.support.clocks import FakeMonotonic
from tests.support.processes import wait_until

PATIENCE = 10.0


class HangingPart:
    """A check that counts its calls and hangs until it is released."""

    def __init__(self) -> None:
        self.calls = 0
        self.release = threading.Event()

    def __call__(self) -> None:
        self.calls += 1
        self.release.wait(PATIENCE)


@pytest.fixture
def hanging() -> Iterator[HangingPart]:
    part = HangingPart()
    yield part
    part.release.set()


def failing(error: Exception) -> Callable[[], None]:
    def check() -> None:
        raise error

    return check


def works() -> None:
    """A part that works."""


def readiness_threads() -> int:
    return sum(thread.name.startswith("readiness-") for thread in threading.enumerate())


def test_each_part_is_ok_or_has_the_code_of_its_error() -> None:
    checks = {
        "database": works,
        "storage": failing(StorageUnavailableError("disk full")),
        "configuration": failing(ConfigurationError(["VISIONA_CA_FILE is gone"])),
    }
    assert Readiness(checks).states() == {
        "database": "ok",
        "storage": "storage_unavailable",
        "configuration": "configuration_invalid",
    }


def test_a_result_is_cached_for_two_seconds() -> None:
    calls: list[int] = []
    clock = FakeMonotonic()
    readiness = Readiness({"database": lambda: calls.append(1)}, monotonic=clock)
    for _ in range(10):
        readiness.states()
    clock.advance(CACHE_SECONDS - 0.1)
    readiness.states()
    assert len(calls) == 1
    clock.advance(0.2)
    readiness.states()
    assert len(calls) == 2


def test_a_part_that_hangs_is_named_and_does_not_affect_the_others(hanging: HangingPart) -> None:
    readiness = Readiness({"database": works, "storage": hanging}, part_seconds=0.1)
    assert readiness.states() == {"database": "ok", "storage": "timeout"}


def test_a_part_that_still_hangs_is_not_checked_a_second_time(hanging: HangingPart) -> None:
    clock = FakeMonotonic()
    readiness = Readiness({"database": works, "storage": hanging}, part_seconds=0.05, monotonic=clock)
    for _ in range(5):
        assert readiness.states()["storage"] == "timeout"
        clock.advance(CACHE_SECONDS)
    assert hanging.calls == 1
    hanging.release.set()
    wait_until(lambda: not readiness_threads(), "the check that hung has ended")
    assert readiness.states()["storage"] == "ok"


def test_many_probes_at_once_share_one_check_and_hold_few_threads(hanging: HangingPart) -> None:
    """One probe checks, four wait for it, and the others get "not ready" at once, because nothing is known yet."""
    readiness = Readiness({"storage": hanging}, part_seconds=PATIENCE)
    with ThreadPoolExecutor(32) as pool:
        first = pool.submit(readiness.states)
        wait_until(lambda: hanging.calls == 1, "the first probe checks")
        others = [pool.submit(readiness.states) for _ in range(31)]
        wait_until(lambda: sum(other.done() for other in others) >= 27, "all but four are answered")
        assert {other.result()["storage"] for other in others if other.done()} == {"timeout"}
        assert not first.done()
        hanging.release.set()
        assert first.result()["storage"] == "ok"
        assert [other.result()["storage"] for other in others].count("ok") == 4
    assert hanging.calls == 1


def test_a_check_with_a_bug_fails_its_probe_and_is_repeated() -> None:
    readiness = Readiness({"storage": failing(RuntimeError("a bug"))})
    for _ in range(2):
        with pytest.raises(RuntimeError):
            readiness.states()
