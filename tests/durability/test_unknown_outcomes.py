"""A whole upload whose answer is lost: the job is found, or will be; it is never anybody else's, and never lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox.settings import CONVERTER
from tests.durability.conftest import ON_BOTH_ENGINES, SCALED
from tests.support.aftermath import Aftermath
from tests.support.fleet import all_at_once
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack
from tests.support.slow_uploads import SlowUpload

pytestmark = [ON_BOTH_ENGINES, pytest.mark.timeout(60)]

#: The job is made, and its response does not arrive as one.
LOST = [
    pytest.param({"cut": "before_headers"}, id="cut after the last byte"),
    pytest.param({"cut": "reset"}, id="reset after the last byte"),
    pytest.param({"cut": "mid_body", "cut_at": 20}, id="cut in the response"),
    pytest.param({"body": "<html>created</html>"}, id="201 with garbage"),
    pytest.param({"body_json": {"job_id": ""}}, id="201 without an id"),
    pytest.param({"stall_seconds": 30}, id="time-out"),
    *(pytest.param({"status": status}, id=f"status {status}") for status in (302, 404, 408, 500, 502, 503, 504)),
]


@pytest.fixture(scope="module")
def application() -> str:
    """Nobody has to wait 60 s for a response that does not come."""
    return SCALED


def lose_the_response(stack: ScaledStack, fault: dict[str, Any]) -> None:
    stack.sandbox.fault(CONVERTER, call="create_job", when="after", times=1, **fault)


@contextmanager
def empty_lists(stack: ScaledStack) -> Iterator[None]:
    """The converter does not show its jobs yet."""
    stack.sandbox.fault(CONVERTER, call="list_jobs", status=200, body_json={"jobs": []})
    yield
    stack.sandbox.clear_faults()


@pytest.mark.parametrize("fault", LOST)
def test_lost_response_is_made_good_by_the_converters_list(stack: ScaledStack, fault: dict[str, Any]) -> None:
    user_id = f"found-{sorted(fault.items())}"
    person = stack.person(user_id)
    lose_the_response(stack, fault)

    response = stack.send(person, model_upload(LazyBytes(50_000), "net.onnx"))

    assert response.status_code == 201, response.text
    job = response.json()
    assert (job["filename"], job["size"]) == ("net.onnx", 50_000)
    assert [job["job_id"]] == Aftermath(stack).jobs_at_the_converter(user_id)
    assert [upload["outcome"] for upload in stack.sandbox.uploads()] == ["created"]
    assert person.get(f"/api/conversion/{job['job_id']}").json()["filename"] == "net.onnx"
    assert not Aftermath(stack).rows("SELECT * FROM jobs WHERE job_id IS NULL AND user_id = ?", user_id)


@pytest.mark.parametrize("fault", LOST)
def test_job_that_is_not_listed_yet_is_shown_once_it_is(stack: ScaledStack, fault: dict[str, Any]) -> None:
    """502 upload_outcome_unknown first; then `/active` shows the job to its owner, and nobody else finds it."""
    user_id = f"later-{sorted(fault.items())}"
    person, stranger = stack.person(user_id), stack.person("stranger")
    lose_the_response(stack, fault)
    with empty_lists(stack):
        response = stack.send(person, model_upload())
        assert (response.status_code, response.json()["code"]) == (502, "upload_outcome_unknown")
        assert person.get("/api/conversion/active").json() == {"active_job": None}

    [job_id] = Aftermath(stack).jobs_at_the_converter(user_id)
    assert stranger.get(f"/api/conversion/{job_id}").status_code == 404
    assert person.get("/api/conversion/active").json()["active_job"]["job_id"] == job_id
    assert person.get(f"/api/conversion/{job_id}").status_code == 200
    assert [job["job_id"] for job in person.get("/api/conversion/jobs").json()["jobs"]] == [job_id]
    assert not Aftermath(stack).rows("SELECT * FROM jobs WHERE job_id IS NULL AND user_id = ?", user_id)


def test_upload_whose_response_was_lost_in_a_crash_is_matched_by_the_sweep_at_start(stack: ScaledStack) -> None:
    """The gateway dies after the converter made the job and before its response: the next gateway matches the two."""
    user_id = "crashed"
    person = stack.person(user_id)
    stack.sandbox.fault(CONVERTER, call="create_job", when="after", delay_seconds=10)
    aftermath = Aftermath(stack)
    # No sweep of the first gateway can match the two.
    with empty_lists(stack), SlowUpload(stack.url, person, size=1_000, seconds=0):
        wait_until(lambda: aftermath.jobs_at_the_converter(user_id), "the job is made")
        # A sweep that is killed holds its lease until it expires, and the next gateway could not sweep at its start.
        wait_until(lambda: not aftermath.rows("SELECT * FROM leases WHERE name = 'sweep'"), "no sweep is in progress")
        stack.kill_gateway()
    [pending] = aftermath.rows("SELECT * FROM jobs WHERE user_id = ?", user_id)
    assert pending["job_id"] is None

    stack.start_gateway()

    [job_id] = aftermath.jobs_at_the_converter(user_id)
    matched = wait_until(
        lambda: aftermath.rows("SELECT * FROM jobs WHERE user_id = ? AND job_id IS NOT NULL", user_id), "it is matched"
    )
    assert [(row["job_id"], row["upload_id"]) for row in matched] == [(job_id, pending["upload_id"])]
    # Known by the ledger now, it stays its owner's when it has ended and no list shows it any more.
    stack.sandbox.complete(job_id)
    assert person.get(f"/api/conversion/{job_id}").json()["status"] == "completed"


@pytest.mark.parametrize("turn", range(3))
def test_look_at_the_active_job_while_its_response_is_late_spoils_nothing(stack: ScaledStack, turn: int) -> None:
    """Another tab finds the job first, through either worker; the upload's file name and size still become its."""
    user_id = f"two-tabs-{turn}"
    person, tab = stack.person(user_id), stack.person(user_id)
    stack.sandbox.fault(CONVERTER, call="create_job", when="after", delay_seconds=0.6)
    aftermath = Aftermath(stack)

    def look() -> list[str]:
        wait_until(lambda: aftermath.jobs_at_the_converter(user_id), "the job is made")
        seen = []
        for _ in range(6):
            with tab.clone() as fresh:
                seen.append(fresh.get("/api/conversion/active").json()["active_job"]["job_id"])
        return seen

    response, seen = all_at_once([lambda: stack.send(person, model_upload(b"x" * 77, "net.onnx")), look])

    assert response.status_code == 201, response.text
    job_id = response.json()["job_id"]
    assert seen == [job_id] * 6
    wait_until(
        lambda: aftermath.rows("SELECT filename FROM jobs WHERE user_id = ?", user_id) == [{"filename": "net.onnx"}],
        "one row, with its file name",
    )
    for _ in range(4):
        with tab.clone() as fresh:
            shown = fresh.get(f"/api/conversion/{job_id}").json()
            assert (shown["filename"], shown["size"]) == ("net.onnx", 77)
