"""The cache of fetched values: how long they live, who fetches, who waits, and which failures are shared."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.clients.single_flight import SingleFlightCache
from app.domain.call import CallContext, Deadline
from app.errors import DeadlineExceededError, IDPUnavailableError
from tests.support.clocks import FakeMonotonic
from tests.support.fakes import call_context
from tests.support.parallel import in_parallel
from tests.support.waiting import CountedWait

THREE_TIMES = pytest.mark.parametrize("round_", range(3))


class Source:
    """Fetches numbered values into a cache; `before` runs in each fetch and may raise."""

    def __init__(self, seconds: float = 60, max_entries: int = 10) -> None:
        self.clock = FakeMonotonic(0.0)
        self.waiting = CountedWait()
        self.keys: list[str] = []
        self.before: Callable[[str], None] = lambda _key: None
        self.cache = SingleFlightCache(
            self._fetch, seconds=seconds, max_entries=max_entries, wait=self.waiting, monotonic=self.clock
        )

    def _fetch(self, key: str, context: CallContext) -> str:
        self.keys.append(key)
        number = len(self.keys)
        self.before(key)
        return f"{key}-{number}"

    def get(self, key: str = "a", context: CallContext | None = None) -> str:
        return self.cache.get(key, context or call_context())


# --- values


def test_a_value_is_cached_until_its_time_is_up() -> None:
    source = Source(seconds=60)
    assert source.cache.find("a") is None
    assert source.get() == "a-1"
    source.clock.now = 59.9
    assert (source.get(), source.cache.find("a")) == ("a-1", "a-1")
    source.clock.now = 60.0
    assert source.cache.find("a") is None
    assert source.get() == "a-2"


def test_each_key_has_a_value_of_its_own() -> None:
    source = Source()
    assert [source.get(key) for key in "abab"] == ["a-1", "b-2", "a-1", "b-2"]
    assert source.cache.keys() == ["a", "b"]


def test_the_number_of_values_is_bounded() -> None:
    source = Source(max_entries=3)
    for number in range(50):
        source.get(str(number))
    assert source.cache.keys() == ["47", "48", "49"]


def test_with_a_life_of_zero_nothing_is_cached() -> None:
    source = Source(seconds=0)
    assert [source.get(), source.get()] == ["a-1", "a-2"]
    assert source.cache.keys() == []


def test_a_value_that_is_not_accepted_is_replaced_and_stays_if_that_fails() -> None:
    source = Source()
    useless = source.get()
    renewed = [source.cache.get("a", call_context(), accepts=lambda value: value != useless) for _ in range(2)]
    assert renewed == ["a-2", "a-2"]

    def fail(_key: str) -> None:
        raise IDPUnavailableError("down")

    source.before = fail
    with pytest.raises(IDPUnavailableError):
        source.cache.get("a", call_context(), accepts=lambda _value: False)
    assert source.get() == "a-2"


def test_a_value_is_forgotten_unless_it_has_been_replaced() -> None:
    source = Source()
    old = source.get()
    assert source.cache.forget("a")
    assert not source.cache.forget("a")
    new = source.get()
    assert not source.cache.forget("a", old)
    assert source.get() == new == "a-2"
    assert source.cache.forget("a", new)


def test_a_value_that_expires_while_it_is_forgotten_is_no_failure() -> None:
    times = itertools.count(0.0, 0.6)
    cache = SingleFlightCache(lambda key, _context: key, seconds=1, max_entries=10, monotonic=lambda: next(times))
    cache.get("a", call_context())
    assert cache.forget("a")


# --- one fetch at a time


@THREE_TIMES
@pytest.mark.parametrize("seconds", [60, 0])
def test_a_hundred_threads_make_one_fetch(seconds: float, round_: int) -> None:
    source = Source(seconds=seconds)
    source.before = lambda _key: source.waiting.until(99)
    assert in_parallel(100, lambda _: source.get()) == ["a-1"] * 100
    assert source.keys == ["a"]


def test_threads_that_come_one_after_another_never_fetch_what_is_cached() -> None:
    """The cache and the running fetch are checked under one lock, so no fetch can end in between."""
    source = Source()
    values = in_parallel(50, lambda _: [source.get() for _ in range(200)])
    assert values == [["a-1"] * 200] * 50
    assert source.keys == ["a"]


@THREE_TIMES
def test_a_slow_key_does_not_delay_another(round_: int) -> None:
    source, slow, go_on = Source(), threading.Event(), threading.Event()

    def wait(key: str) -> None:
        if key == "slow":
            slow.set()
            assert go_on.wait(10)

    source.before = wait
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(source.get, "slow")
        assert slow.wait(10)
        assert source.get("quick") == "quick-2"
        assert not fetching.done()
        go_on.set()
        assert fetching.result() == "slow-1"


# --- failures


@THREE_TIMES
def test_a_hundred_threads_share_one_failure_and_each_gets_an_exception_of_its_own(round_: int) -> None:
    source = Source()

    def fail(_key: str) -> None:
        source.waiting.until(99)
        raise IDPUnavailableError("server_error: status 503", retry_after_seconds=7)

    source.before = fail
    failures = in_parallel(100, lambda _: source.get())
    assert source.keys == ["a"]
    assert {type(failure) for failure in failures} == {IDPUnavailableError}
    assert {(f.reason, f.retry_after_seconds) for f in failures} == {("server_error: status 503", 7)}  # type: ignore[attr-defined]
    assert len({id(failure) for failure in failures}) == 100


def test_a_failure_is_not_cached() -> None:
    source = Source()

    def fail_first(_key: str) -> None:
        if len(source.keys) == 1:
            raise IDPUnavailableError("down")

    source.before = fail_first
    with pytest.raises(IDPUnavailableError):
        source.get()
    assert source.get() == "a-2"


@THREE_TIMES
@pytest.mark.parametrize(
    ("failure", "context"),
    [
        pytest.param(DeadlineExceededError("its own"), call_context(), id="deadline"),
        pytest.param(RuntimeError("a bug"), call_context(), id="bug"),
        pytest.param(KeyboardInterrupt(), call_context(), id="interrupt"),
        pytest.param(
            IDPUnavailableError("no time for a retry"),
            CallContext(Deadline(5), has_short_deadline=True),
            id="short deadline",
        ),
    ],
)
def test_a_waiting_thread_takes_over_from_one_that_failed_for_reasons_of_its_own(
    failure: BaseException, context: CallContext, round_: int
) -> None:
    source, fetching = Source(), threading.Event()

    def fail_first(_key: str) -> None:
        if len(source.keys) == 1:
            fetching.set()
            source.waiting.until(9)
            raise failure

    source.before = fail_first

    def fetch_first() -> BaseException:
        with pytest.raises(type(failure)) as caught:
            source.get(context=context)
        return caught.value

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetch_first)
        assert fetching.wait(10)
        assert in_parallel(9, lambda _: source.get()) == ["a-2"] * 9
        assert first.result() is failure
    assert source.keys == ["a", "a"]


@THREE_TIMES
def test_a_waiting_thread_gives_up_at_its_own_deadline_and_the_fetch_goes_on(round_: int) -> None:
    source, fetching, go_on = Source(), threading.Event(), threading.Event()

    def wait(_key: str) -> None:
        fetching.set()
        assert go_on.wait(10)

    source.before = wait
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(source.get)
        assert fetching.wait(10)
        with pytest.raises(DeadlineExceededError):
            source.get(context=call_context(0.01))
        go_on.set()
        assert first.result() == "a-1"


def test_a_cached_value_is_returned_to_a_caller_without_time_to_fetch() -> None:
    source = Source()
    source.get()
    assert source.get(context=call_context(0.0)) == "a-1"


def test_what_waiting_raises_reaches_the_caller() -> None:
    fetching, go_on = threading.Event(), threading.Event()

    def fetch(_key: str, _context: CallContext) -> str:
        fetching.set()
        assert go_on.wait(10)
        return "value"

    def refuse(_event: threading.Event, _seconds: float) -> bool:
        raise IDPUnavailableError("too many threads wait")

    cache = SingleFlightCache(fetch, seconds=60, max_entries=1, wait=refuse)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.get, "a", call_context())
        assert fetching.wait(10)
        with pytest.raises(IDPUnavailableError, match="too many"):
            cache.get("a", call_context())
        go_on.set()
        assert first.result() == "value"
