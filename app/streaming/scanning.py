"""Looking for a boundary in a chunk without holding the interpreter's lock.

bytes.find holds the lock for as long as it takes: a tenth of a millisecond a chunk, hundreds of times a second and
upload, for which every other request of the process waits. The C library's memmem does the same, sooner, without it.
"""

import ctypes
import time
from collections.abc import Callable
from typing import Any

from app.streaming import Chunk

#: CPU seconds a byte beyond which memmem is given up for a message: parts of the needle everywhere make it slow.
_MOST_SECONDS_PER_BYTE = 0.5e-9
#: What is forgiven beyond that, in a whole message: the kernel does a busy network's work on whatever thread is there.
_FORGIVEN_SECONDS = 2e-3


def _load_memmem() -> Callable[..., int | None] | None:
    try:
        memmem = ctypes.CDLL(None).memmem  # of glibc and musl; ctypes lets go of the lock while it runs
    except (OSError, AttributeError, TypeError):  # pragma: no cover - a C library without it
        return None
    memmem.restype = ctypes.c_void_p
    memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    find: Callable[..., int | None] = memmem
    return find


_MEMMEM = _load_memmem()


class Scanner:
    """Looks for one needle in the chunks of one message. For one thread.

    `is_quick` is false where the C library has no memmem, and once it has turned out to be slow for this message.
    """

    def __init__(self, needle: bytes) -> None:
        self._needle = needle
        self.is_quick = _MEMMEM is not None
        self._seconds_left = _FORGIVEN_SECONDS

    def bytes_before(self, chunk: Chunk) -> int | None:
        """How many bytes come before the needle, or before what may be its beginning at the chunk's end.

        All of them where it is not there. None means: not looked at.

        A view has to be one of a buffer that can be written (ctypes tells no address of others).
        """
        if _MEMMEM is None or not self.is_quick:
            return None
        needle = self._needle
        begun_at = time.thread_time()
        place: Any = chunk if isinstance(chunk, bytes) else ctypes.addressof(ctypes.c_char.from_buffer(chunk))
        found = _MEMMEM(place, len(chunk), needle, len(needle))
        self._seconds_left += len(chunk) * _MOST_SECONDS_PER_BYTE - (time.thread_time() - begun_at)
        self.is_quick = self._seconds_left > 0
        if found is not None:
            return chunk.find(needle) if isinstance(chunk, bytes) else int(found - place)
        end_begins = max(0, len(chunk) - len(needle) + 1)
        end = bytes(chunk[end_begins:])
        begun = end.find(needle[:1])
        while begun >= 0 and not needle.startswith(end[begun:]):
            begun = end.find(needle[:1], begun + 1)
        return len(chunk) if begun < 0 else end_begins + begun
