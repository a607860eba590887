"""Prove that a job is its caller's, for every request and before anything else is done with the job.

Memory is asked first, then the ledger, both by user and job. If neither has the pair, the converter's list of the
user's running jobs is asked (the lazy rebuild); if the job is not there either, it does not exist for this caller. Jobs
of other users and jobs that do not exist take the same steps and get the same failure, also when the converter or the
database is down.

Every job that the converter returns, in a list or alone, passes `accept` or `check_owner` before the gateway shows or
records it. The rule for that is in `app/domain/ownership.py`.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from cachetools import LRUCache, TTLCache

from app import metrics
from app.clients.converter import ConverterClient
from app.clients.retry import Call
from app.clients.single_flight import SingleFlightCache
from app.domain.call import CallContext, Deadline
from app.domain.job import Job, is_job_id
from app.domain.job_record import JobRecord
from app.domain.ownership import CLOCK_SKEW, UserLocks, jobs_of, may_have_started
from app.errors import GatewayError, JobNotFoundError, OwnershipMismatchError
from app.services.deferred_writes import LEDGER, DeferredWrites
from app.services.ports import JobLedger

log = structlog.get_logger(__name__)

MISS_SECONDS = 5.0
_MOST_ENTRIES = 10_000
#: How long the response to an upload may wait for the database to record its job.
_NOTE_SECONDS = 2.0
#: The deadline of a call to the converter from the background: a worker that ends makes one for each late note.
_LOOK_SECONDS = 2.0


class JobOwnership:
    """Proves that jobs are their caller's. Thread-safe; users never wait for each other.

    The map of owners is a cache: it says yes for a pair that the ledger or the converter has proved, and never no.
    """

    def __init__(
        self,
        converter: ConverterClient,
        ledger: JobLedger,
        writes: DeferredWrites,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._converter = converter
        self._ledger = ledger
        self._writes = writes
        self._clock = clock
        self._guard = threading.Lock()
        self._owners: LRUCache[str, str] = LRUCache(_MOST_ENTRIES)
        self._misses: TTLCache[str, bool] = TTLCache(_MOST_ENTRIES, MISS_SECONDS, timer=monotonic)
        self._locks = UserLocks()
        self._lists = SingleFlightCache(
            self._rebuild, seconds=0, max_entries=1, wait=partial(converter.wait, Call.LIST_JOBS), monotonic=monotonic
        )

    def require(self, user_id: str, job_id: str, context: CallContext) -> JobRecord | None:
        """Return if the job is the user's. The result is the ledger's record if it was read, otherwise None.

        Raises JobNotFoundError if it is not, whether it exists or not, and what asking the database or the converter
        raises: a failure is never taken for a yes.
        """
        if not is_job_id(job_id):
            raise JobNotFoundError("the id is malformed")
        if self._owner_of(job_id) == user_id:
            metrics.OWNERSHIP("memory").inc()
            return None
        record = self._ledger.find_job(user_id, job_id)
        if record is not None:
            metrics.OWNERSHIP("ledger").inc()
            self._remember(user_id, job_id)
            return record
        with self._guard:
            has_missed = user_id in self._misses
        if has_missed:
            metrics.OWNERSHIP("denied_again").inc()
            raise JobNotFoundError("not found a moment ago")
        if any(job.job_id == job_id for job in self.running_jobs(user_id, context)) or self._is_lost_uploads(
            user_id, job_id, context
        ):
            metrics.OWNERSHIP("rebuilt").inc()
            return None
        metrics.OWNERSHIP("denied").inc()
        with self._guard:
            self._misses[user_id] = True
        raise JobNotFoundError("neither remembered, nor in the ledger, nor running")

    def running_jobs(self, user_id: str, context: CallContext) -> Sequence[Job]:
        """Return the user's running jobs as the converter lists them now, and record them in the ledger and in memory.

        Concurrent callers of one user share one call. A job is matched with the upload that got no response, if any.
        """
        return self._lists.get(user_id, context)

    def accept(self, user_id: str, jobs: Sequence[Job]) -> list[Job]:
        """Return those of the converter's jobs that are the user's, and log the others.

        Raises ModelStoreUnavailableError if the converter doesn't name a job's owner and the ledger can't be asked.
        """
        unnamed = [job.job_id for job in jobs if job.user_id is None]
        recorded: dict[str, str] = {}
        if unnamed:
            # What this process knows may not be in the ledger yet.
            remembered = {job_id: owner for job_id in unnamed if (owner := self._owner_of(job_id)) is not None}
            recorded = remembered | dict(self._ledger.owners_of(unnamed))
        pending = self._ledger.pending_uploads(user_id) if recorded.keys() < set(unnamed) else ()
        accepted = jobs_of(user_id, jobs, recorded, pending)
        accepted_ids = {job.job_id for job in accepted}
        for job in jobs:
            if job.job_id not in accepted_ids:
                metrics.OWNERSHIP("unattributed").inc()
                log.warning("ownership.not_the_callers", job_id=job.job_id, is_named=job.user_id is not None)
        return accepted

    def check_owner(self, user_id: str, job: Job) -> None:
        """Raise OwnershipMismatchError if the converter names another user as the job's owner: its word decides."""
        if job.user_id is not None and job.user_id != user_id:
            self._forget(job.job_id)
            metrics.OWNERSHIP("contradicted").inc()
            raise OwnershipMismatchError("the converter names another owner")

    def find_started(self, upload: JobRecord, context: CallContext) -> Job | None:
        """Return the job that this upload has started although it got no usable response, or None.

        That is a job on the converter's list which is the user's, has a time that fits the upload, and belongs to no
        other upload. Raises what asking the converter or the database raises.
        """
        latest = self._clock() + CLOCK_SKEW
        for job in self._list(upload.user_id, context):
            if not may_have_started(upload, job) or (job.created_at is not None and job.created_at > latest):
                continue
            record = self._ledger.find_job(upload.user_id, job.job_id)
            # Another request of this user may already have matched the job with our pending row.
            if record is None or record.upload_id == upload.upload_id:
                return job
        return None

    def note_started(
        self,
        upload: JobRecord,
        job: Job,
        *,
        filename: str,
        size: int | None,
        upload_facts: Mapping[str, Any] | None = None,
        usual_time: Mapping[str, Any] | None = None,
        advice: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a job that an upload has just started.

        The job exists whether this succeeds or not. If the database fails for longer than a moment, the write is held
        in memory and retried in the background. Raises OwnershipMismatchError if the job is another user's.
        """
        user_id = upload.user_id
        self.check_owner(user_id, job)
        if job.user_id is None and self._owner_of(job.job_id) not in {None, user_id}:
            # It may not be in the ledger yet.
            raise OwnershipMismatchError("this process knows another owner")

        def write() -> None:
            with self._agreeing(user_id, job):
                self._ledger.assign_job(
                    user_id,
                    upload.upload_id,
                    job,
                    filename=filename,
                    size=size,
                    upload_facts=upload_facts,
                    usual_time=usual_time,
                    advice=advice,
                )

        key = f"job {job.job_id}"
        if not self._writes.write(LEDGER, key, write, patience_seconds=_NOTE_SECONDS):
            # An alert: if this worker is killed before the write succeeds, the job may be lost once it has ended.
            log.error("ledger.job_not_noted", job_id=job.job_id, upload_id=upload.upload_id)
            self._writes.add(LEDGER, key, lambda: self._note_late(user_id, job, write))
        self._remember(user_id, job.job_id)
        with self._guard:
            self._misses.pop(user_id, None)

    def _note_late(self, user_id: str, job: Job, write: Callable[[], None]) -> None:
        """Record a job late, and queue a call for the state that it has by now."""
        try:
            write()
        except OwnershipMismatchError:
            self._forget(job.job_id)
            return
        self._writes.add(LEDGER, f"look at {job.job_id}", lambda: self._note_state(user_id, job.job_id), is_slow=True)

    def _note_state(self, user_id: str, job_id: str) -> None:
        try:
            job = self._converter.get_job(job_id, CallContext(Deadline(_LOOK_SECONDS), has_short_deadline=True))
            self.check_owner(user_id, job)
        except GatewayError as failure:
            # Polls and the history will ask again.
            log.info("ledger.late_look_failed", job_id=job_id, code=failure.code)
            return
        with suppress(OwnershipMismatchError), self._agreeing(user_id, job):
            self._ledger.record_job(user_id, job)

    def _is_lost_uploads(self, user_id: str, job_id: str, context: CallContext) -> bool:
        """Return whether an upload of the user started this job, which has ended and which the ledger does not have.

        The user knows the id from the response to the upload. The converter must name the user.
        """
        if not self._ledger.pending_uploads(user_id):
            return False
        try:
            job = self._converter.get_job(job_id, context)
        except JobNotFoundError:
            return False
        return job.user_id == user_id and self._note_found(user_id, job)

    @contextmanager
    def _agreeing(self, user_id: str, job: Job) -> Iterator[None]:
        """Ignore in the block that the ledger has the job as another user's, if the converter names this user.

        The ledger stays as it is. Raises OwnershipMismatchError if the converter does not name this user.
        """
        try:
            yield
        except OwnershipMismatchError:
            metrics.OWNERSHIP("contradicted").inc()
            is_overruled = job.user_id == user_id
            log.warning("ledger.job_of_another_user", job_id=job.job_id, is_overruled=is_overruled)
            if not is_overruled:
                raise

    def _list(self, user_id: str, context: CallContext) -> list[Job]:
        listed = self._converter.list_jobs(user_id, context)
        return [job for job in self.accept(user_id, listed) if not job.is_terminal]

    def _rebuild(self, user_id: str, context: CallContext) -> Sequence[Job]:
        try:
            jobs = self._list(user_id, context)
        except GatewayError:
            metrics.OWNERSHIP_REBUILDS("failed").inc()
            raise
        metrics.OWNERSHIP_REBUILDS("done").inc()
        return [job for job in jobs if self._note_found(user_id, job)]

    def _note_found(self, user_id: str, job: Job) -> bool:
        """Record the user's job. Return False if it has become another user's in the meantime."""
        try:
            with self._locks.locked(user_id), self._agreeing(user_id, job):
                self._match_pending(user_id, job)
                self._ledger.record_job(user_id, job)
        except OwnershipMismatchError:
            return False
        self._remember(user_id, job.job_id)
        return True

    def _match_pending(self, user_id: str, job: Job) -> None:
        """Give the job to the upload that got no response: the newest that fits, because a user has one at a time."""
        if self._ledger.find_job(user_id, job.job_id) is not None:
            return
        for upload in reversed(self._ledger.pending_uploads(user_id)):
            if may_have_started(upload, job):
                self._ledger.assign_job(user_id, upload.upload_id, job, filename=upload.filename, size=upload.size)
                return

    def _owner_of(self, job_id: str) -> str | None:
        with self._guard:
            return self._owners.get(job_id)

    def _remember(self, user_id: str, job_id: str) -> None:
        with self._guard:
            self._owners[job_id] = user_id

    def _forget(self, job_id: str) -> None:
        with self._guard:
            self._owners.pop(job_id, None)
