"""Slots for long transfers: a worker has a number of them for uploads, for pulls and for library downloads.

No kind can take the slots of another one. The other threads of the worker are for polls and other short requests, so
these always find an idle one. One user has at most a share of the transfers of a kind on the whole host, so no user
takes all slots.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
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

#: Bytes are counted in steps of this size: small enough for a graph, large enough to cost nothing.
_COUNT_EVERY_BYTES = 8 * 1024 * 1024
_BUSY = "busy"


class TransferKind(StrEnum):
    """The kinds of transfers, as metrics call them: from a client, from the FAA, to a client."""

    UPLOAD = "upload"
    PULL = "pull"
    LIBRARY_DOWNLOAD = "library_download"


#: How many transfers of a kind one user may have at once on a host. A lease limits uploads to one on all hosts.
USER_SHARES = {TransferKind.PULL: 2, TransferKind.LIBRARY_DOWNLOAD: 2}


class Transfer:
    """A transfer that holds a slot, and what the metrics count of it. For the thread that does the work."""

    def __init__(self, kind: TransferKind) -> None:
        self._passed = metrics.TRANSFER_BYTES(kind)
        self.bytes = 0
        self._counted_bytes = 0
        self.outcome, self.reason = "completed", "none"

    def moved(self, size: int) -> None:
        """Note that `size` more bytes have been transferred."""
        self.reached(self.bytes + size)

    def reached(self, size: int) -> None:
        """Note that `size` bytes have been transferred in all."""
        self.bytes = size
        if size - self._counted_bytes >= _COUNT_EVERY_BYTES:
            self.count_bytes()

    def count_bytes(self) -> None:
        """Count the bytes that have not been counted yet."""
        self._passed.inc(self.bytes - self._counted_bytes)
        self._counted_bytes = self.bytes

    def was_not_needed(self) -> None:
        """Note that another request has done it meanwhile."""
        self.outcome = "not_needed"

    def was_completed(self) -> None:
        """Note that the transfer is complete. This is the outcome unless another one is noted."""
        self.outcome, self.reason = "completed", "none"

    def lost_client(self) -> None:
        """Note that the client has disconnected."""
        self.outcome, self.reason = "aborted", "client_gone"

    def failed(self, failure: GatewayError) -> None:
        """Note the failure that ended it, as a client that left or stalled, a refusal, or a failure."""
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
    """A fixed number of slots for each kind of transfer, acquired without waiting. Thread-safe.

    `host` holds the users' shares of the whole host; without it they are shares of this object.
    """

    def __init__(
        self,
        slots: Mapping[TransferKind, int],
        host: HostSlots | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        #: How many slots of each kind are free now.
        self.free = dict(slots)
        self._host = host or HostSlots(None)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        for kind, number in slots.items():
            metrics.TRANSFER_SLOTS(kind).set(number)

    @contextmanager
    def transfer(self, kind: TransferKind, user_id: str) -> Iterator[Transfer]:
        """Hold a slot for a transfer of this user, and count the transfer.

        Raises TooManyRequestsError if the user's share of this kind is in use, and UploadCapacityError if no slot of
        this kind is free.
        """
        with ExitStack() as held:
            try:
                self._acquire_share(kind, user_id, held)
                held.enter_context(self.slot(kind))
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

    def _acquire_share(self, kind: TransferKind, user_id: str, held: ExitStack) -> None:
        share = USER_SHARES.get(kind)
        if share is None:
            return
        release = self._host.acquire(f"{kind} {user_id}", share)
        if release is None:
            raise TooManyRequestsError(f"{share} transfers of this user and kind are in progress")
        held.callback(release)

    @contextmanager
    def slot(self, kind: TransferKind) -> Iterator[None]:
        """Hold a slot of this kind for the length of the block. Raises UploadCapacityError if none is free."""
        with self._lock:
            if not self.free[kind]:
                raise UploadCapacityError(f"all slots of this worker for {kind} are in use")
            self.free[kind] -= 1
        try:
            yield
        finally:
            with self._lock:
                self.free[kind] += 1
