"""How long a conversion for a chip usually takes, from the ledger's newest completed jobs of all users.

Only the aggregates of `app/domain/usual_time.py` leave this module, so that nobody learns about another user's job.
"""

import threading
import time
from collections.abc import Callable

import structlog
from cachetools import TTLCache

from app.domain.usual_time import UsualTime, size_class, usual_time
from app.errors import ModelStoreUnavailableError
from app.services.ports import JobLedger

log = structlog.get_logger(__name__)

#: How many jobs count. Older ones may have run on an older toolchain.
NEWEST_JOBS = 200
FRESH_SECONDS = 60.0
_MOST_ENTRIES = 1_000


class UsualTimes:
    """Reads the usual times, and caches them for a minute. Thread-safe."""

    def __init__(self, ledger: JobLedger, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._guard = threading.Lock()
        self._cached: TTLCache[tuple[str, int], UsualTime | None] = TTLCache(
            _MOST_ENTRIES, FRESH_SECONDS, timer=monotonic
        )

    def of(self, chip: str | None, size: int | None) -> UsualTime | None:
        """Return how long a model of about this size in bytes usually takes for this chip.

        None if fewer than five such jobs are known, if chip or size are unknown, or if the database is down.
        """
        if chip is None or size is None:
            return None
        key = (chip, size_class(size))
        with self._guard:
            if key in self._cached:
                return self._cached[key]
        try:
            found = usual_time(self._ledger.completed_jobs(*key, limit=NEWEST_JOBS))
        except ModelStoreUnavailableError:
            log.warning("ledger.usual_time_failed", chip=chip)
            return None
        with self._guard:
            self._cached[key] = found
        return found
