"""How long conversions usually take: the median and the 90th percentile of jobs that have completed.

A result says nothing about a single job: it needs at least five, and its times are in whole seconds.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from app.domain.job import STAGES
from app.domain.stages import StageTime

FEWEST_JOBS = 5


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """The times of a job that has completed: the converter's, and those of its stages, which polls observed."""

    created_at: datetime
    ended_at: datetime
    stages: Sequence[StageTime] = ()


@dataclass(frozen=True, slots=True)
class Duration:
    """The median and the 90th percentile of so many durations."""

    median_seconds: int
    p90_seconds: int
    jobs: int


@dataclass(frozen=True, slots=True)
class UsualTime(Duration):
    """How long a job usually takes, and each of its stages by name. A stage that too few jobs tell is absent."""

    stages: Mapping[str, Duration] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the times as the API and the ledger represent them."""
        return asdict(self)


def size_class(size: int) -> int:
    """Return the class of a model's size in bytes. Sizes of one class differ by less than a factor of two."""
    return size.bit_length()


def usual_time(jobs: Sequence[CompletedJob]) -> UsualTime | None:
    """Return how long such jobs usually take, or None if there are too few.

    A stage counts if both of its ends were observed, and its start not late.
    """
    whole = _duration(job.ended_at - job.created_at for job in jobs)
    if whole is None:
        return None
    stages = {name: _duration(_observed(jobs, name)) for name in STAGES}
    return UsualTime(
        whole.median_seconds,
        whole.p90_seconds,
        whole.jobs,
        {name: duration for name, duration in stages.items() if duration is not None},
    )


def _observed(jobs: Sequence[CompletedJob], name: str) -> Iterable[timedelta]:
    for job in jobs:
        for seen in job.stages:
            if seen.stage == name and seen.ended_at is not None and not seen.is_approximate:
                yield seen.ended_at - seen.started_at


def _duration(durations: Iterable[timedelta]) -> Duration | None:
    # The converter's clock may have been set back during a job.
    seconds = sorted(duration.total_seconds() for duration in durations if duration >= timedelta(0))
    if len(seconds) < FEWEST_JOBS:
        return None
    # The nearest rank: the shortest time within which nine of ten jobs were done.
    p90 = seconds[math.ceil(0.9 * len(seconds)) - 1]
    return Duration(round(statistics.median(seconds)), round(p90), len(seconds))
