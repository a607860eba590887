"""Which worker accepts the next connection: not one that is clearly busier than another.

All workers of a master wait at the same listener, and the kernel wakes all of them for each connection. Left alone, one
worker may accept nearly all uploads, and refuse the next one while the others have free slots.
"""

import mmap
import sys

#: A worker leaves connections to others if it handles more than this many requests more than the least busy one. With a
#: smaller number workers would wait for each other all the time.
TOLERATED_DIFFERENCE = 8
#: How long it leaves them, in seconds. A worker that has time accepts within a fraction of that.
_PAUSE_SECONDS = 0.002
#: How long a worker without a free upload slot leaves them to one that has some. It does not wait forever, because the
#: other one may be stuck.
_FULL_PAUSE_SECONDS = 2.0
_FULL = 1 << 32


class Loads:
    """The loads of a master's workers, in memory that they share. Make it in the master, before the fork.

    A load is one more than the number of requests in progress, plus a large number without a free upload slot; 0 means
    that there is no such worker, or that it is about to end. Each worker writes its own load only, in one machine word.
    """

    def __init__(self) -> None:
        self._loads = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def note(self, number: int, requests: int, *, is_full: bool) -> None:
        """Note the load of the worker with this number."""
        self._loads[number % len(self._loads)] = requests + 1 + (_FULL if is_full else 0)

    def forget(self, number: int) -> None:
        """Note that the other workers need not leave connections to this one."""
        self._loads[number % len(self._loads)] = 0

    def pause_seconds(self, number: int) -> float:
        """Return how long this worker leaves new connections to the others; 0 if it should accept them itself."""
        own = self._loads[number % len(self._loads)] or sys.maxsize
        least = min(filter(None, self._loads), default=own)
        if own <= least + TOLERATED_DIFFERENCE:
            return 0.0
        return _FULL_PAUSE_SECONDS if least < _FULL <= own else _PAUSE_SECONDS
