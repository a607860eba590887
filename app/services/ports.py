"""What the services need from the library, as narrow protocols.

`app/library` implements them and `app/bootstrap.py` joins the two; tests hand in fakes. Every method may be called by
several threads at once. Every method of the database-backed ones raises ModelStoreUnavailableError when the database
fails, every method of `Storage` StorageUnavailableError when the storage does; neither lets a foreign exception out.
Times are aware UTC datetimes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from app.domain.filters import ALL_JOBS, ALL_MODELS, JobFilter, ModelFilter
from app.domain.job import Job
from app.domain.job_record import JobRecord
from app.domain.model import Model
from app.domain.running_upload import RunningUpload
from app.domain.usual_time import CompletedJob

#: Where a page of a newest-first listing begins: strictly after this (time, id).
PageKey = tuple[datetime, str]


class JobLedger(Protocol):
    """The durable record of who owns which job. It survives crashes and is shared by all workers."""

    def open_upload(self, upload_id: str, user_id: str, started_at: datetime) -> None:
        """Write the pending row of an upload, before its body is sent."""

    def assign_job(
        self,
        user_id: str,
        upload_id: str,
        job: Job,
        *,
        filename: str,
        size: int | None,
        advice: Mapping[str, Any] | None = None,
        upload_facts: Mapping[str, Any] | None = None,
        usual_time: Mapping[str, Any] | None = None,
    ) -> None:
        """Give the user's pending row its job. May be repeated.

        If another row of the user has the job already, that row is updated and this one removed. Raises
        OwnershipMismatchError if the job is another user's in the ledger: the first owner of a job stays its owner.
        """

    def discard_upload(self, upload_id: str) -> None:
        """Remove a pending row of which no job was made. A row with a job stays."""

    def has_upload(self, upload_id: str) -> bool:
        """Return whether there is a row of this upload, with a job or without."""

    def record_job(self, user_id: str, job: Job, *, last_look: datetime | None = None) -> JobRecord:
        """Store the newest known state of the user's job, and insert a row if there is none (lazy rebuild).

        A non-terminal state never replaces a terminal one. Returns the record; `last_look` is when the caller last saw
        the job. Raises OwnershipMismatchError if the job is another user's in the ledger.
        """

    def find_job(self, user_id: str, job_id: str) -> JobRecord | None:
        """Return the user's record of this job, or None."""

    def owners_of(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the owners of these jobs by job id, for jobs that the ledger has. Never show them to a user."""

    def pending_uploads(self, user_id: str) -> Sequence[JobRecord]:
        """Return the user's rows without a job, oldest first."""

    def history(
        self, user_id: str, *, limit: int, after: PageKey | None, wanted: JobFilter = ALL_JOBS
    ) -> Sequence[JobRecord]:
        """Return at most `limit` wanted records with a job after that key, newest first by (started_at, upload_id).

        A filter by status applies to jobs that have ended. The unfinished ones are always among them.
        """

    def completed_jobs(self, chip: str, size_class: int, *, limit: int) -> Sequence[CompletedJob]:
        """Return the newest completed jobs of all users for this chip and class of size, at most `limit`."""


class Leases(Protocol):
    """Named, expiring locks in the database, shared by all workers and replicas."""

    def acquire(
        self,
        name: str,
        holder: str,
        ttl_seconds: float,
        *,
        upload_id: str | None = None,
        total_bytes: int | None = None,
    ) -> bool:
        """Acquire the lease if it is free, expired or already ours. Return False if another holder has it.

        The lease of an upload has the id that the client gave the upload, and the size of its body if it is announced.
        """

    def renew(self, name: str, holder: str, ttl_seconds: float, *, received_bytes: int | None = None) -> bool:
        """Extend our lease. Return False if it is no longer ours: it expired and was acquired, or removed.

        The renewal of an upload's lease has the bytes that have arrived.
        """

    def is_held(self, name: str) -> bool:
        """Return whether the lease is held. This may be out of date at once."""

    def find_upload(self, name: str) -> RunningUpload | None:
        """Return the upload that holds the lease now. None if there is none, or an earlier version holds the lease."""

    def request_end(self, name: str, upload_id: str) -> RunningUpload | None:
        """Ask the lease's holder to end this upload. Return the upload, or None if another or none holds the lease."""

    def requested_ends(self) -> Sequence[tuple[str, str]]:
        """Return name and holder of each lease whose upload has to end, unless the holder has answered."""

    def note_complete(self, name: str, holder: str) -> None:
        """Answer a request to end the upload of this holder: it is too late."""

    def release(self, name: str, holder: str) -> None:
        """Release the lease if it is ours. Otherwise do nothing."""


class RevokedSessions(Protocol):
    """Session ids that were signed out before they expired."""

    def revoke(self, sid: str, expires_at: datetime) -> None:
        """Record that this session has ended, until `expires_at`. May be repeated."""

    def is_revoked(self, sid: str) -> bool:
        """Return whether this session was signed out."""

    def revoked_since(self, moment: datetime | None) -> tuple[datetime, Sequence[str]]:
        """Return the database's current time, and the sessions that were signed out since `moment`.

        `moment` is the time that the previous call returned; None for the first call, which returns no sessions.
        """


class ModelStore(Protocol):
    """The records of the model library. Only its owner sees a model."""

    def add(self, model: Model, *, quota_bytes: int | None = None) -> Model:
        """Add a model and return it. If the user has one of the same `source_job_id`, return that one instead.

        Raises LibraryFullError, and adds nothing, if the user's models would then be larger than the quota.
        """

    def find_by_source_job_id(self, user_id: str, job_id: str) -> Model | None:
        """Return the user's model that was made from this job, or None."""

    def find_with_usage(self, user_id: str, job_id: str) -> tuple[Model | None, int]:
        """Return the user's model that was made from this job, or None, and the bytes of all of the user's models."""

    def model_ids_by_job(self, user_id: str, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the ids of the user's models by job id, for the jobs that have one."""

    def find(self, user_id: str, model_id: str) -> Model | None:
        """Return the user's model, or None."""

    def page(
        self, user_id: str, *, limit: int, after: PageKey | None, wanted: ModelFilter = ALL_MODELS
    ) -> Sequence[Model]:
        """Return at most `limit` wanted models after that key, newest first by (created_at, id)."""

    def rename(self, user_id: str, model_id: str, name: str) -> Model | None:
        """Change the display name. Return the changed model, or None if the user has no such model."""

    def delete(self, user_id: str, model_id: str) -> bool:
        """Remove the record. Return False if the user has no such model."""


class StorageWriter(Protocol):
    """A file in the making. It is not visible before `commit`. Leaving the block without `commit` removes it."""

    def write(self, data: bytes) -> None:
        """Append bytes."""

    def commit(self) -> None:
        """Make the file durable and visible, all at once. Nothing may be written afterwards."""


class Storage(Protocol):
    """Files by key."""

    def open_writer(self, key: str) -> AbstractContextManager[StorageWriter]:
        """Begin a file. The commit replaces an existing file of this key."""

    def open_reader(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Read `length` bytes (None: all that follow) from offset `start`, in chunks of at most 1 MiB.

        Raises FileNotFoundError on entering the block if there is no such file.
        """

    def delete(self, key: str) -> None:
        """Remove a file. Does nothing if there is none."""
