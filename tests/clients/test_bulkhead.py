"""The bound on threads that hang on one upstream."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from app.clients.bulkhead import Bulkhead, BulkheadFullFailure
from app.clients.retry import MATRIX, SIGN_IN_SLOTS, SLOTS, Call, Retrier
from app.clients.transport import NotConnectedFailure, ResponseLostFailure, Timeouts
from app.config import RESERVED_THREADS
from app.domain.call import Deadline

CONTROL_CALLS = [call for call in Call if not MATRIX[call].is_streamed]


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inside() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def without_patience(clock: Clock, slots: int = 8, **limits_seconds: float) -> Bulkhead:
    """A bulkhead that refuses a call at once if no slot is free. It has two kinds of calls unless told otherwise."""
    return Bulkhead(slots, limits_seconds or {"quick": 10, "slow": 30}, patience_seconds=0.0, monotonic=clock)


def enter(inside: ExitStack, bulkhead: Bulkhead, kind: str, times: int = 1) -> None:
    for _ in range(times):
        inside.enter_context(bulkhead.entered(kind))


def is_refused(bulkhead: Bulkhead, kind: str) -> bool:
    try:
        with bulkhead.entered(kind):
            return False
    except BulkheadFullFailure:
        return True


def test_as_many_calls_may_enter_as_there_are_slots(clock: Clock, inside: ExitStack) -> None:
    bulkhead = without_patience(clock, slots=5, only=10)
    enter(inside, bulkhead, "only", 5)
    assert is_refused(bulkhead, "only")


def test_a_slot_is_released_when_the_call_raises(clock: Clock) -> None:
    bulkhead = without_patience(clock, slots=1, only=10)
    for _ in range(3):
        with pytest.raises(KeyError), bulkhead.entered("only"):
            raise KeyError
    assert not is_refused(bulkhead, "only")


@pytest.mark.parametrize("seconds_inside", [0, 5, 29, 600])
@pytest.mark.parametrize(("one", "other"), [("quick", "slow"), ("slow", "quick")])
def test_a_kind_of_call_leaves_slots_to_the_others_however_slow_it_is(
    clock: Clock, inside: ExitStack, one: str, other: str, seconds_inside: float
) -> None:
    bulkhead = without_patience(clock)
    enter(inside, bulkhead, one, 6)
    clock.now += seconds_inside
    assert is_refused(bulkhead, one)
    assert not bulkhead.is_full(other)
    enter(inside, bulkhead, other, 2)
    assert is_refused(bulkhead, other)


def test_a_free_slot_is_given_out_while_other_calls_hang(clock: Clock, inside: ExitStack) -> None:
    bulkhead = without_patience(clock)
    enter(inside, bulkhead, "quick", 5)
    clock.now += 600
    assert not bulkhead.is_full("quick")
    assert not is_refused(bulkhead, "quick")


@pytest.mark.parametrize(("kind", "seconds"), [("quick", 2.0), ("slow", 6.0)])
def test_a_call_hangs_after_a_fifth_of_its_time_limit(
    clock: Clock, inside: ExitStack, kind: str, seconds: float
) -> None:
    bulkhead = without_patience(clock)
    enter(inside, bulkhead, kind, 6)
    clock.now += seconds - 0.001
    assert not bulkhead.is_full(kind)
    clock.now += 0.001
    assert bulkhead.is_full(kind)
    inside.close()
    assert not bulkhead.is_full(kind)


def test_calls_that_have_just_begun_do_not_count_as_hanging(clock: Clock, inside: ExitStack) -> None:
    bulkhead = without_patience(clock)
    enter(inside, bulkhead, "quick", 2)
    clock.now += 10
    enter(inside, bulkhead, "quick", 4)
    assert not bulkhead.is_full("quick")  # most of them come to an end soon
    clock.now += 2
    assert bulkhead.is_full("quick")


@pytest.mark.parametrize("_turn", range(3))
def test_a_call_without_a_free_slot_waits_for_one(_turn: int) -> None:
    bulkhead = Bulkhead(1, {"only": 600}, patience_seconds=30.0)
    came_in = threading.Event()

    def follow() -> None:
        with bulkhead.entered("only"):
            came_in.set()

    follower = threading.Thread(target=follow)
    with bulkhead.entered("only"):
        follower.start()
        assert not came_in.is_set()
    follower.join(30)
    assert came_in.is_set()


def test_a_call_waits_for_a_slot_no_longer_than_its_caller_has_time() -> None:
    bulkhead = Bulkhead(1, {"only": 600}, patience_seconds=60.0)
    began = time.monotonic()
    with bulkhead.entered("only"), pytest.raises(BulkheadFullFailure) as caught, bulkhead.entered("only", 0.05):
        pass
    assert time.monotonic() - began < 30
    assert caught.value.is_timeout


@pytest.mark.parametrize("_turn", range(3))
def test_a_free_slot_goes_to_a_kind_that_may_enter(_turn: int) -> None:
    """A thread that may not enter yet must not be the only one that is woken."""
    bulkhead = Bulkhead(4, {"quick": 600, "slow": 600}, patience_seconds=30.0)
    came_in = {"quick": threading.Event(), "slow": threading.Event()}
    stays = threading.Event()

    def follow(kind: str) -> None:
        with bulkhead.entered(kind):
            came_in[kind].set()
            assert stays.wait(30)

    followers = [threading.Thread(target=follow, args=(kind,)) for kind in ("slow", "quick")]
    with ExitStack() as slow:
        enter(slow, bulkhead, "slow", 3)
        with bulkhead.entered("quick"):
            for follower in followers:
                follower.start()
            while len(bulkhead._changed._waiters) < 2:  # type: ignore[attr-defined]
                threading.Event().wait(0.001)
        assert came_in["quick"].wait(30)
        assert not came_in["slow"].is_set()
    assert came_in["slow"].wait(30)
    stays.set()
    for follower in followers:
        follower.join(30)


@pytest.mark.parametrize("_turn", range(3))
def test_any_number_of_threads_may_wait_for_a_call_that_does_not_hang(_turn: int) -> None:
    """A hundred callers share one call that ends in time, with four slots."""
    bulkhead, event, waiting = Bulkhead(4, {"only": 600}), threading.Event(), threading.Barrier(101)
    outcomes: list[bool] = []

    def wait() -> None:
        waiting.wait(30)
        outcomes.append(bulkhead.wait("only", event, 30))

    threads = [threading.Thread(target=wait) for _ in range(100)]
    for thread in threads:
        thread.start()
    waiting.wait(30)
    with bulkhead.entered("only"):  # waiting takes no slot of a call
        event.set()
    for thread in threads:
        thread.join(30)
    assert outcomes == [True] * 100
    assert not bulkhead._inside


@pytest.mark.parametrize("_turn", range(3))
def test_once_a_call_hangs_only_as_many_threads_wait_as_there_are_slots(_turn: int) -> None:
    bulkhead, event = Bulkhead(5, {"only": 1}), threading.Event()
    left, stayed, settled = [], [], threading.Semaphore(0)

    def wait() -> None:
        try:
            stayed.append(bulkhead.wait("only", event, 30))
        except BulkheadFullFailure:
            left.append(1)
            settled.release()

    threads = [threading.Thread(target=wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        assert settled.acquire(timeout=30)
    with pytest.raises(BulkheadFullFailure):
        bulkhead.wait("only", event, 30)
    event.set()
    for thread in threads:
        thread.join(30)
    assert (len(left), stayed) == (15, [True] * 5)
    assert not bulkhead._inside


def test_waiting_for_a_healthy_call_goes_on_while_another_kind_hangs(clock: Clock, inside: ExitStack) -> None:
    bulkhead = without_patience(clock)
    enter(inside, bulkhead, "slow", 6)
    clock.now += 600
    ended = threading.Event()
    ended.set()
    for _ in range(20):
        assert bulkhead.wait("quick", ended, 30)


def test_a_wait_ends_after_its_own_time(clock: Clock) -> None:
    assert without_patience(clock).wait("quick", threading.Event(), 0) is False


@pytest.mark.parametrize("_turn", range(3))
def test_there_are_never_more_calls_inside_than_slots(_turn: int) -> None:
    bulkhead = Bulkhead(4, {"a": 600, "b": 600}, patience_seconds=60)
    guard, now, most = threading.Lock(), 0, 0

    def visit(kind: str) -> None:
        nonlocal now, most
        for _ in range(20):
            with bulkhead.entered(kind):
                with guard:
                    now += 1
                    most = max(most, now)
                with guard:
                    now -= 1

    threads = [threading.Thread(target=visit, args=("ab"[number % 2],)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 0 < most <= 4
    assert now == 0
    assert bulkhead._calls.total() == 0


def test_a_stalled_upstream_leaves_threads_for_others() -> None:
    assert set(Retrier().bulkheads) == {"mc", "converter", "mc.sign_in"}


def test_sign_ins_that_hang_take_no_slots_of_the_other_calls_to_mc(inside: ExitStack) -> None:
    retrier = Retrier()
    for _ in range(SIGN_IN_SLOTS):
        inside.enter_context(retrier.bulkheads[Call.SIGN_IN.bulkhead].entered(Call.SIGN_IN))
    assert retrier.run(Call.TOKEN, Deadline(60), lambda _timeouts: "token") == "token"
    assert SIGN_IN_SLOTS + SLOTS < RESERVED_THREADS


def test_a_call_of_a_sign_in_is_made_once() -> None:
    """A code is good for one request; the person can begin again."""
    tries: list[Timeouts] = []

    def fails(timeouts: Timeouts) -> None:
        tries.append(timeouts)
        raise NotConnectedFailure("refused")

    with pytest.raises(NotConnectedFailure):
        Retrier().run(Call.SIGN_IN, Deadline(60), fails)
    assert tries == [Timeouts(connect_seconds=5, idle_seconds=pytest.approx(10), total_seconds=pytest.approx(10))]


@pytest.mark.parametrize("hanging", CONTROL_CALLS)
def test_every_control_call_leaves_slots_to_the_others_of_its_upstream(hanging: Call) -> None:
    bulkhead = Retrier().bulkheads[hanging.bulkhead]
    bulkhead._patience_seconds = 0
    with ExitStack() as inside:
        with pytest.raises(BulkheadFullFailure):
            enter(inside, bulkhead, hanging, SLOTS)
        for other in CONTROL_CALLS:
            if other is not hanging and other.bulkhead == hanging.bulkhead:
                enter(inside, bulkhead, other, 2)


@pytest.mark.parametrize("call", CONTROL_CALLS)
def test_with_a_full_bulkhead_a_call_is_neither_tried_nor_retried(call: Call, clock: Clock, inside: ExitStack) -> None:
    waits: list[float] = []
    retrier = Retrier(sleep=waits.append)
    bulkhead = without_patience(clock, slots=1, **{call.value: 10})
    retrier.bulkheads = {call.bulkhead: bulkhead}
    tries = []

    def stalls(_timeouts: Timeouts) -> None:
        tries.append(1)
        clock.now += 10
        raise ResponseLostFailure("stalled", is_timeout=True)

    with pytest.raises(ResponseLostFailure):
        retrier.run(call, Deadline(60, clock), stalls)
    assert (len(tries), waits) == (1, [])  # it was hanging itself

    enter(inside, bulkhead, call)
    clock.now += 10
    with pytest.raises(BulkheadFullFailure):
        retrier.run(call, Deadline(60, clock), stalls)
    assert len(tries) == 1


def test_streamed_calls_enter_no_bulkhead() -> None:
    retrier = Retrier()
    retrier.bulkheads = {}
    assert retrier.run(Call.CREATE_JOB, Deadline(60), lambda _timeouts: "sent") == "sent"
    assert retrier.run(Call.GET_FILE, Deadline(60), lambda _timeouts: "pulled") == "pulled"
