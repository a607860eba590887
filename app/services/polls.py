"""Watching a job: many tabs, one upstream poll a second and process.

The cache holds the upstream's job and nothing else; what is ours (file name, size, model) is merged after. Ownership
is decided before this is asked at all.
"""

import threading
import time
from collections.abc import Callable
from functools import partial

from cachetools import TTLCache

from app.clients.converter import ConverterClient
from app.clients.retry import Call
from app.clients.singleflight import SingleFlight
from app.domain.call import CallContext
from app.domain.job import Job

FRESH_SECONDS = 1.0
_MOST_JOBS = 10_000


class JobPoller:
    """Reads jobs from the converter, gathered and cached for a second. Thread-safe."""

    def __init__(self, converter: ConverterClient, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._converter = converter
        self._flights: SingleFlight[Job] = SingleFlight(partial(converter.wait, Call.GET_JOB))
        self._jobs: TTLCache[str, Job] = TTLCache(_MOST_JOBS, FRESH_SECONDS, timer=monotonic)
        self._guard = threading.Lock()

    def get_job(self, job_id: str, context: CallContext) -> Job:
        """The job, at most a second old. Raises what the converter client raises; failures are not cached."""
        cached = self._cached(job_id)
        if cached is not None:
            return cached
        return self._flights.run(job_id, context, lambda: self._fetch(job_id, context))

    def forget(self, job_id: str) -> None:
        """Drop what is cached of a job."""
        with self._guard:
            self._jobs.pop(job_id, None)

    def _cached(self, job_id: str) -> Job | None:
        with self._guard:
            return self._jobs.get(job_id)

    def _fetch(self, job_id: str, context: CallContext) -> Job:
        # Between this caller's look at the cache and its becoming the leader, another flight may have landed.
        cached = self._cached(job_id)
        if cached is not None:
            return cached
        job = self._converter.get_job(job_id, context)
        with self._guard:
            self._jobs[job_id] = job
        return job
