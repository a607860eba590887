"""Record in the ledger what polls see of jobs, and read from it what polls show, without a query for each poll.

Two caches in front of the ledger do that: a job's state is written only when it changes, and the facts of its upload,
which never change once they are known, are read once.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import structlog
from cachetools import LRUCache

from app.domain.job import Job
from app.domain.job_record import JobRecord
from app.domain.stages import StageTime
from app.errors import ModelStoreUnavailableError, OwnershipMismatchError
from app.services.advising import JobAdvice
from app.services.deferred_writes import LEDGER, DeferredWrites
from app.services.ports import JobLedger

log = structlog.get_logger(__name__)

_MOST_JOBS = 10_000
#: About the most memory for advice in one process: that of some 4,000 jobs. The rest is read from the ledger again.
_MOST_ADVICE_BYTES = 32 * 1024 * 1024
#: How long each poll of a job without a file name reads the ledger again, and how often polls do so after that.
UNNAMED_TIME = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class UploadNote:
    """The ledger's facts of the upload that started a job; empty if the job was found on the converter's list."""

    filename: str = ""
    size: int | None = None
    started_at: datetime | None = None
    usual_time: Mapping[str, Any] | None = None
    reference_images: Mapping[str, int] | None = None


@dataclass(slots=True)
class _Known:
    """What this process knows of the ledger's row of a job."""

    state: tuple[object, ...] = ()
    last_look: datetime | None = None
    #: Without its advice, which JobNotes has.
    record: JobRecord | None = None
    has_advice: bool = False
    read_at: datetime | None = None
    #: When a row without a file name was first read.
    unnamed_since: datetime | None = None


class JobNotes:
    """Reads and writes the ledger for polls. Thread-safe; a poll never fails because the database is down."""

    def __init__(self, ledger: JobLedger, writes: DeferredWrites, *, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._writes = writes
        self._clock = clock
        self._guard = threading.Lock()
        self._jobs: LRUCache[tuple[str, str], _Known] = LRUCache(_MOST_JOBS)
        self._advice: LRUCache[tuple[str, str], JobAdvice] = LRUCache(
            _MOST_ADVICE_BYTES, getsizeof=attrgetter("most_bytes")
        )

    def note(self, user_id: str, job: Job) -> None:
        """Record the job's state if it differs from the one that this process recorded last.

        If the database fails, the state is recorded in the background. Raises OwnershipMismatchError if the ledger has
        the job as another user's and the converter does not name this user.
        """
        known, now = self._known(user_id, job.job_id), self._clock()
        last_look, state = known.last_look, _state(job)
        if known.state == state:
            known.last_look = now
            return

        def write() -> None:
            try:
                self._set_record(known, self._ledger.record_job(user_id, job, last_look=last_look))
            except OwnershipMismatchError:
                if job.user_id != user_id:
                    raise

        is_written = self._writes.write(LEDGER, f"state of {job.job_id}", write)
        known.state = state
        if is_written:
            known.last_look = now

    def learn(self, record: JobRecord) -> None:
        """Remember a record that the caller has just read from the ledger."""
        job = record.job
        if job is None:
            return
        known = self._known(record.user_id, job.job_id)
        self._set_record(known, record)
        # A running stage without a time must still be recorded: the response to the upload has named it. If the record
        # is older than the last `note`, so must that one's state, which brings the newer record again.
        has_stages = job.is_terminal or job.stage_index is None or bool(record.stages)
        known.state = _state(job) if has_stages else ()

    def find_record(self, user_id: str, job_id: str) -> JobRecord | None:
        """Return the ledger's record, or None if there is none or the database is down."""
        try:
            record = self._ledger.find_job(user_id, job_id)
        except ModelStoreUnavailableError:
            log.warning("ledger.find_failed", job_id=job_id)
            return None
        if record is not None:
            self.learn(record)
        return record

    def stages_of(self, user_id: str, job_id: str) -> Sequence[StageTime]:
        """Return the known times of the job's stages; an empty sequence if the database is down.

        The times change only with the job's state, so those of the last `note` are as new as the state.
        """
        record = self._record_of(user_id, job_id)
        return record.stages if record else ()

    def upload_of(self, user_id: str, job_id: str) -> UploadNote:
        """Return what is known of the job's upload."""
        record = self._record_of(user_id, job_id)
        if record is None:
            return UploadNote()
        return UploadNote(record.filename, record.size, record.started_at, record.usual_time, record.reference_images)

    def advice_of(self, user_id: str, job_id: str) -> JobAdvice | None:
        """Return the advice that was stored with the job, or None if there is none or the database is down."""
        self._record_of(user_id, job_id)
        if not self._known(user_id, job_id).has_advice:
            return None
        found = self._cached_advice(user_id, job_id)
        if found is None and self.find_record(user_id, job_id) is not None:
            found = self._cached_advice(user_id, job_id)
        return found

    def _cached_advice(self, user_id: str, job_id: str) -> JobAdvice | None:
        with self._guard:
            return self._advice.get((user_id, job_id))

    def _record_of(self, user_id: str, job_id: str) -> JobRecord | None:
        known = self._known(user_id, job_id)
        if known.record is not None and not self._may_have_got_name(known):
            return known.record
        return self.find_record(user_id, job_id) or known.record

    def _may_have_got_name(self, known: _Known) -> bool:
        """Return whether to read a row without a file name again.

        Such a row comes from the converter's list. If its upload is still in progress in another process, the name
        follows within moments; if the name was lost, it never does.
        """
        if known.unnamed_since is None or known.read_at is None:
            return False
        now = self._clock()
        return now - known.unnamed_since < UNNAMED_TIME or now - known.read_at >= UNNAMED_TIME

    def _set_record(self, known: _Known, record: JobRecord) -> None:
        known.record, known.read_at = replace(record, advice=None), self._clock()
        if record.advice is not None and record.job_id is not None:
            key = (record.user_id, record.job_id)
            with self._guard:
                if key not in self._advice:
                    self._advice[key] = JobAdvice(record.advice)
            known.has_advice = True
        known.unnamed_since = None if record.filename else known.unnamed_since or known.read_at

    def _known(self, user_id: str, job_id: str) -> _Known:
        with self._guard:
            return self._jobs.setdefault((user_id, job_id), _Known())


def _state(job: Job) -> tuple[object, ...]:
    return job.status, job.stage, job.error
