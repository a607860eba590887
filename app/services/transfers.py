"""Places for long transfers: uploads, pulls and library downloads share one bounded number of them a worker.

What is left of the worker's threads is for polls and other short requests, which therefore always find one.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from app import metrics
from app.errors import Blame, GatewayError, InternalError, UploadCapacityError, UploadTimeoutError
from app.streaming.inbound import IncompleteBodyError

#: So many bytes are counted at once: often enough for a graph, too seldom to cost anything.
_COUNT_EVERY_BYTES = 8 * 1024 * 1024
_BUSY = "busy"


class TransferKind(StrEnum):
    """What passes, named for metrics: from a client, from the FAA, to a client."""

    UPLOAD = "upload"
    PULL = "pull"
    LIBRARY_DOWNLOAD = "library_download"


class Transfer:
    """One transfer that holds a place, and what is counted of it. For the thread that does the work."""

    def __init__(self, kind: TransferKind) -> None:
        self._passed = metrics.TRANSFER_BYTES(kind)
        self.bytes = 0
        self._counted_bytes = 0
        self.outcome, self.reason = "completed", "none"

    def moved(self, size: int) -> None:
        """Note that so many bytes more have passed."""
        self.reached(self.bytes + size)

    def reached(self, size: int) -> None:
        """Note how many bytes have passed in all."""
        self.bytes = size
        if size - self._counted_bytes >= _COUNT_EVERY_BYTES:
            self.count_bytes()

    def count_bytes(self) -> None:
        """Count what has passed and has not been counted yet."""
        self._passed.inc(self.bytes - self._counted_bytes)
        self._counted_bytes = self.bytes

    def was_not_needed(self) -> None:
        """Note that somebody else has done it meanwhile."""
        self.outcome = "not_needed"

    def was_completed(self) -> None:
        """Note that all of it has passed; so it is counted unless something else is noted."""
        self.outcome, self.reason = "completed", "none"

    def lost_client(self) -> None:
        """Note that the client has gone away."""
        self.outcome, self.reason = "aborted", "client_gone"

    def failed(self, failure: GatewayError) -> None:
        """Note what ended it: the client's going or stalling, a refusal, or somebody's failure."""
        entry = failure.entry
        if isinstance(failure, IncompleteBodyError):
            self.lost_client()
        elif isinstance(failure, UploadTimeoutError):
            self.outcome, self.reason = "aborted", entry.code
        elif entry.blame is Blame.USER or entry.i18n_key == _BUSY:
            self.outcome, self.reason = "refused", entry.code
        else:
            self.outcome, self.reason = "failed", entry.code


class TransferSlots:
    """A fixed number of places, given out without waiting. Thread-safe."""

    def __init__(self, places: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.places = places
        self._free = places
        self._monotonic = monotonic
        self._lock = threading.Lock()
        metrics.TRANSFER_SLOTS().set(places)

    @contextmanager
    def transfer(self, kind: TransferKind) -> Iterator[Transfer]:
        """Hold a place for a transfer, and count it; raises UploadCapacityError if none is free."""
        try:
            self.take()
        except UploadCapacityError as refusal:
            metrics.TRANSFERS(kind, "refused", refusal.code).inc()
            raise
        transfer, in_flight = Transfer(kind), metrics.TRANSFERS_IN_FLIGHT(kind)
        in_flight.inc()
        started = self._monotonic()
        try:
            yield transfer
        except GatewayError as failure:
            transfer.failed(failure)
            raise
        except BaseException:
            transfer.outcome, transfer.reason = "failed", InternalError.code
            raise
        finally:
            self.give_back()
            in_flight.dec()
            transfer.count_bytes()
            metrics.TRANSFERS(kind, transfer.outcome, transfer.reason).inc()
            metrics.TRANSFER_SECONDS(kind).observe(self._monotonic() - started)

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
