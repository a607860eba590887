"""Keeping the ledger in step with what polls see, and telling what the ledger knows, without a query a poll.

Both directions are caches in front of the ledger: a job's state is written when it changes, and the facts of its
upload, which never change once they are known, are read once.
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
    """What the ledger knows of the upload that a job came of; empty where the job was found at the converter."""

    filename: str = ""
    size: int | None = None
    started_at: datetime | None = None


class JobNotes:
    """Reads and writes the ledger for polls. Thread-safe; a failing database makes no poll fail."""

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
        """Record the job's state if it differs from what this process recorded last.

        A state that the database doesn't take is recorded in the background. Raises OwnershipMismatchError if the job
        is another user's in the ledger and the converter doesn't say that it is this one's.
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
        """The ledger's record, or None if there is none or the database is down."""
        try:
            return self._ledger.find_job(user_id, job_id)
        except ModelStoreUnavailableError:
            log.warning("ledger.find_failed", job_id=job_id)
            return None

    def stages_of(self, user_id: str, job_id: str) -> Sequence[StageTime]:
        """What is known of when the job's stages began and ended; nothing where the database is down.

        The times change only when the job's state does, so what `note` was told last is as new as the state.
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
        """What is known of the job's upload."""
        key = (user_id, job_id)
        with self._guard:
            known = self._uploads.get(key)
        if known is not None:
            return known
        record = self.find_record(user_id, job_id)
        if record is None:
            return UploadNote()
        note = UploadNote(record.filename, record.size, record.started_at)
        # Without a file name the row was rebuilt from the converter's list, and the upload may still be matched to it.
        if note.filename:
            with self._guard:
                self._uploads[key] = note
        return note
