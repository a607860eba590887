"""Whose a job is, decided for every request before anything else is.

Memory is asked first, then the ledger, both by (user, job). What is not the caller's there goes on to a lazy rebuild
from the converter's list of the caller's running jobs, and then does not exist: foreign and absent ids take the same
way and get the same answer, also when the converter or the database is down.

Every job that the converter tells of, in a list or alone, passes `accept` or `check_answer` before it is shown or
noted. How it is decided stands in `app/domain/ownership.py`.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial

import structlog
from cachetools import TTLCache

from app import metrics
from app.clients.converter import ConverterClient
from app.clients.retry import Call
from app.clients.single_flight import SingleFlightCache
from app.domain.call import CallContext, Deadline
from app.domain.job import Job, JobRecord
from app.domain.ownership import CLOCK_SKEW, OwnershipMap, UserLocks, jobs_of, may_have_started
from app.errors import GatewayError, JobNotFoundError, OwnershipMismatchError
from app.services.deferred_writes import LEDGER, DeferredWrites
from app.services.ports import JobLedger

log = structlog.get_logger(__name__)

MISS_SECONDS = 5.0
_MOST_MISSES = 10_000
#: How long an upload's answer may wait for the database to take the note of its job.
_NOTE_SECONDS = 2.0
#: How long the background may ask the converter how a job stands: a worker that ends asks for each late note.
_LOOK_SECONDS = 2.0


class JobOwnership:
    """Proves that jobs are their caller's. Thread-safe; users never wait for each other."""

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
        self._owners = OwnershipMap()
        self._locks = UserLocks()
        self._lists = SingleFlightCache(
            self._rebuild, seconds=0, max_entries=1, wait=partial(converter.wait, Call.LIST_JOBS), monotonic=monotonic
        )
        self._misses: TTLCache[str, bool] = TTLCache(_MOST_MISSES, MISS_SECONDS, timer=monotonic)
        self._misses_guard = threading.Lock()

    def require(self, user_id: str, job_id: str, context: CallContext) -> None:
        """Return if the job is the user's.

        Raises JobNotFoundError if it is not, whether it exists or not, and what asking the database or the converter
        raises: when that fails the answer is never "yes".
        """
        if self._owners.owns(user_id, job_id):
            metrics.OWNERSHIP("memory").inc()
            return
        if self._ledger.find_job(user_id, job_id) is not None:
            metrics.OWNERSHIP("ledger").inc()
            self._owners.remember(user_id, job_id)
            return
        if self._has_missed(user_id):
            metrics.OWNERSHIP("denied_again").inc()
            raise JobNotFoundError("not found a moment ago")
        if any(job.job_id == job_id for job in self.running_jobs(user_id, context)) or self._is_lost_uploads(
            user_id, job_id, context
        ):
            metrics.OWNERSHIP("rebuilt").inc()
            return
        metrics.OWNERSHIP("denied").inc()
        with self._misses_guard:
            self._misses[user_id] = True
        raise JobNotFoundError("neither remembered, nor in the ledger, nor running")

    def running_jobs(self, user_id: str, context: CallContext) -> Sequence[Job]:
        """The user's running jobs as the converter lists them now, noted in the ledger and in memory.

        Concurrent callers of one user share one call. An upload whose answer was lost is matched on the way.
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
            remembered = {job_id: owner for job_id in unnamed if (owner := self._owners.owner_of(job_id)) is not None}
            recorded = remembered | dict(self._ledger.owners_of(unnamed))
        pending = self._ledger.pending_uploads(user_id) if recorded.keys() < set(unnamed) else ()
        accepted = jobs_of(user_id, jobs, recorded, pending)
        accepted_ids = {job.job_id for job in accepted}
        for job in jobs:
            if job.job_id not in accepted_ids:
                metrics.OWNERSHIP("unattributed").inc()
                log.warning("ownership.not_the_callers", job_id=job.job_id, is_named=job.user_id is not None)
        return accepted

    def check_answer(self, user_id: str, job: Job) -> None:
        """A `user_id` in the converter's answer decides: raises OwnershipMismatchError if it is another's."""
        if job.user_id is not None and job.user_id != user_id:
            self._owners.forget(job.job_id)
            metrics.OWNERSHIP("contradicted").inc()
            raise OwnershipMismatchError("the converter names another owner")

    def find_started(self, upload: JobRecord, context: CallContext) -> Job | None:
        """Ask the converter for the job that this upload has started although its answer doesn't say so.

        A job counts if it is the user's, its time fits the upload, and no other upload has it. Raises what asking the
        converter or the database raises.
        """
        latest = self._clock() + CLOCK_SKEW
        for job in self._list(upload.user_id, context):
            if not may_have_started(upload, job) or (job.created_at is not None and job.created_at > latest):
                continue
            record = self._ledger.find_job(upload.user_id, job.job_id)
            # Another request of this user may have matched the job with our pending row already.
            if record is None or record.upload_id == upload.upload_id:
                return job
        return None

    def note_started(self, upload: JobRecord, job: Job, *, filename: str, size: int | None) -> None:
        """Note a job that an upload has just started.

        The job is real whatever becomes of this note. One that the database doesn't take within a moment is kept in
        memory and retried in the background. Raises OwnershipMismatchError if the job is another user's.
        """
        user_id = upload.user_id
        self.check_answer(user_id, job)
        if job.user_id is None and self._owners.owner_of(job.job_id) not in {None, user_id}:
            # The ledger may not have the note of it yet.
            raise OwnershipMismatchError("this process knows another owner")

        def write() -> None:
            with self._agreeing(user_id, job):
                self._ledger.assign_job(user_id, upload.upload_id, job, filename=filename, size=size)

        key = f"job {job.job_id}"
        if not self._writes.write(LEDGER, key, write, patience_seconds=_NOTE_SECONDS):
            # An alarm: if this worker is killed before the note is written, the job may be lost once it has ended.
            log.error("ledger.job_not_noted", job_id=job.job_id, upload_id=upload.upload_id)
            self._writes.add(LEDGER, key, lambda: self._note_late(user_id, job, write))
        self._owners.remember(user_id, job.job_id)
        with self._misses_guard:
            self._misses.pop(user_id, None)

    def _note_late(self, user_id: str, job: Job, write: Callable[[], None]) -> None:
        """Write a note that the database didn't take before, and then ask how the job stands by now."""
        try:
            write()
        except OwnershipMismatchError:
            self._owners.forget(job.job_id)
            return
        self._writes.add(LEDGER, f"look at {job.job_id}", lambda: self._note_state(user_id, job.job_id), is_slow=True)

    def _note_state(self, user_id: str, job_id: str) -> None:
        try:
            job = self._converter.get_job(job_id, CallContext(Deadline(_LOOK_SECONDS), has_short_deadline=True))
            self.check_answer(user_id, job)
        except GatewayError as failure:
            # Polls and the history ask again.
            log.info("ledger.late_look_failed", job_id=job_id, code=failure.code)
            return
        with suppress(OwnershipMismatchError), self._agreeing(user_id, job):
            self._ledger.record_job(user_id, job)

    def _is_lost_uploads(self, user_id: str, job_id: str, context: CallContext) -> bool:
        """Did an upload of the user start this job, although the note of it was lost and the job has ended since?

        The user knows the id from the answer to the upload. Only a converter that names the user is believed.
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
        """Let the block write the user's job to the ledger, which refuses another user's (OwnershipMismatchError).

        The ledger keeps that owner. The failure is passed on unless the converter names this user.
        """
        try:
            yield
        except OwnershipMismatchError:
            metrics.OWNERSHIP("contradicted").inc()
            is_overruled = job.user_id == user_id
            log.warning("ledger.job_of_another_user", job_id=job.job_id, is_overruled=is_overruled)
            if not is_overruled:
                raise

    def _has_missed(self, user_id: str) -> bool:
        with self._misses_guard:
            return user_id in self._misses

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
        with self._locks.locked(user_id):
            return [job for job in jobs if self._note_found(user_id, job)]

    def _note_found(self, user_id: str, job: Job) -> bool:
        """Note the user's job; return False if it has become another user's meanwhile."""
        try:
            with self._agreeing(user_id, job):
                self._match_pending(user_id, job)
                self._ledger.record_job(user_id, job)
        except OwnershipMismatchError:
            return False
        self._owners.remember(user_id, job.job_id)
        return True

    def _match_pending(self, user_id: str, job: Job) -> None:
        """Give the job to the upload that never got its answer: the newest that fits, since they run one at a time."""
        if self._ledger.find_job(user_id, job.job_id) is not None:
            return
        for upload in reversed(self._ledger.pending_uploads(user_id)):
            if may_have_started(upload, job):
                self._ledger.assign_job(user_id, upload.upload_id, job, filename=upload.filename, size=upload.size)
                return
