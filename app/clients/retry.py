"""The retry matrix (docs/upstreams.md): one table, from which the tenacity policies are made.

When a call is retried, how often, after which wait, and how long a try may take stands here and nowhere else. There is
no jitter, because single flight has already merged the callers. Control calls share their request's deadline: each
try's time is clipped to what is left, and no wait begins that cannot end in time.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_chain, wait_fixed

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
from app.domain.call import Deadline
from app.errors import DeadlineExceededError, GatewayError

log = structlog.get_logger(__name__)

T = TypeVar("T")
Sleep = Callable[[float], None]


class Call(StrEnum):
    """A call to an upstream. Its value names it in logs and metrics."""

    TOKEN = "mc.token"  # noqa: S105 - a name
    DOWNLOAD_TOKEN = "mc.download_token"  # noqa: S105 - a name
    #: Discovery, keys, the token request and userinfo of a sign-in.
    SIGN_IN = "mc.sign_in"
    GET_JOB = "converter.get_job"
    LIST_JOBS = "converter.list_jobs"
    PROMOTE = "converter.promote"
    CREATE_JOB = "converter.create_job"
    GET_FILE = "faa.get_file"

    @property
    def upstream(self) -> str:
        """The upstream that is called: `mc`, `converter` or `faa`."""
        return self.value.split(".")[0]

    @property
    def bulkhead(self) -> str:
        """The bulkhead that the call enters: its upstream's, or for sign-ins their own.

        Anybody can start a sign-in, and must not take the slots of the calls for people who are signed in.
        """
        return self.value if self is Call.SIGN_IN else self.upstream


#: The upstreams, in the order of the calls.
UPSTREAMS = tuple(dict.fromkeys(call.upstream for call in Call))

_TRANSIENT = (NotConnectedFailure, ResponseLostFailure, ServerFailure)
_WAITS = (1.0, 2.0)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """One row of the matrix. `waits_seconds` has one wait per retry; `timeouts` are those of each try."""

    retried_on: tuple[type[UpstreamFailure], ...]
    waits_seconds: tuple[float, ...]
    timeouts: Timeouts

    @property
    def tries(self) -> int:
        """The first try and the retries."""
        return 1 + len(self.waits_seconds)

    @property
    def is_streamed(self) -> bool:
        """Return whether a body is streamed, which may take as long as it needs."""
        return self.timeouts.total_seconds is None


def _control(seconds: float) -> RetryPolicy:
    return RetryPolicy(_TRANSIENT, _WAITS, Timeouts(min(5.0, seconds), seconds, seconds))


_STREAM = Timeouts(connect_seconds=5.0, idle_seconds=60.0, total_seconds=None)

MATRIX: Mapping[Call, RetryPolicy] = {
    Call.TOKEN: _control(10.0),
    Call.DOWNLOAD_TOKEN: _control(10.0),
    # A code is good for one request, and the person can try again.
    Call.SIGN_IN: RetryPolicy((), (), Timeouts(5.0, 10.0, 10.0)),
    Call.GET_JOB: _control(10.0),
    Call.LIST_JOBS: _control(10.0),
    Call.PROMOTE: _control(30.0),
    # After the first byte nothing can be sent again: the body is gone, and it may have started a job.
    Call.CREATE_JOB: RetryPolicy((NotConnectedFailure,), _WAITS, _STREAM),
    # After the first byte of the body a retry resumes with Range; it counts like any other.
    Call.GET_FILE: RetryPolicy(_TRANSIENT, _WAITS, _STREAM),
}

#: How many control calls a worker makes to one upstream at once, however many threads it has. Fewer than the threads
#: that are reserved for short requests (`app.config.RESERVED_THREADS`), so a stalled upstream leaves some for others.
SLOTS = 20
#: The same for sign-ins.
SIGN_IN_SLOTS = 8


class Retrier:
    """Makes calls by the matrix. Thread-safe. `sleep` is injected, and so are the rows in tests.

    Control calls enter a bulkhead. Streamed calls do not: they take long by nature, and the transfer slots bound them.
    """

    def __init__(
        self,
        matrix: Mapping[Call, RetryPolicy] = MATRIX,
        sleep: Sleep = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.matrix = matrix
        self._sleep = sleep
        self._monotonic = monotonic
        self.bulkheads: Mapping[str, Bulkhead] = {
            name: Bulkhead(SIGN_IN_SLOTS if name == Call.SIGN_IN.bulkhead else SLOTS, limits)
            for name, limits in _control_limits(matrix).items()
        }
        self.health = UpstreamHealth(monotonic)
        for call in MATRIX:
            _begin_to_count(call)

    def run(
        self,
        call: Call,
        deadline: Deadline,
        send: Callable[[Timeouts], T],
        *,
        has_begun: Callable[[], bool] = lambda: False,
        on_failure: Callable[[UpstreamFailure], None] = lambda _failure: None,
    ) -> T:
        """Call `send` with each try's timeouts until it returns, or the row or the deadline forbids another try.

        Once `has_begun` returns true, a streamed body has begun to arrive and the deadline does not count any more.
        `on_failure` is called for each try that fails. Raises DeadlineExceededError if the deadline ended the call,
        else the last try's UpstreamFailure.
        """
        policy = self.matrix[call]
        bulkhead = None if policy.is_streamed else self.bulkheads[call.bulkhead]

        def is_last_try(state: RetryCallState) -> bool:
            if state.attempt_number >= policy.tries:
                return True
            # So many calls of this kind hang that a retry would only hold a thread that other requests need.
            if bulkhead is not None and bulkhead.is_full(call):
                return True
            return not has_begun() and state.upcoming_sleep >= deadline.remaining_seconds()

        retrying = Retrying(
            stop=is_last_try,
            wait=wait_chain(*(wait_fixed(seconds) for seconds in policy.waits_seconds or (0.0,))),
            retry=retry_if_exception_type(policy.retried_on),
            sleep=self._sleep,
            before_sleep=lambda state: _log_retry(call, state),
            reraise=True,
        )
        try:
            with nullcontext() if bulkhead is None else bulkhead.entered(call, deadline.remaining_seconds()):
                return retrying(lambda: self._try(call, send, _clipped(policy.timeouts, deadline), on_failure))
        except UpstreamFailure as failure:
            count_failure(call, failure)  # one that found the bulkhead full was not even tried
            metrics.UPSTREAM_GIVEN_UP(call.upstream, call.value, failure.kind).inc()
            log.warning(
                "upstream.failed", call=call.value, kind=failure.kind, status=failure.status, reason=str(failure)
            )
            # The deadline does not shorten the timeouts of an upload, so it has not ended it.
            is_bound = call is not Call.CREATE_JOB and not has_begun()
            if is_bound and failure.is_timeout and deadline.is_spent:
                raise DeadlineExceededError(f"{call.value} ran into the request's deadline") from failure
            raise

    def wait(self, call: Call, event: threading.Event, seconds: float) -> bool:
        """Wait for another thread's `call` to end (see `Bulkhead.wait`). May raise BulkheadFullFailure."""
        return self.bulkheads[call.bulkhead].wait(call, event, seconds)

    def _try(
        self,
        call: Call,
        send: Callable[[Timeouts], T],
        timeouts: Timeouts,
        on_failure: Callable[[UpstreamFailure], None],
    ) -> T:
        """Make one try, and count it. Any exception but an UpstreamFailure is not the upstream's fault."""
        metrics.UPSTREAM_TRIES(call.upstream, call.value).inc()
        started = self._monotonic()
        try:
            outcome = send(timeouts)
        except UpstreamFailure as failure:
            count_failure(call, failure)
            self.health.note(call.upstream, failure.kind)
            on_failure(failure)
            raise
        finally:
            metrics.UPSTREAM_SECONDS(call.upstream, call.value).observe(self._monotonic() - started)
        self.health.note(call.upstream, ANSWERED)
        return outcome


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


