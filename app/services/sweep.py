"""Removing what crashes left: at the start of every worker, and hourly, by one process at a time.

What is looked for: temporary files of writers that are gone, files that no record names, records whose file is gone,
leases long expired, and uploads that never learnt their job. Everything is left alone for an hour, so that
nothing that is under way is taken for a remnant. A storage that is not the marked one, or that has lost much at once,
is taken for an unmounted folder and not for a crash: then nothing of it is touched, and an operator hears of it.
"""

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from app import metrics
from app.domain.call import CallContext, Deadline
from app.domain.model import Model
from app.errors import GatewayError, UploadInProgressError
from app.library.storage import SweepableStorage
from app.services.leases import TTL_SECONDS, HeldLease, LeaseKeeper
from app.services.ownership import JobOwnership

log = structlog.get_logger(__name__)

EVERY_SECONDS = 3_600.0
UNTOUCHED_SECONDS = 3_600.0
#: An upload that has not found its job by then never will: the converter lists running jobs only.
FORGOTTEN_UPLOAD_SECONDS = 86_400.0
#: How many records without file, or files without record, crashes may leave. More is a lost storage or database.
_MOST_REMNANTS = 10
_MOST_REMNANTS_SHARE = 0.05
_BATCH = 200
_LEASE = "sweep"
#: When a sweep that could not run is tried again: its lease may be that of a process that was killed at it.
SKIPPED_SECONDS = TTL_SECONDS + 10.0
_MATCH_SECONDS = 10.0
_MOST_FAILURES = 3


class SweepableModels(Protocol):
    """What the sweep needs of the model records."""

    def batch(self, *, limit: int, after_id: str | None) -> Sequence[Model]:
        """Models of all users by id, after that id."""

    def known_storage_keys(self, storage_keys: Sequence[str]) -> frozenset[str]:
        """Those of the keys that a record names."""

    def delete(self, user_id: str, model_id: str) -> bool:
        """Remove a record."""


class SweepableLedger(Protocol):
    """What the sweep needs of the ledger."""

    def users_with_pending_uploads(self, *, started_before: datetime) -> Sequence[str]:
        """Users with uploads that began before then and have no job."""

    def discard_pending(self, *, started_before: datetime) -> int:
        """Remove the pending rows that began before then; how many."""


class SweepableLeases(Protocol):
    """What the sweep needs of the leases."""

    def remove_expired(self, *, older_than_seconds: float) -> int:
        """Remove leases that expired that long ago; how many."""


@dataclass(slots=True)
class SweepReport:
    """What one sweep did, by kind."""

    removed: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


