"""What the services need of the world below them, as narrow protocols.

`app/library` implements them and `app/bootstrap.py` joins the two; tests hand in fakes. Every method may be called by
several threads at once. Every method of the database-backed ones raises ModelStoreUnavailableError when the database
fails, every method of `Storage` StorageUnavailableError when the storage does; neither lets a foreign exception out.
Times are aware UTC datetimes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from app.domain.job import Job, JobRecord
from app.domain.model import Model
from app.domain.stages import StageTime

#: Where a page of a newest-first listing begins: strictly after this (time, id).
PageKey = tuple[datetime, str]


class JobLedger(Protocol):
    """The durable record of whose job is whose; survives crashes and is shared by all workers."""

    def open_upload(self, upload_id: str, user_id: str, started_at: datetime) -> None:
        """Write the pending row of an upload, before its body is sent."""

    def assign_job(self, user_id: str, upload_id: str, job: Job, *, filename: str, size: int | None) -> None:
        """Give the user's pending row its job; may be repeated. A job that another row of the same user already holds
        makes this row vanish and updates that one. Raises OwnershipMismatchError if the job is another user's here:
        a job keeps its first owner."""

    def discard_upload(self, upload_id: str) -> None:
        """Remove a pending row: it is certain that no job came of it. A row with a job stays."""

    def record_job(self, user_id: str, job: Job, *, last_look: datetime | None = None) -> Sequence[StageTime]:
        """Note the newest known state of the user's job, inserting a row where there is none (lazy rebuild).

        A terminal state is never replaced by a non-terminal one. Raises OwnershipMismatchError if the job is another
        user's here. Returns what is now known of the stages' times; `last_look` is when the caller saw the job before.
        """

    def stages_of(self, user_id: str, job_ids: Iterable[str]) -> Mapping[str, Sequence[StageTime]]:
        """What was seen of the stages of the user's jobs, by job id; without those of which nothing was seen."""

    def find_job(self, user_id: str, job_id: str) -> JobRecord | None:
        """The user's own record of this job, or None."""

    def owners_of(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Whose these jobs are, by job id; without those that the ledger doesn't have. For nobody to see."""

    def pending_uploads(self, user_id: str) -> Sequence[JobRecord]:
        """The user's rows that have no job yet, oldest first."""

    def history(self, user_id: str, *, limit: int, after: PageKey | None) -> Sequence[JobRecord]:
        """At most `limit` records that have a job, newest first by (started_at, upload_id), after that key."""


class Leases(Protocol):
    """Named, expiring locks in the database, true across workers and replicas."""

    def acquire(self, name: str, holder: str, ttl_seconds: float) -> bool:
        """Take the lease if it is free, expired or already ours; False if somebody else holds it."""

    def renew(self, name: str, holder: str, ttl_seconds: float) -> bool:
        """Extend a lease that is ours. False: it is no longer ours (it expired and was taken, or is gone)."""

    def is_held(self, name: str) -> bool:
        """Does anybody hold the lease now? The answer may be out of date at once."""

    def release(self, name: str, holder: str) -> None:
        """Give the lease up if it is ours; otherwise do nothing."""


class RevokedSessions(Protocol):
    """Session ids that were signed out before they expired."""

    def revoke(self, sid: str, expires_at: datetime) -> None:
        """Note that this session has ended; the note is kept until `expires_at`. May be repeated."""

    def is_revoked(self, sid: str) -> bool:
        """Was this session signed out?"""


class ModelStore(Protocol):
    """The records of the model library. A model is seen by its owner only."""

    def add(self, model: Model) -> Model:
        """Record a model and return it; where the user has one of the same `source_job_id` already, return that one."""

    def find_by_source_job_id(self, user_id: str, job_id: str) -> Model | None:
        """The user's model that was made of this job, or None."""

    def model_ids_by_job(self, user_id: str, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Of these jobs, those that the user has a model of: job id to model id."""

    def find(self, user_id: str, model_id: str) -> Model | None:
        """The user's model, or None."""

    def page(self, user_id: str, *, limit: int, after: PageKey | None) -> Sequence[Model]:
        """At most `limit` models, newest first by (created_at, id), after that key."""

    def rename(self, user_id: str, model_id: str, name: str) -> Model | None:
        """Change the display name; the changed model, or None if the user has no such model."""

    def delete(self, user_id: str, model_id: str) -> bool:
        """Remove the record. False if the user has no such model."""

    def bytes_of(self, user_id: str) -> int:
        """The size of all the user's models together, in bytes."""


class StorageWriter(Protocol):
    """A file in the making. Nobody can read it before `commit`; leaving the block without one removes it."""

    def write(self, data: bytes) -> None:
        """Append bytes."""

    def commit(self) -> None:
        """Make the file durable and visible, all at once. Nothing may be written after."""


class Storage(Protocol):
    """Files by key. A key is made of one or more segments of `[A-Za-z0-9_-]`, joined by slashes."""

    def open_writer(self, key: str) -> AbstractContextManager[StorageWriter]:
        """Begin a file; see StorageWriter. An existing file of the key is replaced at commit."""

    def open_reader(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Read `length` bytes (None: all that follow) from offset `start`, in chunks of at most 1 MiB.

        Raises FileNotFoundError, when the block is entered, if there is no such file.
        """

    def delete(self, key: str) -> None:
        """Remove a file; without one, do nothing."""
