"""A job that was started while PostgreSQL was away, and has ended before it is back, is not lost."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest
import requests

from sandbox.settings import CONVERTER
from tests.support.aftermath import Aftermath
from tests.support.clients import Client
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.postgresql import PostgreSQL
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack

pytestmark = [
    pytest.mark.parametrize("engine", ["servers"], indirect=True, scope="module"),
    pytest.mark.timeout(120),
]

#: Longer than it takes to stop PostgreSQL.
ANSWER_SECONDS = 3.0


@contextmanager
def upload_meeting_an_absent_database(
    stack: ScaledStack, person: Client, user_id: str, away: AbstractContextManager[None]
) -> Iterator[requests.Response]:
    """Take PostgreSQL away between the job's start and the converter's answer; the gateway's answer to the upload."""
    stack.sandbox.fault(CONVERTER, call="create_job", when="after", delay_seconds=ANSWER_SECONDS, times=1)
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(stack.send, person, model_upload(LazyBytes(50_000), "net.onnx"))
        wait_until(lambda: Aftermath(stack).jobs_at_the_converter(user_id), "the job is made")
        with away:
            yield sending.result()


def away(postgresql: PostgreSQL, how: str) -> AbstractContextManager[None]:
    return {"stopped": postgresql.stopped, "frozen": postgresql.frozen}[how]()


def row_of(stack: ScaledStack, job_id: str) -> Callable[[], object]:
    return lambda: Aftermath(stack).rows("SELECT * FROM jobs WHERE job_id = ?", job_id)


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_job_that_ended_while_postgresql_was_away_is_its_owners_once_it_is_back(
    stack: ScaledStack, postgresql: PostgreSQL, how: str
) -> None:
    """201, an alarm with the job's id, and a whole record in every worker's history as soon as PostgreSQL is back."""
    user_id = f"late-{how}"
    person = stack.person(user_id)
    with upload_meeting_an_absent_database(stack, person, user_id, away(postgresql, how)) as response:
        assert response.status_code == 201, response.text
        job_id = response.json()["job_id"]
        stack.sandbox.complete(job_id)
        [alarm] = [
            line for line in stack.log_path.read_text(encoding="utf-8").splitlines() if '"ledger.job_not_noted"' in line
        ][-1:]
        assert job_id in alarm
        assert '"level": "error"' in alarm

    wait_until(row_of(stack, job_id), "the job is noted")
    wait_until(
        lambda: Aftermath(stack).rows("SELECT 1 FROM jobs WHERE job_id = ? AND status = 'completed'", job_id),
        "how it ended is noted",
    )
    [row] = Aftermath(stack).rows("SELECT * FROM jobs WHERE user_id = ?", user_id)
    assert (row["job_id"], row["filename"], row["size"], row["status"]) == (job_id, "net.onnx", 50_000, "completed")
    for _ in range(4):  # whichever worker is asked
        with person.clone() as fresh:
            assert fresh.get(f"/api/conversion/{job_id}").json()["status"] == "completed"
            assert [job["job_id"] for job in fresh.get("/api/conversion/jobs").json()["jobs"]] == [job_id]


def test_worker_that_is_told_to_stop_writes_its_notes_first(stack: ScaledStack, postgresql: PostgreSQL) -> None:
    """SIGTERM while PostgreSQL is away: the worker waits for it for a while."""
    user_id = "stopping"
    person = stack.person(user_id)
    with upload_meeting_an_absent_database(stack, person, user_id, postgresql.stopped()) as response:
        job_id = response.json()["job_id"]
        stack.sandbox.complete(job_id)
        assert stack.gateway is not None
        os.kill(stack.gateway.pid, signal.SIGTERM)
        wait_until(lambda: '"Handling signal: term"' in stack.log_path.read_text(encoding="utf-8"), "it has heard it")
    stack.stop_gateway()

    [row] = Aftermath(stack).rows("SELECT * FROM jobs WHERE user_id = ?", user_id)
    assert (row["job_id"], row["filename"]) == (job_id, "net.onnx")
    stack.start_gateway()
    assert person.get(f"/api/conversion/{job_id}").json()["status"] == "completed"


def test_job_of_a_worker_that_was_killed_with_its_note_is_found_by_its_id(
    stack: ScaledStack, postgresql: PostgreSQL
) -> None:
    """SIGKILL while PostgreSQL is away: the owner knows the id from the response, and the converter names the owner."""
    user_id = "killed"
    person, stranger = stack.person(user_id), stack.person("stranger")
    with upload_meeting_an_absent_database(stack, person, user_id, postgresql.stopped()) as response:
        job_id = response.json()["job_id"]
        stack.sandbox.complete(job_id)
        stack.kill_gateway()
    stack.start_gateway()

    assert stranger.get(f"/api/conversion/{job_id}").status_code == 404
    assert person.get(f"/api/conversion/{job_id}").json()["status"] == "completed"
    assert [job["job_id"] for job in person.get("/api/conversion/jobs").json()["jobs"]] == [job_id]
    assert not Aftermath(stack).rows("SELECT * FROM jobs WHERE job_id IS NULL AND user_id = ?", user_id)
