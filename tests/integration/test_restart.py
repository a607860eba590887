"""Jobs and sessions survive restarts and crashes, and jobs even the loss of the database."""

import os
import secrets
import time

import pytest

from tests.support.clients import Client
from tests.support.processes import wait_until
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("empty_database", [False, True], ids=["own database", "empty database"])
@pytest.mark.parametrize("kill", [False, True], ids=["SIGTERM", "SIGKILL"])
def test_running_job_is_known_after_a_restart(stack: Stack, alice: Client, kill: bool, empty_database: bool) -> None:
    """/active rebuilds the lost rows from the converter's list, and polls work until the job has ended."""
    job_id = stack.upload(alice)

    stack.restart_gateway(kill=kill, empty_database=empty_database)

    active = alice.get("/api/conversion/active").json()["active_job"]
    assert (active["job_id"], active["terminal"]) == (job_id, False)
    assert active["filename"] == ("" if empty_database else "model.onnx")
    assert alice.get(f"/api/conversion/{job_id}").json()["job_id"] == job_id
    stack.sandbox.complete(job_id)
    assert stack.wait_for_status(alice, job_id, "completed")["terminal"]


def test_poll_alone_rebuilds_a_running_job(stack: Stack, alice: Client, bob: Client) -> None:
    """With an empty database a poll finds the caller's running job without /active, and no other user's."""
    job_id = stack.upload(alice)

    stack.restart_gateway(empty_database=True)

    assert bob.get(f"/api/conversion/{job_id}").status_code == 404
    assert alice.get(f"/api/conversion/{job_id}").status_code == 200
    assert bob.get("/api/conversion/active").json() == {"active_job": None}


def test_completed_job_and_its_model_are_their_owners_after_a_crash(stack: Stack, alice: Client, bob: Client) -> None:
    job_id = stack.completed_job(alice, b"kept over a crash")
    model = alice.promote(job_id).json()

    stack.restart_gateway(kill=True)

    assert alice.get(f"/api/conversion/{job_id}").json()["library_model_id"] == model["id"]
    assert alice.get("/api/conversion/jobs").json()["jobs"][0]["job_id"] == job_id
    assert alice.get(f"/api/models/{model['id']}").json() == model
    assert alice.get(f"/api/conversion/{job_id}/download").status_code == 302
    assert bob.get(f"/api/conversion/{job_id}").status_code == 404
    assert bob.get(f"/api/models/{model['id']}").status_code == 404


def test_upload_that_a_crash_cut_off_is_forgotten(stack: Stack, alice: Client) -> None:
    with stack.connect() as connection:
        headers = {"Cookie": alice.cookie_header, "Content-Type": "multipart/form-data; boundary=b"}
        connection.send_head("POST", "/api/conversion/init", {**headers, "Content-Length": "1000000"})
        connection.send(b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n' + b"m" * 300_000)
        wait_until(stack.sandbox.uploads, "the converter receives the upload")
        stack.kill_gateway()
    stack.start_gateway()

    assert [upload["complete"] for upload in stack.sandbox.ended_uploads(1)] == [False]
    assert alice.get("/api/conversion/active").json() == {"active_job": None}
    # The lease of the upload outlives the crash until its time is over, and must not outlive this test.
    stack.restart_gateway(empty_database=True)


def test_cookies_survive_a_restart_and_a_rotation_of_keys_and_die_with_their_key(stack: Stack) -> None:
    old, new = stack.secret_key, secrets.token_urlsafe(48)
    stack.note_secret(new)
    alice = stack.client().sign_in("alice")

    stack.restart_gateway(environment={"VISIONA_SECRET_KEY": f"{new},{old}"})
    assert who(alice) == "u-alice-7f3a"
    bob = stack.client().sign_in("bob")

    stack.restart_gateway(environment={"VISIONA_SECRET_KEY": new})
    assert (who(alice), who(bob)) == (None, "u-bob-c81e")

    stack.restart_gateway()  # with the old key alone, as the next test expects
    assert (who(alice), who(bob)) == ("u-alice-7f3a", None)


def who(client: Client) -> str | None:
    response = client.get("/api/me")
    return str(response.json()["user_id"]) if response.status_code == 200 else None


def test_gateway_ends_within_seconds_after_sigterm(stack: Stack) -> None:
    workers = stack.worker_pids()
    started = time.monotonic()

    assert stack.stop_gateway() == 0

    # Two seconds of it are for kept connections, on which a request may be under way.
    assert time.monotonic() - started < 15
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110 - procfs
