"""Whose a job is, decided for every request before anything else is.

Memory is asked first, then the ledger, both by (user, job). What is not the caller's there goes on to a lazy rebuild
from the converter's list of the caller's running jobs, and then does not exist: foreign and absent ids take the same
way and get the same answer, also when the converter or the database is down.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from cachetools import TTLCache

from app import metrics
from app.clients.converter import ConverterClient
from app.clients.singleflight import SingleFlight
from app.domain.call import CallContext
from app.domain.job import Job, JobRecord
from app.domain.ownership import OwnershipMap, UserLocks
from app.errors import GatewayError, JobNotFoundError, ModelStoreUnavailableError, OwnershipMismatchError
from app.services.ports import JobLedger

log = structlog.get_logger(__name__)

MISS_SECONDS = 5.0
_MOST_MISSES = 10_000
#: How far the converter's clock may be behind ours when a lost upload is matched with a job of its list.
_CLOCK_SKEW = timedelta(minutes=5)


class JobOwnership:
    """Proves that jobs are their caller's. Thread-safe; users never wait for each other."""

    def __init__(
        self,
        converter: ConverterClient,
        ledger: JobLedger,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._converter = converter
        self._ledger = ledger
        self._owners = OwnershipMap()
        self._locks = UserLocks()
        self._lists: SingleFlight[Sequence[Job]] = SingleFlight(converter.wait)
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
        if any(job.job_id == job_id for job in self.running_jobs(user_id, context)):
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
        return self._lists.run(user_id, context, lambda: self._rebuild(user_id, context))

    def check_answer(self, user_id: str, job: Job) -> None:
        """A `user_id` in the converter's answer decides: raises OwnershipMismatchError if it is another's."""
        if job.user_id is not None and job.user_id != user_id:
            self._owners.forget(job.job_id)
            metrics.OWNERSHIP("contradicted").inc()
            raise OwnershipMismatchError("the converter names another owner")

    def note_started(self, user_id: str, upload_id: str, job: Job, *, filename: str, size: int | None) -> None:
        """Note a job that an upload has just started.

        The job is real whatever becomes of this note, so a failing database is logged and not raised: the pending row
        stays, and is matched with the converter's list later.
        """
        with self._locks.locked(user_id):
            self._owners.remember(user_id, job.job_id)
            with self._misses_guard:
                self._misses.pop(user_id, None)
            try:
                self._ledger.assign_job(upload_id, job, filename=filename, size=size)
            except ModelStoreUnavailableError:
                log.error("ledger.assign_failed", job_id=job.job_id)  # noqa: TRY400 - the cause was logged below

    def _has_missed(self, user_id: str) -> bool:
        with self._misses_guard:
            return user_id in self._misses

    def _rebuild(self, user_id: str, context: CallContext) -> Sequence[Job]:
        try:
            jobs = self._converter.list_active_jobs(user_id, context)
        except GatewayError:
            metrics.OWNERSHIP_REBUILDS("failed").inc()
            raise
        metrics.OWNERSHIP_REBUILDS("done").inc()
        with self._locks.locked(user_id):
            for job in jobs:
                self._match_pending(user_id, job)
                self._ledger.record_job(user_id, job)
                self._owners.remember(user_id, job.job_id)
        return jobs

    def _match_pending(self, user_id: str, job: Job) -> None:
        """Give an upload that never got its answer the job that nobody else accounts for."""
        if self._ledger.find_job(user_id, job.job_id) is not None:
            return
        for record in self._ledger.pending_uploads(user_id):
            if could_be_started_by(record, job):
                self._ledger.assign_job(record.upload_id, job, filename=record.filename, size=record.size)
                return


def could_be_started_by(record: JobRecord, job: Job) -> bool:
    """Can this pending upload have started that job, by the times that are known?"""
    created_at: datetime | None = job.created_at
    return created_at is None or created_at >= record.started_at - _CLOCK_SKEW
