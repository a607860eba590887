"""When a job's stages began and ended, as far as anybody looked.

The converter says which stage a job is in and not since when. What is known of that is what polls have seen, so every
time here is an observed one: a stage began no later than its `started_at`, and where nobody had looked shortly before,
it is marked as approximate. What nobody saw stays unknown and is not made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.domain.job import STAGES, Job, JobStatus

#: Looks that are further apart leave the moment of a change open by more than a reader would expect of a time.
CLOSE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage that a job was seen in. `ended_at` is None while it lasts, and where its end was not seen."""

    stage: str
    started_at: datetime
    ended_at: datetime | None = None
    is_approximate: bool = False


def observe(
    known: Sequence[StageTime], job: Job, now: datetime, *, last_look: datetime | None = None
) -> tuple[StageTime, ...]:
    """What is known of the stages after the job was seen in this state at `now`.

    `last_look` is when it was seen before, in an earlier stage; None where nobody remembers. Stages are only ever
    added behind those that are known, so that answers which overtake each other change nothing, and observers that
    share what is known agree.
    """
    # By the converter's time, but not before somebody saw that it was not so yet.
    at = min(now, max(job.updated_at or now, last_look or job.updated_at or now))
    reached = job.stage_index
    last = known[-1] if known else None
    last_index = STAGES.index(last.stage) if last else -1
    if last is not None and last.ended_at is None:
        at = max(at, last.started_at)
        has_ended = job.is_terminal or (reached is not None and reached > last_index)
        if has_ended and _is_end_seen(last_index, job):
            known = (*known[:-1], replace(last, ended_at=at))
    # Whoever sees a stage for the first time when all is over cannot know when it began.
    if reached is None or reached <= last_index or job.is_terminal:
        return tuple(known)
    is_seen_closely = last_look is not None and at - last_look <= CLOSE
    is_first_and_young = reached == 0 and job.created_at is not None and at - job.created_at <= CLOSE
    return (*known, StageTime(STAGES[reached], at, is_approximate=not (is_seen_closely or is_first_and_young)))


def _is_end_seen(index: int, job: Job) -> bool:
    """Does the end of the stage coincide with what was just seen, rather than lie somewhere before a skipped stage?"""
    if not job.is_terminal:
        return job.stage_index == index + 1
    if job.stage_index is not None:
        return job.stage_index == index
    return job.status is JobStatus.COMPLETED and index == len(STAGES) - 1
