"""The retry matrix: one table, from which the tenacity policies are made.

When a call is tried again, how often, after which wait, and how long a try may take stands here and nowhere else.
There is no jitter: single flight has already gathered the callers. Control calls share their request's deadline: each
try's time is clipped to what is left, and no wait is begun that cannot end in time.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed
from tenacity.stop import stop_base

from app import metrics
from app.clients.bulkhead import Bulkhead, BulkheadFullFailure
from app.clients.health import ANSWERED, UpstreamHealth
from app.clients.transport import (
    BodyCutFailure,
    NotConnectedFailure,
    ResponseLostFailure,
    ServerFailure,
    Timeouts,
    UnusableResponseFailure,
    UpstreamFailure,
)
from app.config import WORKER_THREADS
from app.domain.call import Deadline
from app.errors import DeadlineExceededError, GatewayError

log = structlog.get_logger(__name__)

T = TypeVar("T")
Sleep = Callable[[float], None]


class UpstreamCall(StrEnum):
    """A call to an upstream; its value names it in logs and metrics."""

    @property
    def upstream(self) -> str:
        """The upstream that is called: `mc`, `converter` or `faa`."""
        return self.value.split(".")[0]

    @property
    def bulkhead(self) -> str:
        """The bulkhead that the call enters: its upstream's, if it has none of its own."""
        return self.upstream


class Call(UpstreamCall):
    """The calls that are made for people who are signed in."""

    TOKEN = "mc.token"  # noqa: S105 - a name
    DOWNLOAD_TOKEN = "mc.download_token"  # noqa: S105 - a name
    GET_JOB = "converter.get_job"
    LIST_JOBS = "converter.list_jobs"
    PROMOTE = "converter.promote"
    CREATE_JOB = "converter.create_job"
    GET_FILE = "faa.get_file"


class SignInCall(UpstreamCall):
    """The calls that sign somebody in: discovery, keys, the token request and userinfo.

    Anybody can cause them, so that they have a bulkhead of their own: outsiders cannot take the places of the calls
    for people who are signed in. They are made once. A code is good for one request, and the person can try again.
    """

    SIGN_IN = "mc.sign_in"

    @property
    def bulkhead(self) -> str:
        """Their own bulkhead."""
        return self.value


#: The upstreams, in the order of the calls.
UPSTREAMS = tuple(dict.fromkeys(call.upstream for call in Call))

_TRANSIENT = (NotConnectedFailure, ResponseLostFailure, ServerFailure)
_WAITS = (1.0, 2.0)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """One row of the matrix. `waits_seconds` has one wait a retry; `timeouts` are those of each try."""

    retried_on: tuple[type[UpstreamFailure], ...]
    waits_seconds: tuple[float, ...]
    timeouts: Timeouts

    @property
    def tries(self) -> int:
        """The first try and the retries."""
        return 1 + len(self.waits_seconds)


def _control(seconds: float, retried_on: tuple[type[UpstreamFailure], ...] = _TRANSIENT) -> RetryPolicy:
    return RetryPolicy(retried_on, _WAITS, Timeouts(min(5.0, seconds), seconds, seconds))


_STREAM = Timeouts(connect_seconds=5.0, idle_seconds=60.0, total_seconds=None)

MATRIX: Mapping[UpstreamCall, RetryPolicy] = {
    Call.TOKEN: _control(10.0),
    Call.DOWNLOAD_TOKEN: _control(10.0),
    Call.GET_JOB: _control(10.0),
    Call.LIST_JOBS: _control(10.0),
    Call.PROMOTE: _control(30.0),
    # After the first byte nothing can be sent again: the body is gone, and a job may have come of it.
    Call.CREATE_JOB: RetryPolicy((NotConnectedFailure,), _WAITS, _STREAM),
    # After the first body byte a retry goes on with Range; it is one of the same retries.
    Call.GET_FILE: RetryPolicy(_TRANSIENT, _WAITS, _STREAM),
    SignInCall.SIGN_IN: RetryPolicy((), (), Timeouts(5.0, 10.0, 10.0)),
}


