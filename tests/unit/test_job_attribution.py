"""Owners of the jobs on a converter's list: the named one, else the ledger's, else by the times."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.job import Job, JobStatus
from app.domain.job_record import JobRecord
from app.domain.ownership import jobs_of, may_have_started, owner_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def a_job(job_id: str = "job-1", user_id: str | None = None, minutes: float | None = 0) -> Job:
    created_at = None if minutes is None else NOW + timedelta(minutes=minutes)
    return Job(job_id, JobStatus.RUNNING, user_id=user_id, created_at=created_at)


UPLOAD = JobRecord("upload", "alice", None, "", None, NOW, None)


@pytest.mark.parametrize(
    ("named", "recorded", "owner"),
    [
        ("alice", None, "alice"),
        ("alice", "bob", "alice"),
        ("bob", "alice", "bob"),
        (None, "alice", "alice"),
        (None, "bob", "bob"),
        (None, None, None),
    ],
)
def test_the_converter_comes_before_the_ledger(named: str | None, recorded: str | None, owner: str | None) -> None:
    ledger = {} if recorded is None else {"job-1": recorded}
    assert owner_of(a_job(user_id=named), ledger) == owner
    accepted = jobs_of("alice", [a_job(user_id=named)], ledger, [])
    assert bool(accepted) is (owner == "alice")


@pytest.mark.parametrize("owner", ["bob", ""])
def test_no_time_and_no_list_outweighs_another_owner(owner: str) -> None:
    alices = a_job("job-2", "alice")
    assert jobs_of("alice", [alices, a_job(user_id=owner)], {}, [UPLOAD]) == [alices]
    assert jobs_of("alice", [alices, a_job()], {"job-1": owner}, [UPLOAD]) == [alices]


@pytest.mark.parametrize(
    ("minutes", "fits"), [(None, False), (-6, False), (-5.01, False), (-5, True), (0, True), (600, True)]
)
def test_a_job_without_owner_is_the_users_if_it_fits_a_pending_upload_by_time(
    minutes: float | None, fits: bool
) -> None:
    job = a_job(minutes=minutes)
    assert jobs_of("alice", [job], {}, [UPLOAD]) == ([job] if fits else [])
    assert jobs_of("alice", [job], {}, []) == []


def test_a_job_without_owner_is_the_users_in_a_list_that_names_the_user_and_nobody_else() -> None:
    unnamed, alices, bobs = a_job(minutes=None), a_job("job-2", "alice"), a_job("job-3", "bob")
    recorded_bobs = a_job("job-4")
    assert jobs_of("alice", [unnamed, alices], {}, []) == [unnamed, alices]
    assert jobs_of("alice", [unnamed, alices, bobs], {}, []) == [alices]
    assert jobs_of("alice", [unnamed, alices, recorded_bobs], {"job-4": "bob"}, []) == [alices]
    assert jobs_of("alice", [unnamed, a_job("job-5")], {"job-5": "alice"}, []) == [a_job("job-5")]


def test_a_job_of_unknown_time_may_have_come_of_any_upload() -> None:
    assert may_have_started(UPLOAD, a_job(minutes=None))
    assert not may_have_started(UPLOAD, a_job(minutes=-6))
