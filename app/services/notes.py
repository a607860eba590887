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


@dataclass(slots=True)
class _Known:
    """What this process knows of the ledger's row of a job."""

    state: tuple[object, ...] = ()
    last_look: datetime | None = None
    stages: Sequence[StageTime] | None = None
    upload: UploadNote | None = None


class JobNotes:
    """Reads and writes the ledger for polls. Thread-safe; a poll never fails because the database is down."""

    def __init__(self, ledger: JobLedger, writes: DeferredWrites, *, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._writes = writes
        self._clock = clock
        self._guard = threading.Lock()
        self._jobs: LRUCache[tuple[str, str], _Known] = LRUCache(_MOST_JOBS)

    def note(self, user_id: str, job: Job) -> None:
        """Record the job's state if it differs from the one that this process recorded last.

        If the database fails, the state is recorded in the background. Raises OwnershipMismatchError if the ledger has
        the job as another user's and the converter does not name this user.
        """
        known, now = self._known(user_id, job.job_id), self._clock()
        last_look, state = known.last_look, (job.status, job.stage, job.error)
        if known.state == state:
            known.last_look = now
            return

        def write() -> None:
            try:
                known.stages = self._ledger.record_job(user_id, job, last_look=last_look)
            except OwnershipMismatchError:
                if job.user_id != user_id:
                    raise

        is_written = self._writes.write(LEDGER, f"state of {job.job_id}", write)
        known.state = state
        if is_written:
            known.last_look = now

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
        known = self._known(user_id, job_id)
        if known.stages is not None:
            return known.stages
        try:
            return self._ledger.stages_of(user_id, [job_id]).get(job_id, ())
        except ModelStoreUnavailableError:
            log.warning("ledger.find_failed", job_id=job_id)
            return ()

    def upload_of(self, user_id: str, job_id: str) -> UploadNote:
        """Return what is known of the job's upload."""
        known = self._known(user_id, job_id)
        if known.upload is not None:
            return known.upload
        record = self.find_record(user_id, job_id)
        if record is None:
            return UploadNote()
        note = UploadNote(record.filename, record.size, record.started_at)
        # A row without a file name comes from the converter's list; an upload may still be matched with it.
        if note.filename:
            known.upload = note
        return note

    def _known(self, user_id: str, job_id: str) -> _Known:
        with self._guard:
            return self._jobs.setdefault((user_id, job_id), _Known())
