"""Writes that failed and must still happen: retried on a background thread until they succeed.

They are writes to the database that may be repeated, and no request waits for them any more: the owner of a job, the
release of a lease. They are held in memory, so a killed worker loses them; each caller says what that means.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from app import metrics
from app.errors import ModelStoreUnavailableError

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
#: Between the tries of a caller that waits.
_PAUSE_SECONDS = 0.25
#: A few hundred bytes each. More than this means hours without a database, too long for memory.
_MOST_WRITES = 10_000

#: The kinds of writes, as metrics and logs call them.
LEDGER, LEASE = "ledger", "lease"


@dataclass(frozen=True, slots=True)
class _Write:
    kind: str
    write: Callable[[], object]
    #: It is slow, or has failed before.
    comes_last: bool = False


class DeferredWrites:
    """A bounded queue of writes to be retried, and the thread that retries them. Thread-safe.

    A write raises ModelStoreUnavailableError as long as the database fails, and may be repeated after it was done.
    """

    def __init__(
        self,
        *,
        retry_seconds: float = RETRY_SECONDS,
        most: int = _MOST_WRITES,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start with an empty queue. Nothing is retried before `start`, except by `flush` and `close`."""
        self._retry_seconds = retry_seconds
        self._most = most
        self._monotonic = monotonic
        self._sleep = sleep
        self._writes: dict[str, _Write] = {}
        self._changed = threading.Condition()
        self._flushing = threading.Lock()

    def start(self) -> None:
        """Start retrying, on a daemon thread. Call it once, after the fork."""
        threading.Thread(target=self._loop, name="deferred-writes", daemon=True).start()

    def write(self, kind: str, key: str, write: Callable[[], object], *, patience_seconds: float = 0.0) -> bool:
        """Write now, and retry for `patience_seconds`; then queue the write. Return whether it was done.

        Raises every other exception of the write.
        """
        until = self._monotonic() + patience_seconds
        while True:
            try:
                write()
            except ModelStoreUnavailableError as failure:
                log.warning("deferred_write.failed", kind=kind, key=key, code=failure.code, reason=failure.reason[:200])
                if self._monotonic() + _PAUSE_SECONDS > until:
                    self.add(kind, key, write)
                    return False
                self._sleep(_PAUSE_SECONDS)
            else:
                with self._changed:
                    # A queued write of this key is older than this one.
                    self._replace(key, None)
                return True

    def add(self, kind: str, key: str, write: Callable[[], object], *, is_slow: bool = False) -> bool:
        """Queue a write. Return False if the queue is full: the write will not happen then.

        A queued write of the same `key` is replaced. `key` names the write in the log if it is lost. A slow write waits
        for an upstream; the others don't wait for it, except for one that has begun.
        """
        with self._changed:
            if key not in self._writes and len(self._writes) >= self._most:
                self._count_lost(kind, key, "the queue is full")
                return False
            self._replace(key, _Write(kind, write, is_slow))
            self._changed.notify()
        return True

    def flush(self) -> bool:
        """Try each queued write once, until one fails; return whether the queue is empty.

        Those that are slow or have failed before come last. None of them begins after a new write was queued.
        """
        with self._flushing:
            with self._changed:
                waiting = sorted(self._writes.items(), key=lambda item: item[1].comes_last)
            for key, queued in waiting:
                if (queued.comes_last and self._has_new()) or not self._try(key, queued):
                    break
        return not self._writes

    def close(self, patience_seconds: float) -> None:
        """Retry for `patience_seconds`, then report each write that is left as lost. For the end of a worker."""
        until = self._monotonic() + patience_seconds
        while not self.flush() and self._monotonic() + self._retry_seconds <= until:
            self._sleep(self._retry_seconds)
        with self._changed:
            for key, queued in self._writes.items():
                self._count_lost(queued.kind, key, "the worker ends")

    def __len__(self) -> int:
        return len(self._writes)

    def _has_new(self) -> bool:
        with self._changed:
            newest = next(reversed(self._writes.values()), None)
        return newest is not None and not newest.comes_last

    def _try(self, key: str, queued: _Write) -> bool:
        try:
            queued.write()
        except ModelStoreUnavailableError as failure:
            log.info("deferred_write.failed", kind=queued.kind, key=key, code=failure.code, reason=failure.reason[:200])
            with self._changed:
                if self._writes.get(key) is queued:
                    # To the end of the queue, so that a write that always fails does not delay the others.
                    del self._writes[key]
                    self._writes[key] = replace(queued, comes_last=True)
            return False
        except Exception:
            # A bug: a retry would fail in the same way.
            log.exception("deferred_write.crashed", kind=queued.kind, key=key)
            metrics.DEFERRED_WRITES(queued.kind, "lost").inc()
        else:
            metrics.DEFERRED_WRITES(queued.kind, "written").inc()
        with self._changed:
            if self._writes.get(key) is queued:
                self._replace(key, None)
        return True

    def _replace(self, key: str, queued: _Write | None) -> None:
        before = self._writes.pop(key, None)
        if before is not None:
            metrics.DEFERRED_WRITES_WAITING(before.kind).dec()
        if queued is not None:
            self._writes[key] = queued
            metrics.DEFERRED_WRITES_WAITING(queued.kind).inc()

    @staticmethod
    def _count_lost(kind: str, key: str, cause: str) -> None:
        metrics.DEFERRED_WRITES(kind, "lost").inc()
        log.error("deferred_write.lost", kind=kind, key=key, cause=cause)

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._writes:
                    self._changed.wait()
            if not self.flush():
                self._sleep(self._retry_seconds)
