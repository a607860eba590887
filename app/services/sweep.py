"""Removing what crashes left: at the start of every worker, and hourly, by one process at a time.

What is looked for: temporary files of writers that are gone, files that no record names, records whose file is gone,
leases long expired, and uploads that never learnt their job. Everything is left alone for an hour, so that
nothing that is under way is taken for a remnant.

Nothing of the library is touched unless database and storage carry the same id. What is found then is looked at again
under the lease of its job, and goes into quarantine for a week. A pair of which much is missing at once is not swept
either: one of the two may have come back from an old backup.
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
from app.services.leases import TTL_SECONDS, HeldLease, LeaseKeeper
from app.services.library_sweep import UNTOUCHED_SECONDS, LibrarySweep
from app.services.ownership import JobOwnership

log = structlog.get_logger(__name__)

EVERY_SECONDS = 3_600.0
#: An upload that has not found its job by then never will, once the converter has said again that it does not run.
FORGOTTEN_UPLOAD_SECONDS = 86_400.0
_LEASE = "sweep"
#: When a sweep that could not run is tried again: its lease may be that of a process that was killed at it.
SKIPPED_SECONDS = TTL_SECONDS + 10.0
_MATCH_SECONDS = 10.0
_MOST_FAILURES = 3


class SweepableLedger(Protocol):
    """What the sweep needs of the ledger."""

    def users_with_pending_uploads(self, *, started_before: datetime) -> Sequence[str]:
        """Users with uploads that began before then and have no job."""

    def discard_pending(self, user_id: str, *, started_before: datetime) -> int:
        """Remove the user's pending rows that began before then; how many."""


class SweepableLeases(Protocol):
    """What the sweep needs of the leases."""

    def remove_expired(self, *, older_than_seconds: float) -> int:
        """Remove leases that expired that long ago; how many."""


@dataclass(slots=True)
class SweepReport:
    """What one sweep did, by kind. `pair` is None if nobody could tell how database and storage stand."""

    pair: PairState | None = None
    removed: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


class Sweep:
    """The sweep. `run` may be called by any process at any time; a sweep under way elsewhere makes it do nothing."""

    def __init__(
        self,
        *,
        library: LibrarySweep,
        ledger: SweepableLedger,
        expired_leases: SweepableLeases,
        leases: LeaseKeeper,
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
        """Sweep once and say what was removed; None where another process is at it, or the database is down."""
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
            lease.keep()
            try:
                report.removed[name] = step(lease)
                metrics.SWEPT(name).inc(report.removed[name])
            except GatewayError as failure:
                # Each kind of remnant is swept for itself: a failing storage must not keep leases from going.
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
        """Match uploads that never learnt their job with the converter's list; forget those that never will.

        Only an upload of which the converter has just said that it runs no job of it is forgotten.
        """
        if self._ownership is None:
            return 0
        now = self._clock()
        removed = failures = 0
        for user_id in self._ledger.users_with_pending_uploads(started_before=now):
            lease.keep()
            try:
                self._ownership.running_jobs(user_id, CallContext(Deadline(_MATCH_SECONDS), has_short_deadline=True))
            except GatewayError as failure:
                log.info("sweep.match_failed", code=failure.code)
                failures += 1
                if failures == _MOST_FAILURES:
                    break  # the converter is down, and every further user would cost as much time
                continue
            if may_forget:
                limit = now - timedelta(seconds=FORGOTTEN_UPLOAD_SECONDS)
                removed += self._ledger.discard_pending(user_id, started_before=limit)
        return removed


class SweepSchedule:
    """Runs the sweep at once and then hourly, on a daemon thread of its own, until it is stopped.

    One that was skipped is tried again as soon as its lease is surely over: what a crash has left is wanted at the
    start, also when the crash came during a sweep.
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
        """Begin; to be called after the fork, once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the sweep that is under way, without waiting for it."""
        self._stopped.set()

    def _loop(self) -> None:
        while True:
            pause = self._every_seconds
            try:
                if self._sweep.run() is None:
                    pause = min(pause, self._skipped_seconds)
            except Exception:
                # A bug in one sweep must not end all further ones.
                metrics.SWEEPS("crashed").inc()
                log.exception("sweep.crashed")
            if self._stopped.wait(pause):
                return
