"""What the C library does with the memory of large chunks.

glibc gives a block of 128 KiB or more back to the kernel when it is freed, and asks for zeroed pages again for the
next one: a stream of such chunks pays that price for each. Both thresholds have to be set; setting either stops glibc
from adjusting the other.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
#: Blocks up to this size come from the heap. More than the largest chunk; what is larger is rare and goes back.
KEPT_BLOCK_BYTES = 4 * 1024 * 1024
#: How much free memory the end of a heap may hold.
KEPT_FREE_BYTES = 16 * 1024 * 1024


def keep_freed_chunks() -> bool:
    """Have glibc keep the memory of chunks for the next ones. Returns whether it does; without, all is only slower."""
    if not sys.platform.startswith("linux"):  # pragma: no cover
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # pragma: no cover - another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES))
