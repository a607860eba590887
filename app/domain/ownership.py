"""Whose a job is: how that is decided, and what this process remembers of it.

`jobs_of` is the decision, for every job that the converter tells of.

The map is a cache and nothing more: the ledger and the converter are the truth, and a process that forgets everything
loses nothing but time. It says yes only for a pair that was put in; it never says no, because absence means "ask".

Per-user locks make sure that one user's rebuild runs once at a time while users do not wait for each other. A lock
exists only while somebody holds or awaits it, so the number of locks is bounded by the number of threads.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from app.domain.job import Job, JobRecord

#: How far the converter's clock may be from ours when an upload is matched with a job.
CLOCK_SKEW = timedelta(minutes=5)


def owner_of(job: Job, recorded: Mapping[str, str]) -> str | None:
    """Return the job's owner by those who can say it, or None: the converter, if it names one; then the ledger.

    `recorded` maps job ids to owners, as the ledger has them.
    """
    return job.user_id if job.user_id is not None else recorded.get(job.job_id)


def jobs_of(
    user_id: str, listed: Sequence[Job], recorded: Mapping[str, str], pending: Sequence[JobRecord]
) -> list[Job]:
    """Return those of `listed`, a converter's answer to a question about this user, that are the user's.

    A job without an owner (see `owner_of`) is the user's only if it fits one of the user's `pending` uploads by time,
    or if the list has jobs of this user and of nobody else: then the converter has looked for the user's.
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
    """Can this upload have started that job, as far as the job's time says?"""
    return job.created_at is None or job.created_at >= upload.started_at - CLOCK_SKEW


@dataclass(slots=True)
class _UserLock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class UserLocks:
    """One lock a user, made when first asked for and gone when the last holder or waiter has left. Thread-safe."""

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


class OwnershipMap:
    """Remembers up to `most` jobs' owners, forgetting the least recently used. Thread-safe."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._guard = threading.Lock()
        self._owners: OrderedDict[str, str] = OrderedDict()

    def owns(self, user_id: str, job_id: str) -> bool:
        """Is it remembered that this job is this user's? False means only: not remembered."""
        with self._guard:
            if self._owners.get(job_id) != user_id:
                return False
            self._owners.move_to_end(job_id)
            return True

    def owner_of(self, job_id: str) -> str | None:
        """Return whose this job is remembered to be, or None."""
        with self._guard:
            return self._owners.get(job_id)

    def remember(self, user_id: str, job_id: str) -> None:
        """Note that the job is the user's. To be called only with what the converter or the ledger has proved."""
        with self._guard:
            self._owners[job_id] = user_id
            self._owners.move_to_end(job_id)
            while len(self._owners) > self._most:
                self._owners.popitem(last=False)

    def forget(self, job_id: str) -> None:
        """Drop what is remembered of a job, if anything."""
        with self._guard:
            self._owners.pop(job_id, None)

    def __len__(self) -> int:
        with self._guard:
            return len(self._owners)
