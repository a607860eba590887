"""Remove what crashes leave behind: at the start of every worker, and hourly, by one process at a time.

The sweep looks for temporary files of dead writers, files without a record, records without a file, leases that expired
long ago, and uploads that never got their job. Everything is left alone for an hour, so that nothing in progress looks
like a remnant.

The library is swept only if database and storage have the same library id. What is found is checked again under the
lease of its job and then quarantined for seven days. If much is missing at once, nothing is swept: the database or the
storage may have been restored from an old backup.
"""

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from app import metrics
from app.domain.call import CallContext, Deadline
from app.errors import GatewayError, UploadInProgressError
from app.library.pairing import PairState
from app.services.leases import TTL_SECONDS, HeldLease, LeaseHolder
from app.services.library_sweep import UNTOUCHED_SECONDS, LibrarySweep
from app.services.ownership import JobOwnership

log = structlog.get_logger(__name__)

EVERY_SECONDS = 3_600.0
#: After this time an upload without a job is forgotten if the converter says again that it runs no job of it.
FORGOTTEN_UPLOAD_SECONDS = 86_400.0
_LEASE = "sweep"
#: When a skipped sweep is tried again: the lease may be that of a process that was killed while sweeping.
SKIPPED_SECONDS = TTL_SECONDS + 10.0
_MATCH_SECONDS = 10.0
_MOST_FAILURES = 3


class SweepableLedger(Protocol):
    """What the sweep needs from the ledger."""

    def users_with_pending_uploads(self, *, started_before: datetime) -> Sequence[str]:
        """Return the users with uploads that began before then and have no job."""

    def discard_pending(self, user_id: str, *, started_before: datetime) -> int:
        """Remove the user's pending rows that began before then. Return how many."""


class SweepableLeases(Protocol):
    """What the sweep needs from the leases."""

    def remove_expired(self, *, older_than_seconds: float) -> int:
        """Remove leases that expired that long ago. Return how many."""


@dataclass(slots=True)
class SweepReport:
    """The results of one sweep, by step. `pair` is None if the state of the pair could not be read."""

    pair: PairState | None = None
    removed: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


class Sweep:
    """The sweep. Any process may call `run` at any time. It does nothing while another process sweeps."""

    def __init__(
        self,
        *,
        library: LibrarySweep,
        ledger: SweepableLedger,
        expired_leases: SweepableLeases,
        leases: LeaseHolder,
        ownership: JobOwnership | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._library = library
        self._ledger = ledger
        self._expired_leases = expired_leases
        self._leases = leases
        self._ownership = ownership
        self._clock = clock

    def run(self) -> SweepReport | None:
        """Sweep once and return the results, or None if another process sweeps or the database is down."""
        try:
            with self._leases.held(_LEASE, uuid.uuid4().hex, error=UploadInProgressError) as lease:
                return self._run(lease)
        except GatewayError as failure:
            metrics.SWEEPS("skipped").inc()
            log.info("sweep.skipped", code=failure.code)
            return None

    def _run(self, lease: HeldLease) -> SweepReport:
        report = SweepReport()
        of_library = self._library.steps()
        others: dict[str, Callable[[HeldLease], int]] = {
            "expired_leases": lambda _: self._expired_leases.remove_expired(older_than_seconds=UNTOUCHED_SECONDS),
            "forgotten_uploads": lambda _: self._settle_uploads(lease, may_forget=report.pair is PairState.PAIRED),
        }
        report.removed = dict.fromkeys(of_library | others, 0)
        try:
            report.pair = self._library.pair_state(lease)
        except GatewayError as failure:
            self._failed(report, "pairing", failure)
        steps = of_library if report.pair is PairState.PAIRED else {}
        for name, step in (steps | others).items():
            lease.renew()
            try:
                report.removed[name] = step(lease)
                metrics.SWEPT(name).inc(report.removed[name])
            except GatewayError as failure:
                # Each step is independent: a failing storage must not stop the removal of leases.
                self._failed(report, name, failure)
        is_whole = report.pair is PairState.PAIRED and not report.failed
        if is_whole:
            metrics.LAST_SWEEP().set(self._clock().timestamp())
        metrics.SWEEPS("done" if is_whole else "partial").inc()
        log.info("sweep.done", pair=report.pair, **report.removed, failed_steps=report.failed)
        return report

    def _failed(self, report: SweepReport, step: str, failure: GatewayError) -> None:
        report.failed.append(step)
        log.warning("sweep.step_failed", step=step, code=failure.code, reason=failure.reason[:200])

    def _settle_uploads(self, lease: HeldLease, *, may_forget: bool) -> int:
        """Match uploads without a job with the converter's list, and forget old ones that have none.

        An upload is forgotten only if the converter has just said that it runs no job of it.
        """
        if self._ownership is None:
            return 0
        now = self._clock()
        removed = failures = 0
        for user_id in self._ledger.users_with_pending_uploads(started_before=now):
            lease.renew()
            try:
                self._ownership.running_jobs(user_id, CallContext(Deadline(_MATCH_SECONDS), has_short_deadline=True))
            except GatewayError as failure:
                log.info("sweep.match_failed", code=failure.code)
                failures += 1
                if failures == _MOST_FAILURES:
                    break  # the converter is down, and every further user would wait as long
                continue
            if may_forget:
                limit = now - timedelta(seconds=FORGOTTEN_UPLOAD_SECONDS)
                removed += self._ledger.discard_pending(user_id, started_before=limit)
        return removed


class SweepSchedule:
    """Runs the sweep at once and then hourly, on a daemon thread, until it is stopped.

    A skipped sweep is tried again as soon as its lease has surely expired, so that a crash during a sweep delays the
    next one by minutes only.
    """

    def __init__(
        self, sweep: Sweep, every_seconds: float = EVERY_SECONDS, skipped_seconds: float = SKIPPED_SECONDS
    ) -> None:
        self._sweep = sweep
        self._every_seconds = every_seconds
        self._skipped_seconds = skipped_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sweep", daemon=True)

    def start(self) -> None:
        """Start the thread. Call it once, after the fork."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the present sweep, without waiting for it."""
        self._stopped.set()

    def _loop(self) -> None:
        while True:
            pause = self._every_seconds
            try:
                if self._sweep.run() is None:
                    pause = min(pause, self._skipped_seconds)
            except Exception:
                # A bug in one sweep must not stop all later ones.
                metrics.SWEEPS("crashed").inc()
                log.exception("sweep.crashed")
            if self._stopped.wait(pause):
                return
