"""Polls of a job: however many tabs ask, each process asks the converter once a second.

The cache holds the converter's job only. What the gateway knows of it (file name, size, model) is merged later. Who may
see the job has been decided before the cache is asked.
"""

import time
from collections.abc import Callable
from functools import partial

from app.clients.converter import ConverterClient
from app.clients.retry import Call
from app.clients.single_flight import SingleFlightCache
from app.domain.job import Job

FRESH_SECONDS = 1.0
_MAX_JOBS = 10_000

PolledJobs = SingleFlightCache[str, Job]


def polled_jobs(converter: ConverterClient, *, monotonic: Callable[[], float] = time.monotonic) -> PolledJobs:
    """Return a cache of jobs by id. Its `get` raises what the converter client's `get_job` raises."""
    return SingleFlightCache(
        converter.get_job,
        seconds=FRESH_SECONDS,
        max_entries=_MAX_JOBS,
        wait=partial(converter.wait, Call.GET_JOB),
        monotonic=monotonic,
    )
