"""The uploads of this process, and the requests to end them.

A request to end an upload may reach any process. It is recorded in the upload's lease, where the process that has the
upload looks for it once a second.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import structlog

from app.domain.running_upload import RunningUpload
from app.errors import ModelStoreUnavailableError, UploadCompleteError, UploadNotFoundError
from app.services.ports import JobLedger, Leases
from app.streaming.ending import Ending

log = structlog.get_logger(__name__)

LOOK_EVERY_SECONDS = 1.0
#: The waits for an upload to end, 2 s in all. Most uploads of the same process are over after the first ones.
_PAUSES_SECONDS = (0.02, 0.04, 0.08, 0.16, *[0.2] * 8)


def _start_thread(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name="running-uploads", daemon=True).start()


class RunningUploads:
    """The uploads of this process by the holders of their leases. Thread-safe.

    Its thread lives while there are uploads. It starts with the first one, hence after any fork.
    """

    def __init__(
        self,
        leases: Leases,
        ledger: JobLedger,
        *,
        sleep: Callable[[float], None] = time.sleep,
        start_thread: Callable[[Callable[[], None]], None] = _start_thread,
    ) -> None:
        self._leases = leases
        self._ledger = ledger
        self._sleep = sleep
        self._start_thread = start_thread
        self._lock = threading.Lock()
        self._endings: dict[str, Ending] = {}
        self._is_watched = False

    @contextlib.contextmanager
    def running(self, holder: str) -> Iterator[Ending]:
        """Make an upload endable during the block."""
        with Ending() as ending:
            with self._lock:
                self._endings[holder] = ending
                if not self._is_watched:
                    # If the system allows no more threads, the next upload tries again.
                    with contextlib.suppress(RuntimeError):
                        self._start_thread(self._watch)
                        self._is_watched = True
            try:
                yield ending
            finally:
                with self._lock:
                    del self._endings[holder]

    def find(self, name: str) -> RunningUpload | None:
        """Return the upload that holds the lease of this name, or None (see `Leases.find_upload`)."""
        return self._leases.find_upload(name)

    def end(self, name: str, upload_id: str) -> bool:
        """Have the upload that holds the lease end, in whichever process it is, if it has the client's `upload_id`.

        Return True once the lease is free, and False if that takes longer than two seconds. Then no job is started.
        Raises UploadNotFoundError, and UploadCompleteError if it is too late. Only the process that has the upload
        releases the lease, after it has closed the connection to the converter.
        """
        upload = self._leases.request_end(name, upload_id)
        if upload is None:
            raise UploadNotFoundError("the caller has no running upload with this id")
        log.info("upload.end_requested", upload_id=upload_id)
        if not self._request_end(upload.holder):
            raise UploadCompleteError("the upload is in this process")
        for pause in _PAUSES_SECONDS:
            self._sleep(pause)
            current = self._leases.find_upload(name)
            if current is None or current.holder != upload.holder:
                # An upload that was ended leaves no row.
                if self._ledger.has_upload(upload.holder):
                    raise UploadCompleteError("the ledger has the upload")
                return True
            if current.is_complete:
                raise UploadCompleteError("its process has answered")
        return False

    def look(self) -> None:
        """End the uploads of this process whose leases say so, and answer for those that are complete."""
        for name, holder in self._leases.requested_ends():
            if not self._request_end(holder):
                self._leases.note_complete(name, holder)

    def _request_end(self, holder: str) -> bool:
        """End an upload if this process has it. Return False if it is too late for that."""
        with self._lock:
            ending = self._endings.get(holder)
        return ending is None or ending.request()

    def _watch(self) -> None:
        while True:
            self._sleep(LOOK_EVERY_SECONDS)
            with self._lock:
                if not self._endings:
                    self._is_watched = False
                    return
            try:
                # After a failure, the next look finds the same requests.
                with contextlib.suppress(ModelStoreUnavailableError):
                    self.look()
            except Exception:
                # A bug in one look must not stop all later ones.
                log.exception("upload.look_crashed")