_KINDS = tuple(
    failure.kind
    for failure in (
        NotConnectedFailure,
        ResponseLostFailure,
        BodyCutFailure,
        ServerFailure,
        UnusableResponseFailure,
        BulkheadFullFailure,
    )
)

#: Threads of a worker that may wait for one upstream's control calls; the rest are for all other requests.
SLOTS = WORKER_THREADS * 5 // 8
#: The same for sign-ins.
SIGN_IN_SLOTS = WORKER_THREADS // 4


class Retrier:
    """Runs calls by the matrix. Thread-safe. `sleep` is injected, and so are the rows in tests.

    Control calls enter a bulkhead. Streamed ones do not: they are long by nature, and have the places
    for transfers as their bound.
    """

    def __init__(
        self,
        matrix: Mapping[UpstreamCall, RetryPolicy] = MATRIX,
        sleep: Sleep = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.matrix = matrix
        self._sleep = sleep
        self._monotonic = monotonic
        self.bulkheads: Mapping[str, Bulkhead] = {
            name: Bulkhead(SIGN_IN_SLOTS if name == SignInCall.SIGN_IN.bulkhead else SLOTS, limits)
            for name, limits in _control_limits(matrix).items()
        }
        self.health = UpstreamHealth(monotonic)
        for call in MATRIX:
            _begin_to_count(call)

    def run(
        self,
        call: UpstreamCall,
        deadline: Deadline,
        attempt: Callable[[Timeouts], T],
        *,
        has_begun: Callable[[], bool] | None = None,
        on_failure: Callable[[UpstreamFailure], None] | None = None,
    ) -> T:
        """Call `attempt` with each try's time-outs until it returns, or the row or the deadline forbids another try.

        A streamed body is not bound by the deadline: once `has_begun` returns true, only the row counts. `on_failure`
        is called for each try that fails. Raises DeadlineExceededError if the deadline ended the call, else the last
        try's UpstreamFailure.
        """
        policy = self.matrix[call]
        is_streamed = policy.timeouts.total_seconds is None
        bulkhead = None if is_streamed else self.bulkheads[call.bulkhead]
        stop: stop_base = stop_after_attempt(policy.tries) | _StopWhenWaitOutlives(deadline, has_begun)
        if bulkhead is not None:
            stop |= _StopWhenFull(bulkhead, call)
        retrying = Retrying(
            stop=stop,
            wait=wait_chain(*(wait_fixed(seconds) for seconds in policy.waits_seconds or (0.0,))),
            retry=retry_if_exception_type(policy.retried_on),
            sleep=self._sleep,
            before_sleep=lambda state: _log_try(call, state),
            reraise=True,
        )
        try:
            with nullcontext() if bulkhead is None else bulkhead.entered(call):
                return retrying(
                    lambda: self._observed(call, attempt, self._clipped(policy.timeouts, deadline), on_failure)
                )
        except UpstreamFailure as failure:
            # With a full bulkhead it was not even tried.
            count_failure(call, failure)
            metrics.UPSTREAM_GIVEN_UP(call.upstream, call.value, failure.kind).inc()
            log.warning(
                "upstream.failed", call=call.value, kind=failure.kind, status=failure.status, reason=str(failure)
            )
            is_bound = not is_streamed if has_begun is None else not has_begun()
            if is_bound and failure.is_timeout and deadline.is_spent:
                raise DeadlineExceededError(f"{call.value} ran into the request's deadline") from failure
            raise

    def _observed(
        self,
        call: UpstreamCall,
        attempt: Callable[[Timeouts], T],
        timeouts: Timeouts,
        on_failure: Callable[[UpstreamFailure], None] | None,
    ) -> T:
        """One try, counted. What is raised but an UpstreamFailure is not the upstream's doing."""
        metrics.UPSTREAM_TRIES(call.upstream, call.value).inc()
        started = self._monotonic()
        try:
            outcome = attempt(timeouts)
        except UpstreamFailure as failure:
            count_failure(call, failure)
            self.health.note(call.upstream, failure.kind)
            if on_failure is not None:
                on_failure(failure)
            raise
        finally:
            metrics.UPSTREAM_SECONDS(call.upstream, call.value).observe(self._monotonic() - started)
        self.health.note(call.upstream, ANSWERED)
        return outcome

    def wait(self, call: UpstreamCall, event: threading.Event, seconds: float) -> bool:
        """Wait for another thread's `call` to end (see `Bulkhead.wait`). May raise BulkheadFullFailure."""
        return self.bulkheads[call.bulkhead].wait(call, event, seconds)

    @staticmethod
    def _clipped(timeouts: Timeouts, deadline: Deadline) -> Timeouts:
        if timeouts.total_seconds is None:
            return timeouts
        left = deadline.remaining_seconds()
        if left <= 0:
            raise DeadlineExceededError("no time is left for another call")
        return Timeouts(
            connect_seconds=min(timeouts.connect_seconds, left),
            idle_seconds=min(timeouts.idle_seconds, left),
            total_seconds=min(timeouts.total_seconds, left),
        )


class _StopWhenWaitOutlives(stop_base):
    """Stop when the next wait would end at or after the deadline, unless a body is streaming already."""

    def __init__(self, deadline: Deadline, has_begun: Callable[[], bool] | None) -> None:
        self._deadline = deadline
        self._has_begun = has_begun

    def __call__(self, retry_state: RetryCallState) -> bool:
        if self._has_begun is not None and self._has_begun():
            return False
        return retry_state.upcoming_sleep >= self._deadline.remaining_seconds()


class _StopWhenFull(stop_base):
    """Stop when so many calls of this kind hang that a retry would only hold a thread that other requests need."""

    def __init__(self, bulkhead: Bulkhead, call: UpstreamCall) -> None:
        self._bulkhead = bulkhead
        self._call = call

    def __call__(self, retry_state: RetryCallState) -> bool:
        del retry_state
        return self._bulkhead.is_full(self._call)


def _control_limits(matrix: Mapping[UpstreamCall, RetryPolicy]) -> dict[str, dict[str, float]]:
    """Return the time limit in seconds of each control call, by bulkhead."""
    limits: dict[str, dict[str, float]] = {}
    for call, policy in matrix.items():
        if policy.timeouts.total_seconds is not None:
            limits.setdefault(call.bulkhead, {})[call] = policy.timeouts.total_seconds
    return limits


@contextmanager
def failures_as(error: type[GatewayError], call: UpstreamCall, what: str = "") -> Iterator[None]:
    """Raise `error` for an UpstreamFailure of the block, and count it as a failure of `call`.

    The reason begins with `what`. The cause is cut off: exceptions of the libraries below may hold codes and tokens.
    """
    try:
        yield
    except UpstreamFailure as failure:
        count_failure(call, failure)
        reason = f"{failure.kind}: {failure}"
        raise error(f"{what}: {reason}" if what else reason, retry_after_seconds=failure.retry_after_seconds) from None


def count_failure(call: UpstreamCall, failure: UpstreamFailure) -> None:
    """Count a try's failure, once, whoever notices it: some answers turn out to be unusable when they are read."""
    if not failure.is_counted:
        failure.is_counted = True
        metrics.UPSTREAM_FAILURES(call.upstream, call.value, failure.kind).inc()


def _begin_to_count(call: UpstreamCall) -> None:
    """Begin with zeros: a series that begins with its first failure would show no increase."""
    metrics.UPSTREAM_TRIES(call.upstream, call.value)
    metrics.UPSTREAM_RETRIES(call.upstream, call.value)
    metrics.UPSTREAM_SECONDS(call.upstream, call.value)
    for kind in _KINDS:
        metrics.UPSTREAM_FAILURES(call.upstream, call.value, kind)
        metrics.UPSTREAM_GIVEN_UP(call.upstream, call.value, kind)


def _log_try(call: UpstreamCall, state: RetryCallState) -> None:
    metrics.UPSTREAM_RETRIES(call.upstream, call.value).inc()
    failure = state.outcome.exception() if state.outcome else None
    log.info(
        "upstream.retry",
        call=call.value,
        attempt=state.attempt_number,
        wait_seconds=state.upcoming_sleep,
        kind=getattr(failure, "kind", type(failure).__name__),
        status=getattr(failure, "status", None),
    )
