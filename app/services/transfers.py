"""Places for long transfers: uploads, pulls and library downloads share one bounded number of them a worker.

What is left of the worker's threads is for polls and other short requests, which therefore always find one. Of each
kind, one user has at most a share on the whole host, so that no user takes all the places.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum

from app import metrics
from app.errors import (
    Blame,
    GatewayError,
    InternalError,
    TooManyRequestsError,
    UploadCapacityError,
    UploadTimeoutError,
)
from app.services.host_slots import HostSlots
from app.streaming.inbound import IncompleteBodyError

#: So many bytes are counted at once: often enough for a graph, too seldom to cost anything.
_COUNT_EVERY_BYTES = 8 * 1024 * 1024
_BUSY = "busy"


class TransferKind(StrEnum):
    """What passes, named for metrics: from a client, from the FAA, to a client."""

    UPLOAD = "upload"
    PULL = "pull"
    LIBRARY_DOWNLOAD = "library_download"


#: How many transfers of a kind one user may have at once on a host. Of uploads a lease allows one on all hosts.
USER_SHARES = {TransferKind.PULL: 2, TransferKind.LIBRARY_DOWNLOAD: 2}


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
    """A fixed number of places, given out without waiting. Thread-safe.

    `host` keeps the users' shares; without it, they are those of this object alone.
    """

    def __init__(
        self, places: int, host: HostSlots | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.places = places
        self._free = places
        self._host = host or HostSlots(None)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        metrics.TRANSFER_SLOTS().set(places)

    @contextmanager
    def transfer(self, kind: TransferKind, user_id: str) -> Iterator[Transfer]:
        """Hold a place for a transfer of this user, and count it.

        Raises TooManyRequestsError if the user's share of this kind is in use, and UploadCapacityError if no place is
        free.
        """
        with ExitStack() as held:
            try:
                self._take_share(kind, user_id, held)
                held.enter_context(self.taken())
            except (TooManyRequestsError, UploadCapacityError) as refusal:
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
                held.close()
                in_flight.dec()
                transfer.count_bytes()
                metrics.TRANSFERS(kind, transfer.outcome, transfer.reason).inc()
                metrics.TRANSFER_SECONDS(kind).observe(self._monotonic() - started)

    def _take_share(self, kind: TransferKind, user_id: str, held: ExitStack) -> None:
        share = USER_SHARES.get(kind)
        if share is None:
            return
        release = self._host.acquire(f"{kind} {user_id}", share)
        if release is None:
            raise TooManyRequestsError(f"{share} transfers of this user and kind are in progress")
        held.callback(release)

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
