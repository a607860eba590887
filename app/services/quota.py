"""How much of the library one user may take.

The announced size is checked before anything is pulled, the real one while it comes, and the sum once more, alone among
the user's promotes, when the model is recorded: two results that fit singly but not together are not both kept.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.domain.call import Deadline
from app.errors import LibraryFullError
from app.services.leases import LeaseKeeper
from app.services.ports import ModelStore

#: Taking turns to record a model takes moments; a pull may have outlived its request's deadline.
_TURN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of a user's quota, in bytes; `free_bytes` None is no limit."""

    free_bytes: int | None
    quota_bytes: int

    def require(self, size: int) -> None:
        """Raise LibraryFullError if `size` bytes do not fit."""
        if self.free_bytes is not None and size > self.free_bytes:
            raise LibraryFullError(self.quota_bytes)


class LibraryQuota:
    """The quota that every user has, or none. Thread-safe."""

    def __init__(self, models: ModelStore, leases: LeaseKeeper, quota_bytes: int | None) -> None:
        self._models = models
        self._leases = leases
        self._quota_bytes = quota_bytes

    def require_room(self, user_id: str, size: int) -> Room:
        """Return what is left for the user. Raises LibraryFullError if `size` bytes do not fit."""
        if self._quota_bytes is None:
            return Room(None, 0)
        room = Room(max(0, self._quota_bytes - self._models.bytes_of(user_id)), self._quota_bytes)
        room.require(size)
        return room

    @contextmanager
    def reserved(self, user_id: str, size: int) -> Iterator[None]:
        """Hold room for `size` bytes while the block records them; raises LibraryFullError without it."""
        if self._quota_bytes is None:
            yield
            return
        with self._leases.awaited(f"library:{user_id}", uuid.uuid4().hex, Deadline(_TURN_SECONDS)):
            self.require_room(user_id, size)
            yield
