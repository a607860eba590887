"""Looking for a boundary in a chunk without holding the interpreter's lock.

bytes.find holds the lock for as long as it takes: a tenth of a millisecond a chunk, hundreds of times a second and
upload, for which every other request of the process waits. The C library's memmem does the same, sooner, without it.
"""

import ctypes
import time
from collections.abc import Callable

from app.streaming.chunk import Chunk

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

    def is_surely_absent(self, chunk: Chunk) -> bool:
        """Is the needle neither in the chunk nor begun at its end? False also means: not looked at.

        A view has to be one of a buffer that can be written (ctypes tells no address of others).
        """
        if _MEMMEM is None or not self.is_quick:
            return False
        needle = self._needle
        begun_at = time.thread_time()
        place = chunk if isinstance(chunk, bytes) else ctypes.addressof(ctypes.c_char.from_buffer(chunk))
        found = _MEMMEM(place, len(chunk), needle, len(needle))
        self._seconds_left += len(chunk) * _MOST_SECONDS_PER_BYTE - (time.thread_time() - begun_at)
        self.is_quick = self._seconds_left > 0
        if found is not None:
            return False
        end = bytes(chunk[max(0, len(chunk) - len(needle) + 1) :])
        last = end.rfind(needle[:1])
        while last >= 0:
            if needle.startswith(end[last:]):
                return False
            last = end.rfind(needle[:1], 0, last)
        return True
