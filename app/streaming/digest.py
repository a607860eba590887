"""The SHA-256 of what streams by, computed beside it."""

import hashlib
import queue
import threading

#: Chunks that may wait; the stream then waits for the digest, so that memory stays bounded.
_WAITING_CHUNKS = 4


class BackgroundDigest:
    """SHA-256 in a thread of its own: hashlib lets go of the interpreter's lock, so that a second core does the work.

    One thread calls it: `update` for each chunk, then `finish` once; or `abandon` at any time, and again.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_WAITING_CHUNKS)
        self._thread = threading.Thread(target=self._run, name="upload-digest", daemon=True)
        self._thread.start()

    def update(self, chunk: bytes) -> None:
        """Add a chunk, which must not change any more. Waits while too many are in line."""
        self._chunks.put(chunk)

    def finish(self) -> str:
        """The digest of all chunks, in hexadecimal. Ends the thread."""
        self.abandon()
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """End the thread."""
        if self._thread.is_alive():
            self._chunks.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._digest.update(chunk)
