"""Which job is whose, as far as this process remembers.

The map is a cache and nothing more: the ledger and the converter are the truth, and a process that forgets everything
loses nothing but time. It says yes only for a pair that was put in; it never says no, because absence means "ask".

Per-user locks make sure that one user's rebuild runs once at a time while users do not wait for each other. A lock
exists only while somebody holds or awaits it, so the number of locks is bounded by the number of threads.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


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
