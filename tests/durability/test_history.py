"""The history tells the truth, and reading it never hangs on the converter."""

import time
from datetime import timedelta

import pytest

from app.domain.call import CallContext, Deadline
from app.domain.job import JobStatus
from app.errors import JobNotFoundError
from sandbox.settings import CONVERTER
from tests.support.aftermath import opened_gateway
from tests.support.clients import Client
from tests.support.fleet import all_at_once
from tests.support.scaled_stack import ScaledStack

pytestmark = pytest.mark.timeout(60)

MOST_REFRESHES = 5
BUDGET_SECONDS = 1.0
#: For a slow machine. A try that nothing ended would take 10 s.
SLACK_SECONDS = 5.0


def stale_jobs(stack: ScaledStack, person: Client, count: int) -> list[str]:
    """Jobs that have ended without anybody's having looked; the newest first."""
    return [stack.completed_job(person) for _ in range(count)][::-1]


def shown(person: Client) -> dict[str, str]:
    response = person.get("/api/conversion/jobs")
    assert response.status_code == 200, response.text
    return {job["job_id"]: job["status"] for job in response.json()["jobs"]}


def test_reading_the_list_refreshes_the_first_five_stale_rows(stack: ScaledStack) -> None:
    person = stack.person("reader")
    jobs = stale_jobs(stack, person, 7)
    before = len(stack.sandbox.calls(CONVERTER, "get_job"))

    first = shown(person)

    assert list(first) == jobs
    assert [first[job] for job in jobs[:MOST_REFRESHES]] == ["completed"] * MOST_REFRESHES
    assert "completed" not in [first[job] for job in jobs[MOST_REFRESHES:]]
    assert len(stack.sandbox.calls(CONVERTER, "get_job")) - before == MOST_REFRESHES
    assert set(shown(person).values()) == {"completed"}
    # What has ended is not asked about again.
    asked = len(stack.sandbox.calls(CONVERTER, "get_job"))
    assert set(shown(person).values()) == {"completed"}
    assert len(stack.sandbox.calls(CONVERTER, "get_job")) == asked


def test_reading_the_list_takes_a_second_while_the_converter_stalls(stack: ScaledStack) -> None:
    """The rows are shown as they were last known, and once the converter is back as they are."""
    person = stack.person("patient-reader")
    jobs = stale_jobs(stack, person, 7)
    stack.sandbox.fault(CONVERTER, call="get_job", stall_seconds=30)

    began = time.monotonic()
    seen = shown(person)
    took = time.monotonic() - began

    assert list(seen) == jobs
    assert "completed" not in seen.values()
    assert took < BUDGET_SECONDS + SLACK_SECONDS
    stack.sandbox.clear_faults()
    assert list(shown(person).values()).count("completed") == MOST_REFRESHES


def test_ten_readers_at_once_cost_the_converter_no_more_than_one_in_each_worker(stack: ScaledStack) -> None:
    person = stack.person("many-tabs")
    jobs = stale_jobs(stack, person, 3)
    before = len(stack.sandbox.calls(CONVERTER, "get_job"))
    stack.sandbox.fault(CONVERTER, call="get_job", when="after", delay_seconds=0.1)
    clients = [person.clone() for _ in range(10)]

    lists = all_at_once([lambda client=client: shown(client) for client in clients])  # type: ignore[misc]

    for client in clients:
        client.close()
    assert all(set(seen) == set(jobs) for seen in lists)
    assert len(stack.sandbox.calls(CONVERTER, "get_job")) - before <= len(jobs) * len(stack.worker_pids())


@pytest.mark.parametrize("was_seen", [False, True], ids=["unseen end", "seen end"])
def test_job_that_the_converter_forgot_is_lost_after_five_minutes_or_stays_as_it_ended(
    stack: ScaledStack, was_seen: bool
) -> None:
    """One that should be running fails with `job_lost`, not before it may only be late; an end that was seen stays."""
    user_id = f"forgotten-{was_seen}"
    person = stack.person(user_id)
    job_id = stack.upload(person)
    if was_seen:
        stack.sandbox.complete(job_id)
        stack.wait_for_status(person, job_id, "completed")
    stack.sandbox.reset()  # the converter has lost everything

    def seen(after: timedelta) -> list[tuple[str, str | None]]:
        with opened_gateway(stack, later=after) as gateway:
            conversions = gateway.conversions
            assert conversions is not None
            context = CallContext(Deadline(10))
            polled = conversions.get_job(user_id, job_id, context).job
            [view], _ = conversions.history(user_id, 20, None, context)
            return [(job.status.value, job.error.code if job.error else None) for job in (polled, view.job)]

    if was_seen:
        assert seen(timedelta()) == [("completed", None)] * 2
        assert seen(timedelta(minutes=6)) == [("completed", None)] * 2
        return
    with opened_gateway(stack, later=timedelta(minutes=4)) as gateway:
        assert gateway.conversions is not None
        with pytest.raises(JobNotFoundError):
            gateway.conversions.get_job(user_id, job_id, CallContext(Deadline(10)))
        [view], _ = gateway.conversions.history(user_id, 20, None, CallContext(Deadline(10)))
        assert view.job.status in {JobStatus.QUEUED, JobStatus.RUNNING}
    assert seen(timedelta(minutes=6)) == [("failed", "job_lost")] * 2
