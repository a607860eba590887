"""The bound on threads that hang on one upstream."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from app.clients.bulkhead import Bulkhead, CrowdedFailure
from app.clients.retry import MATRIX, PLACES, SIGN_IN_PLACES, Call, Retrier, SignInCall
from app.clients.transport import AnswerLostFailure, NotConnectedFailure, Timeouts
from app.config import WORKER_THREADS
from app.domain.call import Deadline


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


def impatient(clock: Clock, places: int = 5) -> Bulkhead:
    return Bulkhead(places, most_hanging=3, hanging_seconds=2.0, patience_seconds=0.0, monotonic=clock)


def test_there_is_room_for_as_many_as_there_are_places(clock: Clock, inside: ExitStack) -> None:
    bulkhead = impatient(clock)
    for _ in range(5):
        inside.enter_context(bulkhead.entered())
    with pytest.raises(CrowdedFailure), bulkhead.entered():
        pass


def test_a_place_is_given_back_whatever_happens_inside(clock: Clock) -> None:
    bulkhead = impatient(clock, places=1)
    for _ in range(3):
        with pytest.raises(KeyError), bulkhead.entered():
            raise KeyError
    with bulkhead.entered():
        pass


def test_nobody_comes_in_while_enough_have_been_hanging_for_long(clock: Clock, inside: ExitStack) -> None:
    bulkhead = impatient(clock)
    for _ in range(3):
        inside.enter_context(bulkhead.entered())
    clock.now += 1.999
    assert not bulkhead.is_crowded
    clock.now += 0.001
    assert bulkhead.is_crowded
    with pytest.raises(CrowdedFailure), bulkhead.entered():
        pass
    inside.close()
    assert not bulkhead.is_crowded
    with bulkhead.entered():
        pass


def test_those_who_have_just_come_do_not_count_as_hanging(clock: Clock, inside: ExitStack) -> None:
    bulkhead = impatient(clock)
    for _ in range(2):
        inside.enter_context(bulkhead.entered())
    clock.now += 10
    inside.enter_context(bulkhead.entered())
    assert not bulkhead.is_crowded
    with bulkhead.entered():
        pass


@pytest.mark.parametrize("_turn", range(3))
def test_who_finds_no_place_waits_for_one(_turn: int) -> None:
    bulkhead = Bulkhead(1, patience_seconds=30.0)
    came_in = threading.Event()

    def follow() -> None:
        with bulkhead.entered():
            came_in.set()

    follower = threading.Thread(target=follow)
    with bulkhead.entered():
        follower.start()
        assert not came_in.is_set()
    follower.join(30)
    assert came_in.is_set()


@pytest.mark.parametrize("_turn", range(3))
def test_those_who_wait_for_a_call_are_as_many_as_come_and_leave_with_it(_turn: int) -> None:
    """A hundred callers share one call that ends in time, whatever the number of places."""
    bulkhead, event, waiting = Bulkhead(4, hanging_seconds=60), threading.Event(), threading.Barrier(101)
    outcomes: list[bool] = []

    def wait() -> None:
        waiting.wait(30)
        outcomes.append(bulkhead.wait(event, 30))

    threads = [threading.Thread(target=wait) for _ in range(100)]
    for thread in threads:
        thread.start()
    waiting.wait(30)
    with bulkhead.entered():  # waiting takes nobody's place for a call
        event.set()
    for thread in threads:
        thread.join(30)
    assert outcomes == [True] * 100
    assert not bulkhead.is_crowded


@pytest.mark.parametrize("_turn", range(3))
def test_once_it_is_crowded_only_as_many_stay_waiting_as_there_are_places(_turn: int) -> None:
    bulkhead, event = Bulkhead(5, most_hanging=3, hanging_seconds=0.2), threading.Event()
    left, stayed, settled = [], [], threading.Semaphore(0)

    def wait() -> None:
        try:
            stayed.append(bulkhead.wait(event, 30))
        except CrowdedFailure:
            left.append(1)
            settled.release()

    threads = [threading.Thread(target=wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        assert settled.acquire(timeout=30)
    assert bulkhead.is_crowded
    event.set()
    for thread in threads:
        thread.join(30)
    assert (len(left), stayed) == (15, [True] * 5)


def test_a_wait_has_its_own_end(clock: Clock) -> None:
    assert Bulkhead(1, monotonic=clock).wait(threading.Event(), 0) is False


@pytest.mark.parametrize("_turn", range(3))
def test_never_more_are_inside_than_there_are_places(_turn: int) -> None:
    bulkhead = Bulkhead(4, most_hanging=4, hanging_seconds=60, patience_seconds=60)
    guard, now, most = threading.Lock(), 0, 0

    def visit() -> None:
        nonlocal now, most
        for _ in range(20):
            with bulkhead.entered():
                with guard:
                    now += 1
                    most = max(most, now)
                with guard:
                    now -= 1

    threads = [threading.Thread(target=visit) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 0 < most <= 4
    assert now == 0


def test_a_stalled_upstream_leaves_threads_for_others() -> None:
    assert PLACES < WORKER_THREADS
    upstreams = {call.upstream for call in Call}
    assert set(Retrier().bulkheads) == upstreams | {"mc.sign_in"}


def test_sign_ins_that_hang_take_no_places_of_the_calls_for_people_who_are_signed_in(inside: ExitStack) -> None:
    retrier = Retrier()
    for _ in range(SIGN_IN_PLACES):
        inside.enter_context(retrier.bulkheads[SignInCall.SIGN_IN.bulkhead].entered())
    assert retrier.run(Call.TOKEN, Deadline(60), lambda _timeouts: "token") == "token"
    assert SIGN_IN_PLACES + PLACES < WORKER_THREADS


def test_a_call_of_a_sign_in_is_made_once() -> None:
    """A code is good for one request; the person can begin again."""
    tries: list[Timeouts] = []

    def fails(timeouts: Timeouts) -> None:
        tries.append(timeouts)
        raise NotConnectedFailure("refused")

    with pytest.raises(NotConnectedFailure):
        Retrier().run(SignInCall.SIGN_IN, Deadline(60), fails)
    assert tries == [Timeouts(connect_seconds=5, idle_seconds=pytest.approx(10), total_seconds=pytest.approx(10))]


@pytest.mark.parametrize("call", [call for call in Call if MATRIX[call].timeouts.total_seconds is not None])
def test_on_a_crowded_upstream_a_try_is_not_made_and_not_retried(call: Call, clock: Clock, inside: ExitStack) -> None:
    waits: list[float] = []
    retrier = Retrier(sleep=waits.append)
    bulkhead = Bulkhead(20, most_hanging=1, patience_seconds=0, monotonic=clock)
    retrier.bulkheads = {call.upstream: bulkhead}
    tries = []

    def stalls(_timeouts: Timeouts) -> None:
        tries.append(1)
        clock.now += 10
        raise AnswerLostFailure("stalled", is_timeout=True)

    with pytest.raises(AnswerLostFailure):
        retrier.run(call, Deadline(60, clock), stalls)
    assert (len(tries), waits) == (1, [])  # it had hung for long itself, so it did not hang on

    inside.enter_context(bulkhead.entered())
    clock.now += 10
    with pytest.raises(CrowdedFailure):
        retrier.run(call, Deadline(60, clock), stalls)
    assert len(tries) == 1


def test_streamed_calls_have_the_transfer_places_as_their_bound(clock: Clock, inside: ExitStack) -> None:
    retrier = Retrier()
    bulkhead = Bulkhead(1, most_hanging=1, patience_seconds=0, monotonic=clock)
    retrier.bulkheads = dict.fromkeys(retrier.bulkheads, bulkhead)
    inside.enter_context(bulkhead.entered())
    assert retrier.run(Call.CREATE_JOB, Deadline(60), lambda _timeouts: "sent") == "sent"
    assert retrier.run(Call.GET_FILE, Deadline(60), lambda _timeouts: "pulled") == "pulled"


def test_nobody_begins_to_wait_for_anothers_call_while_enough_hang(clock: Clock, inside: ExitStack) -> None:
    """A follower holds a thread as long as the leader does; it is refused before it begins, and leaves nothing."""
    bulkhead = impatient(clock)
    for _ in range(3):
        inside.enter_context(bulkhead.entered())
    clock.now += 2.0
    with pytest.raises(CrowdedFailure):
        bulkhead.wait(threading.Event(), 60.0)
    inside.close()
    with bulkhead.entered():
        pass
