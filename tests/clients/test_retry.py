"""The retrier against a deadline: clipped timeouts, waits that fit, and whose failure it is."""

from contextlib import ExitStack, suppress

import pytest
from structlog.testing import capture_logs

from app.clients.bulkhead import BulkheadFullFailure
from app.clients.retry import MATRIX, SLOTS, Call, Retrier
from app.clients.transport import (
    NotConnectedFailure,
    ResponseLostFailure,
    ServerFailure,
    Timeouts,
    UnusableResponseFailure,
    UpstreamFailure,
)
from app.domain.call import Deadline
from app.errors import DeadlineExceededError, JobNotFoundError
from tests.support.calls import SERVICE_CALLS
from tests.support.clocks import FakeMonotonic, FakeSleep

CONTROL_CALLS = [call for call in SERVICE_CALLS if not MATRIX[call].is_streamed]
STREAMING_CALLS = [call for call in SERVICE_CALLS if MATRIX[call].is_streamed]


class Upstream:
    """Fails each try as told, after it has taken so long; records the timeouts that it was given."""

    def __init__(self, clock: FakeMonotonic, takes: float, failure: UpstreamFailure) -> None:
        self.clock, self.takes, self.failure = clock, takes, failure
        self.timeouts: list[Timeouts] = []

    def __call__(self, timeouts: Timeouts) -> str:
        self.timeouts.append(timeouts)
        self.clock.advance(self.takes)
        raise self.failure


def run(call: Call, seconds: float, takes: float, failure: UpstreamFailure) -> tuple[Upstream, FakeSleep, Exception]:
    clock = FakeMonotonic()
    sleep = FakeSleep(clock)
    upstream = Upstream(clock, takes, failure)
    with pytest.raises((UpstreamFailure, DeadlineExceededError)) as caught:
        Retrier(sleep=sleep).run(call, Deadline(seconds, clock), upstream)
    return upstream, sleep, caught.value


@pytest.mark.parametrize("call", CONTROL_CALLS)
def test_the_timeouts_of_each_try_are_clipped_to_the_time_left(call: Call) -> None:
    upstream, sleep, _ = run(call, seconds=7.5, takes=1, failure=ServerFailure("503", status=503))
    row = MATRIX[call].timeouts
    # Tries begin with 7.5, 5.5 and 2.5 seconds left: one second each, and waits of one and two.
    assert upstream.timeouts == [
        Timeouts(min(row.connect_seconds, left), min(row.idle_seconds, left), min(row.total_seconds or left, left))
        for left in (7.5, 5.5, 2.5)
    ]
    assert sleep.waits == [1.0, 2.0]


@pytest.mark.parametrize("call", STREAMING_CALLS)
def test_the_timeouts_of_a_stream_are_not_clipped(call: Call) -> None:
    upstream, _, _ = run(call, seconds=7.5, takes=0, failure=NotConnectedFailure("refused"))
    assert upstream.timeouts == [MATRIX[call].timeouts] * 3


@pytest.mark.parametrize("call", SERVICE_CALLS)
@pytest.mark.parametrize(
    ("seconds", "waits"),
    [(0.5, []), (1.0, []), (1.001, [1.0]), (3.0, [1.0]), (3.001, [1.0, 2.0]), (60, [1.0, 2.0])],
)
def test_no_wait_is_begun_that_cannot_end_within_the_deadline(call: Call, seconds: float, waits: list[float]) -> None:
    upstream, sleep, failure = run(call, seconds=seconds, takes=0, failure=NotConnectedFailure("refused"))
    assert sleep.waits == waits
    assert len(upstream.timeouts) == len(waits) + 1
    assert isinstance(failure, NotConnectedFailure), "the deadline ended nothing that the upstream had not ended first"


@pytest.mark.parametrize("call", CONTROL_CALLS)
def test_a_timeout_at_the_deadline_is_the_deadlines_failure(call: Call) -> None:
    _, sleep, failure = run(call, seconds=3, takes=3, failure=ResponseLostFailure("late", is_timeout=True))
    assert isinstance(failure, DeadlineExceededError)
    assert isinstance(failure.__cause__, ResponseLostFailure)
    assert sleep.waits == []


@pytest.mark.parametrize("call", CONTROL_CALLS)
def test_a_timeout_before_the_deadline_is_the_upstreams_failure(call: Call) -> None:
    upstream, sleep, failure = run(call, seconds=60, takes=10, failure=ResponseLostFailure("late", is_timeout=True))
    assert isinstance(failure, ResponseLostFailure)
    assert len(upstream.timeouts) == 3
    assert sleep.waits == [1.0, 2.0]


@pytest.mark.parametrize("call", CONTROL_CALLS)
def test_a_refusal_at_the_deadline_is_the_upstreams_failure(call: Call) -> None:
    _, _, failure = run(call, seconds=3, takes=3, failure=ServerFailure("503", status=503))
    assert isinstance(failure, ServerFailure)


@pytest.mark.parametrize("call", CONTROL_CALLS)
def test_a_spent_deadline_makes_no_try_at_all(call: Call) -> None:
    upstream, sleep, failure = run(call, seconds=0, takes=0, failure=ServerFailure("503"))
    assert isinstance(failure, DeadlineExceededError)
    assert upstream.timeouts == []
    assert sleep.waits == []


@pytest.mark.parametrize("call", CONTROL_CALLS)
def test_a_wait_for_a_slot_ends_with_the_deadline(call: Call) -> None:
    retrier = Retrier()
    bulkhead = retrier.bulkheads[call.bulkhead]
    with ExitStack() as inside:
        for _ in range(SLOTS):
            with suppress(BulkheadFullFailure):  # some slots are reserved for other kinds
                inside.enter_context(bulkhead.entered(call, 0))
        with pytest.raises(DeadlineExceededError):
            retrier.run(call, Deadline(0.05), lambda _timeouts: None)


def test_a_stream_that_has_begun_is_retried_past_the_deadline() -> None:
    clock = FakeMonotonic()
    sleep = FakeSleep(clock)
    upstream = Upstream(clock, 100, ResponseLostFailure("cut"))
    with pytest.raises(ResponseLostFailure):
        Retrier(sleep=sleep).run(Call.GET_FILE, Deadline(60, clock), upstream, has_begun=lambda: True)
    assert sleep.waits == [1.0, 2.0]


@pytest.mark.parametrize("call", SERVICE_CALLS)
@pytest.mark.parametrize("failure", [UnusableResponseFailure("what?"), JobNotFoundError(), ValueError("a bug")])
def test_a_failure_that_is_in_no_row_is_raised_at_once(call: Call, failure: Exception) -> None:
    sleep = FakeSleep()
    tries = []

    def send(timeouts: Timeouts) -> None:
        tries.append(timeouts)
        raise failure

    with pytest.raises(type(failure)) as caught:
        Retrier(sleep=sleep).run(call, Deadline(60), send)
    assert caught.value is failure
    assert len(tries) == 1
    assert sleep.waits == []


def test_each_retry_and_the_final_failure_are_logged_once() -> None:
    with capture_logs() as logs:
        run(Call.GET_JOB, seconds=60, takes=0, failure=ServerFailure("status 503", status=503))
    retries = [entry for entry in logs if entry["event"] == "upstream.retry"]
    assert [(entry["try_number"], entry["wait_seconds"], entry["status"]) for entry in retries] == [
        (1, 1, 503),
        (2, 2, 503),
    ]
    (end,) = [entry for entry in logs if entry["event"] == "upstream.failed"]
    assert end["call"] == "converter.get_job"
    assert end["kind"] == "server_error"
