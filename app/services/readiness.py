"""Whether this process can serve: checks of its own parts that a hanging part cannot block.

A process runs one round of checks at a time and caches the result for a moment. Each part is checked in a thread of its
own, so a part that hangs occupies that one thread, and a probe waits for it for a bounded time.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait

import structlog

from app.config import ConfigurationError
from app.errors import GatewayError, StorageMismatchError

log = structlog.get_logger(__name__)

#: How long a result is cached, and how long each part may take.
CACHE_SECONDS = 2.0
PART_SECONDS = 2.0
_MAX_WAITING = 4

#: The states that are not an error's code.
OK, TIMEOUT = "ok", "timeout"
_CONFIGURATION = "configuration_invalid"
_MISMATCH = "storage_mismatch"


class Readiness:
    """Checks the parts of the gateway itself. Thread-safe; starts no thread before the first check."""

    def __init__(
        self,
        checks: Mapping[str, Callable[[], None]],
        *,
        part_seconds: float = PART_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Each check returns if its part works, and raises a GatewayError or ConfigurationError if it doesn't."""
        self._checks = checks
        self._part_seconds = part_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MAX_WAITING)
        self._running: dict[str, Future[str]] = {}
        self._states: Mapping[str, str] = dict.fromkeys(checks, TIMEOUT)
        self._checked_at: float | None = None

    def states(self) -> Mapping[str, str]:
        """Return the state of each part: `ok`, `timeout`, or the code of its error.

        Takes at most PART_SECONDS, or twice that for a caller that waits for another's check first. Only a few wait;
        any further caller gets the result of the check before, or `timeout` for all parts if there is none.
        """
        if not self._lock.acquire(blocking=False):
            if not self._waiting.acquire(blocking=False):
                return self._states
            try:
                if not self._lock.acquire(timeout=self._part_seconds):
                    return self._states
            finally:
                self._waiting.release()
        try:
            if self._checked_at is None or self._monotonic() - self._checked_at >= CACHE_SECONDS:
                self._states = self._check()
                self._checked_at = self._monotonic()
            return self._states
        finally:
            self._lock.release()

    def _check(self) -> Mapping[str, str]:
        for name, check in self._checks.items():
            # A part whose last check still hangs is not checked again.
            if name not in self._running or self._running[name].done():
                self._running[name] = _start(name, check)
        wait(self._running.values(), self._part_seconds)
        states = {}
        for name, outcome in self._running.items():
            if outcome.done():
                states[name] = outcome.result()
            else:
                log.warning("readiness.failed", check=name, code=TIMEOUT)
                states[name] = TIMEOUT
        return states


def _start(name: str, check: Callable[[], None]) -> Future[str]:
    outcome: Future[str] = Future()

    def run() -> None:
        try:
            outcome.set_result(_state(name, check))
        except BaseException as error:  # noqa: BLE001 - raised again for the probe that started the check
            outcome.set_exception(error)

    threading.Thread(target=run, name=f"readiness-{name}", daemon=True).start()
    return outcome


def _state(name: str, check: Callable[[], None]) -> str:
    try:
        check()
    except StorageMismatchError as mismatch:
        log.error("readiness.failed", check=name, code=_MISMATCH, reason=mismatch.reason)  # noqa: TRY400 - a state
        return _MISMATCH
    except GatewayError as failure:
        log.warning("readiness.failed", check=name, code=failure.code, reason=failure.reason[:200])
        return failure.code
    except ConfigurationError as error:
        log.warning("readiness.failed", check=name, code=_CONFIGURATION, reason=" ".join(error.problems))
        return _CONFIGURATION
    return OK
