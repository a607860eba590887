"""The stage times that polls reveal, and the ones that stay unknown."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.job import STAGES, Job, JobStatus
from app.domain.stages import StageTime, observe

START = datetime(2026, 11, 25, 12, tzinfo=UTC)
Look = tuple[float, str, str | None]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def a_job(status: str, stage: str | None, updated: float | None = None) -> Job:
    updated_at = None if updated is None else at(updated)
    return Job("job-1", JobStatus(status), stage=stage, created_at=START, updated_at=updated_at)


def watched(looks: Sequence[Look]) -> tuple[StageTime, ...]:
    """Return the stage times after polls at these seconds, if the converter sends no times."""
    known: tuple[StageTime, ...] = ()
    last_look = None
    for seconds, status, stage in looks:
        known = observe(known, a_job(status, stage), at(seconds), last_look=last_look)
        last_look = at(seconds)
    return known


def spans(known: Sequence[StageTime]) -> list[tuple[str, float, float | None]]:
    return [
        (one.stage, (one.started_at - START).total_seconds(), one.ended_at and (one.ended_at - START).total_seconds())  # type: ignore[misc]
        for one in known
    ]


def test_a_stage_lasts_until_the_next_one_was_first_seen() -> None:
    known = watched(
        [(0, "queued", None), (2, "running", "onnx"), (6, "running", "bie"), (8, "running", "bie"),
         (12, "running", "nef"), (16, "completed", "nef")]
    )  # fmt: skip
    assert spans(known) == [("onnx", 2, 6), ("bie", 6, 12), ("nef", 12, 16)]
    assert not any(one.is_approximate for one in known)


def test_a_running_stage_has_no_end() -> None:
    assert spans(watched([(2, "running", "onnx"), (6, "running", "bie")])) == [("onnx", 2, 6), ("bie", 6, None)]


def test_a_change_has_the_converters_time_and_not_the_polls() -> None:
    """A poll comes a little late; the response says when the job changed."""
    known = observe((), a_job("running", "onnx", updated=1.5), at(3))
    assert spans(observe(known, a_job("running", "bie", updated=7), at(9), last_look=at(5))) == [
        ("onnx", 1.5, 7), ("bie", 7, None),
    ]  # fmt: skip


def test_no_stage_begins_before_the_last_poll_without_it_or_after_now() -> None:
    """Also if the converter's clock stands still or is ahead."""
    known = watched([(0, "queued", None), (2, "running", "onnx")])
    stands_still = observe(known, a_job("running", "bie", updated=0), at(9), last_look=at(7))
    assert spans(stands_still)[1] == ("bie", 7, None)
    ahead = observe(known, a_job("running", "bie", updated=3600), at(9), last_look=at(7))
    assert spans(ahead)[1] == ("bie", 9, None)


def test_a_stage_that_nobody_saw_begin_is_approximate() -> None:
    assert watched([(60, "running", "bie")])[0].is_approximate
    assert not watched([(5, "running", "onnx")])[0].is_approximate, "it cannot have begun before the job"
    assert watched([(60, "running", "onnx")])[0].is_approximate
    late = watched([(2, "running", "onnx"), (40, "running", "bie")])
    assert [one.is_approximate for one in late] == [False, True]


def test_a_skipped_stage_leaves_the_stage_before_it_without_an_end() -> None:
    known = watched([(2, "running", "onnx"), (40, "running", "nef"), (44, "completed", "nef")])
    assert spans(known) == [("onnx", 2, None), ("nef", 40, 44)]


def test_a_stage_that_ended_before_the_first_poll_has_no_times() -> None:
    assert watched([(90, "completed", "nef")]) == ()
    known = watched([(2, "running", "onnx"), (90, "completed", "nef")])
    assert spans(known) == [("onnx", 2, None)]


@pytest.mark.parametrize(
    ("status", "stage", "end"), [("failed", "bie", 8), ("cancelled", "bie", 8), ("failed", None, None)]
)
def test_a_job_that_fails_ends_the_stage_that_it_names(status: str, stage: str | None, end: float | None) -> None:
    known = watched([(2, "running", "onnx"), (5, "running", "bie"), (8, status, stage)])
    assert spans(known)[-1] == ("bie", 5, end)


def test_a_completed_job_that_names_no_stage_has_ended_in_the_last() -> None:
    looks: list[Look] = [(2, "running", "onnx"), (5, "running", "bie"), (8, "running", "nef"), (9, "completed", None)]
    assert spans(watched(looks))[-1] == ("nef", 8, 9)


def test_responses_out_of_order_change_nothing() -> None:
    known = watched([(2, "running", "onnx"), (5, "running", "bie"), (8, "completed", "nef")])
    for stage in (*STAGES, None):
        assert observe(known[:2], a_job("running", stage if stage != "nef" else "bie"), at(9)) == known[:2]
    ended = watched([(2, "running", "nef"), (5, "completed", "nef")])
    assert observe(ended, a_job("completed", "nef"), at(20)) == ended
