"""How much of the library one user may use.

The announced size is checked before the pull, the real one during it. When the model is recorded, the sum is checked
once more under a lease of the user: of two results that fit alone but not together, only one is stored.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.domain.call import Deadline
from app.errors import LibraryFullError
from app.services.leases import LeaseHolder
from app.services.ports import ModelStore

#: Recording a model takes moments. A pull may have taken longer than its request's deadline, so this one is separate.
_TURN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """The rest of a user's quota, in bytes. If `free_bytes` is None there is no limit."""

    free_bytes: int | None
    quota_bytes: int

    def require(self, size: int) -> None:
        """Raise LibraryFullError if `size` bytes do not fit."""
        if self.free_bytes is not None and size > self.free_bytes:
            raise LibraryFullError(self.quota_bytes)


class LibraryQuota:
    """The quota of every user; None means no limit. Thread-safe."""

    def __init__(self, models: ModelStore, leases: LeaseHolder, quota_bytes: int | None) -> None:
        self._models = models
        self._leases = leases
        self._quota_bytes = quota_bytes

    def require_space(self, user_id: str, size: int) -> FreeSpace:
        """Return the rest of the user's quota. Raises LibraryFullError if `size` bytes do not fit."""
        if self._quota_bytes is None:
            return FreeSpace(None, 0)
        free = FreeSpace(max(0, self._quota_bytes - self._models.bytes_of(user_id)), self._quota_bytes)
        free.require(size)
        return free

    @contextmanager
    def reserved(self, user_id: str, size: int) -> Iterator[None]:
        """Reserve `size` bytes while the block records them. Raises LibraryFullError if they do not fit."""
        if self._quota_bytes is None:
            yield
            return
        with self._leases.awaited(f"library:{user_id}", uuid.uuid4().hex, Deadline(_TURN_SECONDS)):
            self.require_space(user_id, size)
            yield
