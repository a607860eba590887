"""Record in the ledger what polls see of jobs, and read from it what polls show, without a query for each poll.

Two caches in front of the ledger do that: a job's state is written only when it changes, and the facts of its upload,
which never change once they are known, are read once.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from cachetools import LRUCache

from app.domain.job import Job, JobRecord
from app.domain.stages import StageTime
from app.errors import ModelStoreUnavailableError, OwnershipMismatchError
from app.services.deferred_writes import LEDGER, DeferredWrites
from app.services.ports import JobLedger

log = structlog.get_logger(__name__)

_MOST_JOBS = 10_000


@dataclass(frozen=True, slots=True)
class UploadNote:
    """The ledger's facts of the upload that started a job; empty if the job was found on the converter's list."""

    filename: str = ""
    size: int | None = None
    started_at: datetime | None = None


class JobNotes:
    """Reads and writes the ledger for polls. Thread-safe; a poll never fails because the database is down."""

    def __init__(self, ledger: JobLedger, writes: DeferredWrites, *, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._writes = writes
        self._clock = clock
        self._guard = threading.Lock()
        self._states: LRUCache[tuple[str, str], tuple[object, ...]] = LRUCache(_MOST_JOBS)
        self._looks: LRUCache[str, datetime] = LRUCache(_MOST_JOBS)
        self._stages: LRUCache[tuple[str, str], Sequence[StageTime]] = LRUCache(_MOST_JOBS)
        self._uploads: LRUCache[tuple[str, str], UploadNote] = LRUCache(_MOST_JOBS)

    def note(self, user_id: str, job: Job) -> None:
        """Record the job's state if it differs from the one that this process recorded last.

        If the database fails, the state is recorded in the background. Raises OwnershipMismatchError if the ledger has
        the job as another user's and the converter does not name this user.
        """
        key, state = (user_id, job.job_id), (job.status, job.stage, job.error)
        now = self._clock()
        with self._guard:
            last_look = self._looks.get(job.job_id)
            if self._states.get(key) == state:
                self._looks[job.job_id] = now
                return

        def write() -> None:
            try:
                stages = self._ledger.record_job(user_id, job, last_look=last_look)
            except OwnershipMismatchError:
                if job.user_id != user_id:
                    raise
                return
            with self._guard:
                self._stages[key] = stages

        is_written = self._writes.write(LEDGER, f"state of {job.job_id}", write)
        with self._guard:
            self._states[key] = state
            if is_written:
                self._looks[job.job_id] = now

    def find_record(self, user_id: str, job_id: str) -> JobRecord | None:
        """Return the ledger's record, or None if there is none or the database is down."""
        try:
            return self._ledger.find_job(user_id, job_id)
        except ModelStoreUnavailableError:
            log.warning("ledger.find_failed", job_id=job_id)
            return None

    def stages_of(self, user_id: str, job_id: str) -> Sequence[StageTime]:
        """Return the known times of the job's stages; an empty sequence if the database is down.

        The times change only with the job's state, so those of the last `note` are as new as the state.
        """
        key = (user_id, job_id)
        with self._guard:
            known = self._stages.get(key)
        if known is not None:
            return known
        try:
            found = self._ledger.stages_of(user_id, [job_id])
        except ModelStoreUnavailableError:
            log.warning("ledger.find_failed", job_id=job_id)
            return ()
        return found.get(job_id, ())

    def upload_of(self, user_id: str, job_id: str) -> UploadNote:
        """Return what is known of the job's upload."""
        key = (user_id, job_id)
        with self._guard:
            known = self._uploads.get(key)
        if known is not None:
            return known
        record = self.find_record(user_id, job_id)
        if record is None:
            return UploadNote()
        note = UploadNote(record.filename, record.size, record.started_at)
        # A row without a file name comes from the converter's list; an upload may still be matched with it.
        if note.filename:
            with self._guard:
                self._uploads[key] = note
        return note
