"""A stop and a reload fail no request: running uploads complete, and so do polls and uploads until nobody listens."""

import os
import signal
import time

import pytest
import requests

from tests.support.clients import Client
from tests.support.multipart_bodies import model_upload
from tests.support.pollers import Pollers
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack
from tests.support.slow_uploads import SlowUpload

pytestmark = pytest.mark.timeout(90)

UPLOADS = 4
DRAIN_SECONDS = 1.2
#: Longer than the drain, so that the uploads end after the listener has closed.
UPLOAD_SECONDS = 5.0
#: gunicorn.conf.py's, within which everything must be over; here it is a matter of seconds.
LIMIT_SECONDS = 20.0
POLLS_PER_SECOND = 50
THREADS = 10


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {"VISIONA_DRAIN_SECONDS": str(DRAIN_SECONDS)}


def pollers_of(stack: ScaledStack, watcher: Client) -> Pollers:
    """50 polls a second of a running job, and of what a waiting page asks besides."""
    job_id = stack.upload(watcher)
    paths = [f"/api/conversion/{job_id}", "/api/conversion/active", f"/api/conversion/{job_id}", "/api/me"]
    asks = [(path, watcher.cookie_header) for path in paths]
    return Pollers(stack.url, asks, threads=THREADS, every=THREADS / POLLS_PER_SECOND)


def begin_uploads(stack: ScaledStack, *, seconds: float) -> list[SlowUpload]:
    people = [stack.person(f"uploader-{number}") for number in range(UPLOADS)]
    uploads = [SlowUpload(stack.url, person, seed=number, seconds=seconds) for number, person in enumerate(people)]
    for upload in uploads:
        upload.__enter__()
    wait_until(
        lambda: len([u for u in stack.sandbox.uploads() if len(u["parts"]) > 1]) >= UPLOADS, "all uploads are under way"
    )
    return uploads


def end_uploads(uploads: list[SlowUpload]) -> None:
    for upload in uploads:
        upload.__exit__()


def ask_until_refused(stack: ScaledStack) -> tuple[list[requests.Response], list[requests.Response]]:
    """Ask for readyz, and upload, over new connections until nobody listens any more. Return the responses."""
    probes, uploads = [], []
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        try:
            probes.append(requests.get(f"{stack.url}/readyz", timeout=10))
            uploads.append(stack.send(stack.person(f"late-{len(uploads)}"), model_upload()))
        except requests.ConnectionError as error:
            if "refused" not in str(error).lower():
                raise
            return probes, uploads
        time.sleep(0.05)
    raise AssertionError("the listener never closed")


def test_a_stop_fails_no_request(stack: ScaledStack) -> None:
    """SIGTERM during 4 uploads and 50 polls a second: all succeed, until connections are refused."""
    gateway = stack.gateway
    assert gateway is not None
    with pollers_of(stack, stack.person("watcher")) as pollers:
        uploads = begin_uploads(stack, seconds=UPLOAD_SECONDS)
        try:
            told_at = time.monotonic()
            os.kill(gateway.pid, signal.SIGTERM)
            probes, late = ask_until_refused(stack)
            closed_at = time.monotonic()
            responses = [upload.result() for upload in uploads]
            exit_code = wait_until(lambda: (gateway.exit_code,) if gateway.exit_code is not None else None, "it ends")
            ended_at = time.monotonic()
        finally:
            end_uploads(uploads)
    stack.kill_gateway()

    assert [response.status for response in responses] == [201] * UPLOADS
    assert exit_code == (0,)
    assert ended_at - told_at < LIMIT_SECONDS
    # The listener was open for the drain, and not until the uploads were over.
    assert DRAIN_SECONDS * 0.6 < closed_at - told_at < UPLOAD_SECONDS
    assert (probes[-1].status_code, probes[-1].json()["status"]) == (503, "draining")
    assert probes[-1].headers["Connection"] == "close"
    assert {response.status_code for response in late} == {201}

    outcomes = pollers.outcomes()
    print(
        f"drain: {dict(outcomes)}, listener closed after {closed_at - told_at:.2f} s, ended {ended_at - told_at:.2f} s"
    )
    failed = {outcome: count for outcome, count in outcomes.items() if outcome not in {"200", "refused"}}
    assert failed == {}
    answered = [poll for poll in pollers.polls if poll.outcome == "200" and poll.is_connecting]
    refused = [poll for poll in pollers.polls if poll.outcome == "refused"]
    assert len([poll for poll in answered if poll.began > told_at]) > POLLS_PER_SECOND * DRAIN_SECONDS * 0.2
    # Once refused, always refused: no poll was turned away while another was still let in.
    assert min(poll.ended for poll in refused) > max(poll.began for poll in answered)


def test_a_reload_fails_no_poll_and_no_running_upload(stack: ScaledStack) -> None:
    """SIGHUP replaces both workers while 4 uploads end well and every poll is answered."""
    gateway = stack.gateway
    assert gateway is not None
    before = set(stack.worker_pids())
    with pollers_of(stack, stack.person("watcher")) as pollers:
        uploads = begin_uploads(stack, seconds=UPLOAD_SECONDS)
        try:
            told_at = time.monotonic()
            os.kill(gateway.pid, signal.SIGHUP)
            responses = [upload.result() for upload in uploads]
            wait_until(
                lambda: len(now := set(stack.worker_pids())) == 2 and not now & before, "two new workers", seconds=20
            )
            replaced_at = time.monotonic()
            wait_until(lambda: len(pollers.some_since(replaced_at)) > POLLS_PER_SECOND // 2, "polls go on")
        finally:
            end_uploads(uploads)

    print(f"reload: {dict(pollers.outcomes())}, workers replaced after {replaced_at - told_at:.2f} s")
    assert [response.status for response in responses] == [201] * UPLOADS
    assert set(pollers.outcomes()) == {"200"}
    assert stack.send(stack.person("afterwards"), model_upload()).status_code == 201
