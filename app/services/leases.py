"""Hold a database lease during a long piece of work.

A lease expires after its TTL, so a crashed holder blocks others for no longer than that. The work renews it as it makes
progress; there is no thread behind it. A release that fails because the database is down is retried in the background.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from app import metrics
from app.domain.call import Deadline
from app.errors import DeadlineExceededError, GatewayError, ModelStoreUnavailableError
from app.services.deferred_writes import LEASE, DeferredWrites
from app.services.ports import Leases

TTL_SECONDS = 150.0
RENEW_EVERY_SECONDS = 20.0
#: Until then, a new or renewed lease counts as having all of its time left.
YOUNG_SECONDS = 5.0
#: How long after a failed renewal the next one is due.
RETRY_SECONDS = 5.0
_POLL_SECONDS = 0.2


class HeldLease:
    """A lease that this process holds until `renew` raises. For the one thread that does the work."""

    def __init__(
        self,
        leases: Leases,
        name: str,
        holder: str,
        lost: Callable[[str], GatewayError],
        monotonic: Callable[[], float],
    ) -> None:
        self._leases = leases
        self._name = name
        self._holder = holder
        self._lost = lost
        self._monotonic = monotonic
        self._renewed_at = monotonic()
        self._retry_at = self._renewed_at

    def renew(self, *, received_bytes: int | None = None, is_before_long_step: bool = False) -> None:
        """Renew the lease if that is due. Raises the failure for a lost lease if it is no longer ours.

        An upload's lease shows `received_bytes` to the user's other requests.

        Before a step that may take long and cannot renew it, the lease is renewed unless it is younger than
        YOUNG_SECONDS.

        If the database is down, the work goes on until the lease expires; then ModelStoreUnavailableError is raised.
        """
        now = self._monotonic()
        age = now - self._renewed_at
        is_due = age >= RENEW_EVERY_SECONDS and (now >= self._retry_at or age >= TTL_SECONDS)
        if not is_due and not (is_before_long_step and age >= YOUNG_SECONDS):
            return
        try:
            is_ours = self._leases.renew(self._name, self._holder, TTL_SECONDS, received_bytes=received_bytes)
        except ModelStoreUnavailableError:
            _count(self._name, "renewal_failed")
            if age < TTL_SECONDS:
                self._retry_at = self._monotonic() + RETRY_SECONDS
                return
            raise
        if not is_ours:
            _count(self._name, "lost")
            raise self._lost(f"the lease {_kind(self._name)} was lost")
        self._renewed_at = now


class LeaseHolder:
    """Acquires and releases leases. Thread-safe."""

    def __init__(
        self,
        leases: Leases,
        writes: DeferredWrites,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._leases = leases
        self._writes = writes
        self._monotonic = monotonic
        self._sleep = sleep

    @contextmanager
    def held(
        self,
        name: str,
        holder: str,
        *,
        error: Callable[[str], GatewayError],
        upload_id: str | None = None,
        total_bytes: int | None = None,
    ) -> Iterator[HeldLease]:
        """Hold a lease during the block. Raises `error` if another holder has it, and in `renew` if it was lost.

        `upload_id` and `total_bytes` are as in `Leases.acquire`.
        """
        if not self._acquire(name, holder, upload_id=upload_id, total_bytes=total_bytes):
            _count(name, "busy")
            raise error("another holder has the lease")
        yield from self._guarded(name, holder, error)

    @contextmanager
    def awaited(self, name: str, holder: str, deadline: Deadline) -> Iterator[HeldLease]:
        """Wait for a lease and hold it during the block. Raises DeadlineExceededError if it is not free in time."""
        while not self._acquire(name, holder):
            if deadline.remaining_seconds() <= _POLL_SECONDS:
                _count(name, "busy")
                raise DeadlineExceededError("waited for a lease until the deadline")
            self._sleep(_POLL_SECONDS)
        yield from self._guarded(name, holder, DeadlineExceededError)

    def is_held(self, name: str) -> bool:
        """Return whether any holder has the lease now."""
        return self._leases.is_held(name)

    def _acquire(self, name: str, holder: str, *, upload_id: str | None = None, total_bytes: int | None = None) -> bool:
        try:
            return self._leases.acquire(name, holder, TTL_SECONDS, upload_id=upload_id, total_bytes=total_bytes)
        except ModelStoreUnavailableError:
            # The database may have committed the lease before it failed.
            self._writes.add(LEASE, _key(name, holder), partial(self._leases.release, name, holder))
            raise

    def _guarded(self, name: str, holder: str, lost: Callable[[str], GatewayError]) -> Iterator[HeldLease]:
        _count(name, "taken")
        try:
            yield HeldLease(self._leases, name, holder, lost, self._monotonic)
        finally:
            # A failed release must not hide the outcome of the work.
            if not self._writes.write(LEASE, _key(name, holder), partial(self._leases.release, name, holder)):
                _count(name, "release_failed")


def _key(name: str, holder: str) -> str:
    return f"{_kind(name)} of {holder}"


def _kind(name: str) -> str:
    """Return what the lease is for; the rest of its name is a user or a job."""
    return name.split(":", 1)[0]


def _count(name: str, event: str) -> None:
    metrics.LEASES(_kind(name), event).inc()
