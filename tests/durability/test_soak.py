"""Many users for a while, with faults: every job is accounted for, and nothing grows."""

from pathlib import Path

import pytest

from tests.durability.conftest import SCALED
from tests.support.scaled_stack import ScaledStack
from tests.support.soak import FAULT_SHARE, Report, Soak

#: Ten minutes are the bound of the long form; users begin no job after nine.
LONG_SECONDS = 540.0
LONG_JOB_SECONDS = 12
#: One upload's buffer (256 KB) lost a job would be some 25 MB a minute in each worker. What does grow are the caches of
#: the last 10,000 jobs, by about 2 KB a job, and the allocator's arenas while 32 threads meet them for the first time.
MOST_GROWTH_MB_PER_MINUTE = 6.0


@pytest.fixture(scope="module")
def application() -> str:
    """With short waits between tries, so that more happens in the time."""
    return SCALED


@pytest.fixture(scope="module")
def sandbox_options() -> dict[str, object]:
    return {"job_seconds": 1}


def verify(report: Report, *, jobs: int) -> None:
    print(report.describe())
    assert report.problems == []
    assert report.jobs == jobs
    assert set(report.outcomes) <= {"kept", "deleted", "failed as it had to"}
    assert len(report.memory[-1][1]) == 2
    assert report.faults_played > 0


@pytest.mark.timeout(90)
def test_every_job_is_accounted_for(stack: ScaledStack) -> None:
    verify(Soak(stack, jobs=25, users=8, seconds=40).run(), jobs=25)


@pytest.mark.soak
@pytest.mark.timeout(700)
def test_500_jobs_of_50_users_are_accounted_for_and_memory_stays_flat(tmp_path: Path) -> None:
    with ScaledStack(tmp_path, application=SCALED, workers=2, job_seconds=LONG_JOB_SECONDS) as stack:
        report = Soak(stack, jobs=500, users=50, seconds=LONG_SECONDS).run()
    verify(report, jobs=500)
    assert report.faults_played >= FAULT_SHARE / 2 * report.upstream_calls
    assert max(report.growth_per_minute) < MOST_GROWTH_MB_PER_MINUTE
