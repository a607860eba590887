"""The content of one part on its way through: measured, and hashed on request."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from app.errors import PayloadTooLargeError
from app.streaming import Chunk

MAX_FIELD_BYTES = 1024 * 1024
# toolbelt asks for `.len` only to learn whether anything is left.
_UNKNOWN_LENGTH = 1 << 62
#: Chunks that may wait for the digest; then the stream waits, so that memory stays bounded.
_WAITING_CHUNKS = 4


class PartWatcher(Protocol):
    """Sees the parts of a message pass by. It must not raise, because it would end the upload."""

    def watch(self, name: str, *, file_name: str | None) -> Callable[[Chunk], object] | None:
        """Return what takes a copy of what it needs from each chunk of this part, or None. A field has no file name."""


class PartBody:
    """One part's content in the form that toolbelt reads. All content of an upload passes through `read`.

    `.len` is positive until the end and 0 after it: toolbelt would read forever otherwise.
    """

    def __init__(
        self,
        content: Iterator[Chunk],
        *,
        is_field: bool = False,
        digest: "BackgroundDigest | None" = None,
        watch: Callable[[Chunk], object] | None = None,
    ) -> None:
        self.len = _UNKNOWN_LENGTH
        self.bytes_read = 0
        self._content = content
        self._is_field = is_field
        self._digest = digest
        self._watch = watch

    def read(self, size: int = -1) -> Chunk:
        """Return the next chunk, of any size (toolbelt accepts that), or b"" at the end.

        Raises PayloadTooLargeError for a field of more than MAX_FIELD_BYTES, and what the content raises.
        """
        del size
        chunk = next(self._content, None)
        if chunk is None:
            self.len = 0
            return b""
        self.bytes_read += len(chunk)
        if self._is_field and self.bytes_read > MAX_FIELD_BYTES:
            raise PayloadTooLargeError(f"a field may have at most {MAX_FIELD_BYTES} bytes")
        if self._digest is not None:
            self._digest.update(bytes(chunk))
        if self._watch is not None:
            self._watch(chunk)
        return chunk

    def drain(self) -> None:
        """Read to the end and discard it."""
        while self.read():
            pass


class BackgroundDigest:
    """SHA-256 in a thread of its own: hashlib releases the interpreter's lock, so that a second core does the work.

    One thread calls it: `update` for each chunk, then `finish` once; or `abandon` at any time, repeatedly if need be.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_WAITING_CHUNKS)
        self._thread = threading.Thread(target=self._run, name="upload-digest", daemon=True)
        self._thread.start()

    def update(self, chunk: bytes) -> None:
        """Add a chunk, which must not change afterwards. Waits while too many chunks are queued."""
        self._chunks.put(chunk)

    def finish(self) -> str:
        """Return the digest of all chunks in hexadecimal, and end the thread."""
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
