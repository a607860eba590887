"""The rule that decides who owns a job, and the locks that make one user's threads take turns.

A lock exists only while a thread holds it or waits for it, so there are never more locks than threads.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from app.domain.job import Job
from app.domain.job_record import JobRecord

#: How far the converter's clock may be from ours when an upload is matched with a job.
CLOCK_SKEW = timedelta(minutes=5)


def owner_of(job: Job, recorded: Mapping[str, str]) -> str | None:
    """Return the owner that the converter names, else the one in the ledger, else None.

    `recorded` maps job ids to owners, as the ledger has them.
    """
    return job.user_id if job.user_id is not None else recorded.get(job.job_id)


def jobs_of(
    user_id: str, listed: Sequence[Job], recorded: Mapping[str, str], pending: Sequence[JobRecord]
) -> list[Job]:
    """Return the user's jobs among `listed`, which the converter returned for this user.

    A job without an owner (see `owner_of`) is the user's only if its time fits one of the user's `pending` uploads, or
    if the list names this user and no other: then the converter has selected the jobs by user.
    """
    owners = {owner_of(job, recorded) for job in listed} - {None}
    is_users_list = owners == {user_id} and any(job.user_id == user_id for job in listed)

    def is_users(job: Job) -> bool:
        owner = owner_of(job, recorded)
        if owner is not None:
            return owner == user_id
        return is_users_list or (job.created_at is not None and any(may_have_started(row, job) for row in pending))

    return [job for job in listed if is_users(job)]


def may_have_started(upload: JobRecord, job: Job) -> bool:
    """Return whether this upload may have started the job, by the job's time. An unknown time allows it."""
    return job.created_at is None or job.created_at >= upload.started_at - CLOCK_SKEW


@dataclass(slots=True)
class _UserLock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class UserLocks:
    """One lock for each user that a thread holds or waits for. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, _UserLock] = {}

    @contextmanager
    def locked(self, user_id: str) -> Iterator[None]:
        """Hold this user's lock for the length of the block. Other users' threads do not wait."""
        with self._guard:
            entry = self._locks.setdefault(user_id, _UserLock())
            entry.users += 1
        try:
            with entry.lock:
                yield
        finally:
            with self._guard:
                entry.users -= 1
                if not entry.users:
                    del self._locks[user_id]

    def __len__(self) -> int:
        with self._guard:
            return len(self._locks)
