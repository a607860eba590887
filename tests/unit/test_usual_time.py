"""How long conversions usually take: medians and 90th percentiles, and nothing about a single job."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.stages import StageTime
from app.domain.usual_time import CompletedJob, Duration, size_class, usual_time

BEGAN = datetime(2026, 11, 25, 8, 30, tzinfo=UTC)


def took(seconds: float, *stages: StageTime) -> CompletedJob:
    return CompletedJob(BEGAN, BEGAN + timedelta(seconds=seconds), stages)


def stage(name: str, seconds: float | None, *, is_approximate: bool = False) -> StageTime:
    ended_at = None if seconds is None else BEGAN + timedelta(seconds=seconds)
    return StageTime(name, BEGAN, ended_at, is_approximate)


def test_ten_jobs_have_their_median_and_the_time_in_which_nine_were_done() -> None:
    found = usual_time([took(seconds) for seconds in (90, 10, 30, 20, 50, 40, 60, 70, 80, 1000)])
    assert found is not None
    assert (found.median_seconds, found.p90_seconds, found.jobs) == (55, 90, 10)


def test_times_are_in_whole_seconds() -> None:
    found = usual_time([took(seconds) for seconds in (1.2, 2.3, 3.4, 4.6, 5.7)])
    assert found is not None
    assert found.as_dict() == {"median_seconds": 3, "p90_seconds": 6, "jobs": 5, "stages": {}}


@pytest.mark.parametrize("jobs", range(5))
def test_fewer_than_five_jobs_tell_nothing(jobs: int) -> None:
    assert usual_time([took(60)] * jobs) is None


def test_a_job_that_ended_before_it_began_does_not_count() -> None:
    assert usual_time([*[took(60)] * 4, took(-1)]) is None


def test_a_stage_counts_only_if_both_of_its_ends_were_observed() -> None:
    """Of six jobs, one was seen to begin its stage late, and another was not seen to end it."""
    jobs = [took(60, stage("onnx", 9, is_approximate=True), stage("bie", 30))]
    jobs += [took(60, stage("onnx", 9), stage("bie", None))]
    jobs += [took(60, stage("onnx", 9), stage("bie", 40))] * 4
    found = usual_time(jobs)
    assert found is not None
    assert found.stages == {"onnx": Duration(9, 9, 5), "bie": Duration(40, 40, 5)}
    assert usual_time(jobs[:-1]) is not None, "the jobs themselves are enough"
    assert usual_time(jobs[:-1]).stages == {}  # type: ignore[union-attr]


def test_sizes_of_a_class_differ_by_less_than_a_factor_of_two() -> None:
    assert size_class(2**20) == size_class(2**21 - 1) == size_class(2**21) - 1
    assert size_class(0) < size_class(1) < size_class(2)
