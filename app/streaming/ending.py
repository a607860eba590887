"""End an upload from another thread, also while it waits for the client's next bytes or for the upstream."""

import os
import threading
from typing import Self

from app.errors import UploadEndedError


class Ending:
    """Whether one upload has to end. Thread-safe, except that only the upload's thread polls and closes it.

    The upload's thread includes `fileno` in its polls: it becomes readable with the request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = os.eventfd(0)
        self._is_requested = False
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
            os.close(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor that is readable once the upload has to end."""
        return self._descriptor

    def request(self) -> bool:
        """Have the upload end. Return False, and change nothing, if it has already ended or been completed."""
        with self._lock:
            if not (self._is_over or self._is_requested):
                self._is_requested = True
                os.eventfd_write(self._descriptor, 1)
            return self._is_requested

    def check(self) -> None:
        """Raise UploadEndedError if the upload has to end."""
        if self._is_requested:
            raise UploadEndedError("its user has ended it")

    def complete(self) -> None:
        """Note that the end of the message is sent now. Later requests change nothing. Raises UploadEndedError."""
        with self._lock:
            self.check()
            self._is_over = True
