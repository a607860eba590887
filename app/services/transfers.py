"""Places for long transfers: uploads, pulls and library downloads share one bounded number of them a worker.

What is left of the worker's threads is for polls and other short requests, which therefore always find one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import UploadCapacityError


class TransferSlots:
    """A fixed number of places, given out without waiting. Thread-safe."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._free = places
        self._lock = threading.Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place for the length of the block; raises UploadCapacityError if none is free."""
        self.take()
        try:
            yield
        finally:
            self.give_back()

    def take(self) -> None:
        """Take a place that `give_back` returns; for transfers that outlive a block. Raises UploadCapacityError."""
        with self._lock:
            if not self._free:
                raise UploadCapacityError(f"all {self.places} places are taken")
            self._free -= 1

    def give_back(self) -> None:
        """Return a place."""
        with self._lock:
            self._free += 1

    @property
    def free(self) -> int:
        """How many places are free now."""
        with self._lock:
            return self._free
