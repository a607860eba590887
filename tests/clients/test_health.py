"""What calls experienced: counted by try and by call, and remembered as the last thing that is known of an upstream."""

import pytest

from app.clients.health import Experience, UpstreamHealth
from app.clients.retry import Call, Retrier, count_failure
from app.clients.transport import NotConnectedFailure, ServerFailure, Timeouts, UnusableResponseFailure, UpstreamFailure
from app.domain.call import Deadline
from app.errors import ActiveJobConflictError
from tests.support.clocks import FakeMonotonic, FakeSleep
from tests.support.counts import increase

LABELS = {"upstream": "converter", "call": "converter.get_job"}


class Scripted:
    """Gives or raises one thing after another; each takes two seconds."""

    def __init__(self, clock: FakeMonotonic, *outcomes: object) -> None:
        self.clock, self.outcomes = clock, list(outcomes)

    def __call__(self, _timeouts: Timeouts) -> object:
        self.clock.advance(2)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_an_upstream_without_calls_has_no_outcome() -> None:
    assert UpstreamHealth().last("converter") is None


def test_tries_retries_and_failures_are_counted_and_the_last_one_is_remembered() -> None:
    clock = FakeMonotonic()
    retrier = Retrier(sleep=FakeSleep(clock), monotonic=clock)
    tries, retries = (increase(f"visiona_upstream_{name}_total", **LABELS) for name in ("tries", "retries"))
    failures = increase("visiona_upstream_failures_total", **LABELS)
    given_up = increase("visiona_upstream_given_up_total", **LABELS)
    seconds = increase("visiona_upstream_try_seconds_sum", **LABELS)
    upstream = Scripted(clock, ServerFailure("503", status=503), NotConnectedFailure("refused"), "a response")
    assert retrier.run(Call.GET_JOB, Deadline(60, clock), upstream) == "a response"
    assert (tries(), retries(), failures(), given_up(), seconds()) == (3, 2, 2, 0, 6)
    clock.advance(5)
    assert retrier.health.last("converter") == Experience("answered", 5)
    assert retrier.health.last("mc") is None


def test_a_call_that_fails_in_the_end_is_given_up_once() -> None:
    clock = FakeMonotonic()
    retrier = Retrier(sleep=FakeSleep(clock), monotonic=clock)
    given_up = increase("visiona_upstream_given_up_total", kind="server_error", **LABELS)
    upstream = Scripted(clock, *(ServerFailure("503", status=503) for _ in range(3)))
    with pytest.raises(UpstreamFailure):
        retrier.run(Call.GET_JOB, Deadline(60, clock), upstream)
    assert given_up() == 1
    assert retrier.health.last("converter") == Experience("server_error", 0)


def test_a_failure_of_the_client_is_not_the_upstreams() -> None:
    """An upload that its client aborts says nothing about the converter."""
    clock = FakeMonotonic()
    retrier = Retrier(sleep=FakeSleep(clock), monotonic=clock)
    failures, tries = increase("visiona_upstream_failures_total"), increase("visiona_upstream_tries_total")
    with pytest.raises(ActiveJobConflictError):
        retrier.run(Call.CREATE_JOB, Deadline(60, clock), Scripted(clock, ActiveJobConflictError("theirs")))
    assert (failures(), tries()) == (0, 1)
    assert retrier.health.last("converter") is None


def test_a_failure_that_passes_several_hands_is_counted_once() -> None:
    failures = increase("visiona_upstream_failures_total", kind="unusable", **LABELS)
    failure = UnusableResponseFailure("not a job")
    count_failure(Call.GET_JOB, failure)
    count_failure(Call.GET_JOB, failure)
    assert failures() == 1
