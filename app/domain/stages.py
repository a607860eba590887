"""When a job's stages began and ended, as observed by polls.

The converter tells which stage a job is in, but not since when. So every time here is an observed one: a stage began no
later than its `started_at`, which is marked as approximate if there was no poll shortly before. A time that no poll
observed stays unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.domain.job import STAGES, Job, JobStatus

#: If two polls are further apart, the time of a change between them is approximate.
CLOSE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class StageTime:
    """One observed stage of a job. `ended_at` is None while the stage lasts, and if its end was not observed."""

    stage: str
    started_at: datetime
    ended_at: datetime | None = None
    is_approximate: bool = False


def observe(
    known: Sequence[StageTime], job: Job, now: datetime, *, last_look: datetime | None = None
) -> tuple[StageTime, ...]:
    """Return the stage times after a poll has seen the job in this state at `now`.

    `last_look` is the time of the poll before, or None if it is not known. Stages are only added after the known ones,
    so that responses out of order change nothing, and all workers agree.
    """
    # The converter's time of the change, but not before the last poll that did not show it yet.
    at = min(now, max(job.updated_at or now, last_look or job.updated_at or now))
    reached = job.stage_index
    last = known[-1] if known else None
    last_index = STAGES.index(last.stage) if last else -1
    if last is not None and last.ended_at is None:
        at = max(at, last.started_at)
        has_ended = job.is_terminal or (reached is not None and reached > last_index)
        if has_ended and _is_end_seen(last_index, job):
            known = (*known[:-1], replace(last, ended_at=at))
    # If the job has ended, the start of a stage that was never seen before is unknown.
    if reached is None or reached <= last_index or job.is_terminal:
        return tuple(known)
    is_seen_closely = last_look is not None and at - last_look <= CLOSE
    is_first_and_young = reached == 0 and job.created_at is not None and at - job.created_at <= CLOSE
    return (*known, StageTime(STAGES[reached], at, is_approximate=not (is_seen_closely or is_first_and_young)))


def _is_end_seen(index: int, job: Job) -> bool:
    """Return whether the stage ended with the change just seen, and not earlier, before a skipped stage."""
    if not job.is_terminal:
        return job.stage_index == index + 1
    if job.stage_index is not None:
        return job.stage_index == index
    return job.status is JobStatus.COMPLETED and index == len(STAGES) - 1