def _control_limits(matrix: Mapping[Call, RetryPolicy]) -> dict[str, dict[str, float]]:
    """Return the time limit in seconds of each control call, by bulkhead."""
    limits: dict[str, dict[str, float]] = {}
    for call, policy in matrix.items():
        if policy.timeouts.total_seconds is not None:
            limits.setdefault(call.bulkhead, {})[call] = policy.timeouts.total_seconds
    return limits


@contextmanager
def failures_as(error: type[GatewayError], call: Call, what: str = "") -> Iterator[None]:
    """Raise `error` for an UpstreamFailure of the block, and count it as a failure of `call`.

    The reason begins with `what`. The cause is cut off: exceptions of the libraries below may hold codes and tokens.
    """
    try:
        yield
    except UpstreamFailure as failure:
        count_failure(call, failure)
        reason = f"{failure.kind}: {failure}"
        raise error(f"{what}: {reason}" if what else reason, retry_after_seconds=failure.retry_after_seconds) from None


def count_failure(call: Call, failure: UpstreamFailure) -> None:
    """Count a try's failure once: some responses turn out to be unusable only when they are read."""
    if not failure.is_counted:
        failure.is_counted = True
        metrics.UPSTREAM_FAILURES(call.upstream, call.value, failure.kind).inc()


_FAILURES = (
    NotConnectedFailure,
    ResponseLostFailure,
    BodyCutFailure,
    ServerFailure,
    UnusableResponseFailure,
    BulkheadFullFailure,
)


def _begin_to_count(call: Call) -> None:
    """Begin with zeros: a series that begins with its first failure would show no increase."""
    metrics.UPSTREAM_TRIES(call.upstream, call.value)
    metrics.UPSTREAM_RETRIES(call.upstream, call.value)
    metrics.UPSTREAM_SECONDS(call.upstream, call.value)
    for failure in _FAILURES:
        metrics.UPSTREAM_FAILURES(call.upstream, call.value, failure.kind)
        metrics.UPSTREAM_GIVEN_UP(call.upstream, call.value, failure.kind)


def _log_retry(call: Call, state: RetryCallState) -> None:
    metrics.UPSTREAM_RETRIES(call.upstream, call.value).inc()
    failure = state.outcome.exception() if state.outcome else None
    log.info(
        "upstream.retry",
        call=call.value,
        try_number=state.attempt_number,
        wait_seconds=state.upcoming_sleep,
        kind=getattr(failure, "kind", type(failure).__name__),
        status=getattr(failure, "status", None),
    )
