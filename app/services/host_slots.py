"""Slots that all processes of a host share.

A slot is one byte of a file, locked by an open file description (`F_OFD_SETLK`, fcntl(2), Linux). The kernel releases
the lock when its process ends, so `kill -9` leaks no slot, and nothing has to expire. The file itself stays empty.
"""

import fcntl
import hashlib
import os
import struct
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

_FILE = "slots.lock"
_OFFSET_BYTES = 7  # An offset in a file has 63 bits.


class HostSlots:
    """Named slots, shared by every process that uses the same directory. Thread-safe."""

    def __init__(self, directory: Path | None) -> None:
        """Share the slots with the processes that use `directory`. Without one, share them with no process."""
        if directory is None:
            descriptor = os.memfd_create(_FILE)
        else:
            descriptor = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        weakref.finalize(self, os.close, descriptor)
        # Each lock needs an open file description of its own. This path gives one even if the name has been removed.
        self._path = f"/proc/self/fd/{descriptor}"

    def acquire(self, name: str, slots: int) -> Callable[[], None] | None:
        """Acquire one of the `slots` of this name. Return a function that releases it, or None if all are in use."""
        with ExitStack() as held:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            held.callback(os.close, descriptor)
            for number in range(slots):
                digest = hashlib.sha256(f"{number} {name}".encode()).digest()
                offset = int.from_bytes(digest[:_OFFSET_BYTES])
                lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
                with suppress(BlockingIOError):
                    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
                    return held.pop_all().close
        return None