class Sweep:
    """The sweep. `run` may be called by any process at any time; a sweep under way elsewhere makes it do nothing."""

    def __init__(
        self,
        *,
        storage: SweepableStorage,
        models: SweepableModels,
        ledger: SweepableLedger,
        expired_leases: SweepableLeases,
        leases: LeaseKeeper,
        ownership: JobOwnership | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._models = models
        self._ledger = ledger
        self._expired_leases = expired_leases
        self._leases = leases
        self._ownership = ownership
        self._clock = clock

    def run(self) -> SweepReport | None:
        """Sweep once and say what was removed; None where another process is at it, or the database is down."""
        try:
            with self._leases.held(_LEASE, uuid.uuid4().hex, taken=UploadInProgressError) as lease:
                return self._run(lease)
        except GatewayError as failure:
            metrics.SWEEPS("skipped").inc()
            log.info("sweep.skipped", code=failure.code)
            return None

    def _run(self, lease: HeldLease) -> SweepReport:
        report = SweepReport()
        steps: dict[str, Callable[[HeldLease], int]] = {
            "temporary_files": lambda _: self._storage.remove_stale_temporaries(older_than_seconds=UNTOUCHED_SECONDS),
            "files_without_record": self._remove_files_without_record,
            "records_without_file": self._remove_records_without_file,
            "expired_leases": lambda _: self._expired_leases.remove_expired(older_than_seconds=UNTOUCHED_SECONDS),
            "forgotten_uploads": self._settle_uploads,
        }
        for name, step in steps.items():
            lease.keep()
            try:
                report.removed[name] = step(lease)
                metrics.SWEPT(name).inc(report.removed[name])
            except GatewayError as failure:
                # Each kind of remnant is swept for itself: a failing storage must not keep leases from going.
                report.failed.append(name)
                log.warning("sweep.step_failed", step=name, code=failure.code, reason=failure.reason[:200])
        if not report.failed:
            metrics.LAST_SWEEP().set(self._clock().timestamp())
        metrics.SWEEPS("partial" if report.failed else "done").inc()
        log.info("sweep.done", **report.removed, failed_steps=report.failed)
        return report

    def _remove_files_without_record(self, lease: HeldLease) -> int:
        if not self._is_storage_ours(lease):
            return 0
        before = self._clock() - timedelta(seconds=UNTOUCHED_SECONDS)
        old = (file.key for file in self._storage.files() if file.modified_at < before)
        orphans, seen = [], 0
        while keys := list(itertools.islice(old, _BATCH)):
            lease.keep()
            seen += len(keys)
            orphans += sorted(set(keys) - self._models.known_storage_keys(keys))
        if len(orphans) > max(_MOST_REMNANTS, seen * _MOST_REMNANTS_SHARE):
            metrics.SWEEP_ALARMS("database").inc()
            log.error("sweep.database_looks_lost", files=seen, files_without_record=len(orphans))
            return 0
        for key in orphans:
            self._storage.delete(key)
        return len(orphans)

    def _remove_records_without_file(self, lease: HeldLease) -> int:
        if not self._is_storage_ours(lease):
            return 0
        missing, seen = self._models_without_file(lease)
        if len(missing) > max(_MOST_REMNANTS, seen * _MOST_REMNANTS_SHARE):
            metrics.SWEEP_ALARMS("storage").inc()
            log.error("sweep.storage_looks_lost", records=seen, missing_files=len(missing))
            return 0
        return sum(self._models.delete(model.user_id, model.id) for model in missing)

    def _is_storage_ours(self, lease: HeldLease) -> bool:
        """Is this the storage that the records are about, and not the empty folder under an unmounted volume?

        A storage is marked by the first sweep that finds every record's file in it. One without the mark in which
        files are missing is never swept: what is gone there may only be elsewhere.
        """
        if self._storage.is_marked():
            return True
        missing, seen = self._models_without_file(lease)
        if missing:
            metrics.SWEEP_ALARMS("storage").inc()
            log.error("sweep.storage_looks_lost", records=seen, missing_files=len(missing))
            return False
        self._storage.mark()
        return True

    def _models_without_file(self, lease: HeldLease) -> tuple[list[Model], int]:
        """The older records whose file is gone, and how many records there are."""
        missing, seen = [], 0
        before = self._clock() - timedelta(seconds=UNTOUCHED_SECONDS)
        for model in self._all_models(lease):
            seen += 1
            if model.created_at < before and not self._has_file(model):
                missing.append(model)
        return missing, seen

    def _all_models(self, lease: HeldLease) -> Iterator[Model]:
        after: str | None = None
        while batch := self._models.batch(limit=_BATCH, after_id=after):
            lease.keep()
            yield from batch
            after = batch[-1].id

    def _has_file(self, model: Model) -> bool:
        try:
            with self._storage.open_reader(model.storage_key, start=0, length=0):
                return True
        except FileNotFoundError:
            return False

    def _settle_uploads(self, lease: HeldLease) -> int:
        """Match uploads that never learnt their job with the converter's list; forget those that never will."""
        now = self._clock()
        if self._ownership is not None:
            failures = 0
            for user_id in self._ledger.users_with_pending_uploads(started_before=now):
                lease.keep()
                try:
                    self._ownership.running_jobs(user_id, CallContext(Deadline(_MATCH_SECONDS), is_hurried=True))
                except GatewayError as failure:
                    log.info("sweep.match_failed", code=failure.code)
                    failures += 1
                    if failures == _MOST_FAILURES:
                        break  # the converter is down, and every further user would cost as much time
        return self._ledger.discard_pending(started_before=now - timedelta(seconds=FORGOTTEN_UPLOAD_SECONDS))


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
