"""Search a chunk for a boundary without holding the interpreter's lock.

bytes.find holds the lock while it searches: a tenth of a millisecond for each chunk, hundreds of times a second for
each upload, and every other request of the process waits. The C library's memmem is faster and does not need the lock.
"""

import ctypes
import time
from collections.abc import Callable
from typing import Any

from app.streaming import Chunk

#: CPU seconds per byte beyond which memmem is not used any more for a message: content full of parts of the needle
#: makes it slow.
_MOST_SECONDS_PER_BYTE = 0.5e-9
#: CPU seconds that a message may take beyond that: the kernel does a busy network's work on any running thread.
_FORGIVEN_SECONDS = 2e-3


def _load_memmem() -> Callable[..., int | None] | None:
    try:
        memmem = ctypes.CDLL(None).memmem  # of glibc and musl; ctypes releases the lock while it runs
    except (OSError, AttributeError, TypeError):  # pragma: no cover - a C library without it
        return None
    memmem.restype = ctypes.c_void_p
    memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    find: Callable[..., int | None] = memmem
    return find


_MEMMEM = _load_memmem()


class Scanner:
    """Searches the chunks of one message for one needle. For one thread.

    `is_quick` is false if the C library has no memmem, and once memmem was slow for this message.
    """

    def __init__(self, needle: bytes) -> None:
        self._needle = needle
        self.is_quick = _MEMMEM is not None
        self._seconds_left = _FORGIVEN_SECONDS

    def bytes_before(self, chunk: Chunk) -> int | None:
        """Return the number of bytes before the needle, or before what may be its beginning at the chunk's end.

        That is the size of the chunk if there is neither. None means that the chunk was not searched. A view must be of
        a writable buffer: ctypes gives no address of others.
        """
        if _MEMMEM is None or not self.is_quick:
            return None
        needle = self._needle
        begun_at = time.thread_time()
        address: Any = chunk if isinstance(chunk, bytes) else ctypes.addressof(ctypes.c_char.from_buffer(chunk))
        found = _MEMMEM(address, len(chunk), needle, len(needle))
        self._seconds_left += len(chunk) * _MOST_SECONDS_PER_BYTE - (time.thread_time() - begun_at)
        self.is_quick = self._seconds_left > 0
        if found is not None:
            return chunk.find(needle) if isinstance(chunk, bytes) else int(found - address)
        end_begins = max(0, len(chunk) - len(needle) + 1)
        end = bytes(chunk[end_begins:])
        begun = end.find(needle[:1])
        while begun >= 0 and not needle.startswith(end[begun:]):
            begun = end.find(needle[:1], begun + 1)
        return len(chunk) if begun < 0 else end_begins + begun
