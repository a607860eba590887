"""How many uploads a host accepts, over all of its workers, and what else it serves meanwhile."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import requests

from sandbox.settings import CONVERTER
from tests.support.clients import RawConnection, RawResponse
from tests.support.counts import Counts
from tests.support.multipart_bodies import model_upload
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack

pytestmark = pytest.mark.timeout(120)

WORKERS, SLOTS_PER_WORKER = 2, 8
SLOTS = WORKERS * SLOTS_PER_WORKER
#: The uploads pause until their test ends.
ENVIRONMENT = {"VISIONA_UPLOAD_MIN_BYTES_PER_SECOND": "0"}


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    environment = {**ENVIRONMENT, "VISIONA_UPLOAD_SLOTS": str(SLOTS_PER_WORKER)}
    directory = tmp_path_factory.mktemp("stack")
    with ScaledStack(directory, application="wsgi:app", workers=WORKERS, environment=environment) as stack:
        yield stack


@pytest.fixture
def stack(own_stack: ScaledStack) -> ScaledStack:
    own_stack.reset()
    wait_until(lambda: uploads_in_flight(own_stack) == 0, "no upload is in flight", seconds=30)
    return own_stack


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes the test's connections at its end."""
    with ExitStack() as opened:
        yield opened


def uploads_in_flight(stack: ScaledStack) -> float:
    """Return the sum of both workers."""
    text = requests.get(f"{stack.direct_url}/metrics", timeout=10).text
    return Counts.of(text).sum("visiona_transfers_in_flight", kind="upload")


def connection_states(database_url: str) -> list[str]:
    """Return the state of each of the gateway's connections to its database."""
    query = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(database_url, connect_timeout=10) as connection:
        return [str(state) for (state,) in connection.execute(query)]


def begin_upload(stack: ScaledStack, user_id: str) -> RawConnection:
    """Send the head and a part of the body of an upload, over a new connection."""
    body = model_upload(b"x" * 1_000).as_bytes()
    boundary = body[2 : body.index(b"\r\n")].decode()
    headers = {
        "Cookie": stack.person(user_id).cookie_header,
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(body)),
    }
    return stack.connect().send_head("POST", "/api/conversion/init", headers).send(body[:300])


def fill(stack: ScaledStack, opened: ExitStack, prefix: str = "u") -> RawResponse:
    """Begin one upload after another until one is refused. Return that response."""
    begun: list[RawConnection] = []
    for number in range(SLOTS + 1):
        before = len(stack.sandbox.calls(CONVERTER, "create_job"))
        connection = opened.enter_context(begin_upload(stack, f"{prefix}-{number}"))

        def is_decided(connection: RawConnection = connection, before: int = before) -> bool:
            has_response = bool(select.select([connection.socket], [], [], 0)[0])
            return has_response or len(stack.sandbox.calls(CONVERTER, "create_job")) > before

        wait_until(is_decided, f"upload {number + 1} has begun or is refused", seconds=30)
        if select.select([connection.socket], [], [], 0)[0]:
            return connection.read_response("POST")
        begun.append(connection)
    raise AssertionError(f"{len(begun)} uploads have begun, although there are {SLOTS} slots")


def test_all_upload_slots_of_the_host_are_used_before_an_upload_is_refused(
    stack: ScaledStack, opened: ExitStack
) -> None:
    """A worker without a free slot leaves new connections to one that has some."""
    refused = fill(stack, opened)
    assert (refused.status, refused.json()["code"]) == (503, "upload_capacity")
    assert int(str(refused.header("Retry-After"))) > 0
    assert uploads_in_flight(stack) == SLOTS


def test_uploads_in_all_their_slots_leave_everything_else_answered(stack: ScaledStack, opened: ExitStack) -> None:
    """Each worker answers polls, the history, promotes and library downloads."""
    alice = stack.person("alice")
    job_ids = [stack.completed_job(alice, f"model {number}".encode()) for number in range(WORKERS)]
    fill(stack, opened)
    workers = stack.connect_to_all_workers()
    for job_id, connection in zip(job_ids, workers.values(), strict=True):
        opened.enter_context(connection)

        def ask(method: str, path: str, connection: RawConnection = connection) -> RawResponse:
            headers = {"Cookie": alice.cookie_header, "Content-Length": "0"}
            return connection.send_head(method, path, headers).read_response(method)

        assert ask("GET", f"/api/conversion/{job_id}").json()["status"] == "completed"
        assert ask("GET", "/api/conversion/jobs").status == 200
        promoted = ask("POST", f"/api/conversion/{job_id}/promote-to-models")
        assert promoted.status == 201
        downloaded = ask("GET", f"/api/models/{promoted.json()['id']}/file")
        assert (downloaded.status, bool(downloaded.body)) == (200, True)
    assert uploads_in_flight(stack) == SLOTS


def test_uploads_hold_no_connection_to_the_database(tmp_path: Path, postgresql_url: str, opened: ExitStack) -> None:
    """More uploads stream than the pool has connections. Polls and the history are answered meanwhile."""
    uploads = 16
    environment = {**ENVIRONMENT, "VISIONA_UPLOAD_SLOTS": str(uploads), "VISIONA_DATABASE_URL": postgresql_url}
    with ScaledStack(tmp_path, application="wsgi:app", environment=environment) as stack:
        alice = stack.person("alice")
        job_id = stack.completed_job(alice)
        for number in range(uploads):
            before = len(stack.sandbox.calls(CONVERTER, "create_job"))
            opened.enter_context(begin_upload(stack, f"u-{number}"))
            wait_until(lambda before=before: len(stack.sandbox.calls(CONVERTER, "create_job")) > before, "it has begun")
        wait_until(lambda: set(connection_states(postgresql_url)) == {"idle"}, "no connection is in a transaction")
        assert len(connection_states(postgresql_url)) <= 12 < uploads
        assert alice.get(f"/api/conversion/{job_id}").json()["status"] == "completed"
        assert alice.get("/api/conversion/jobs").status_code == 200
        assert uploads_in_flight(stack) == uploads
        opened.close()


def test_the_slots_of_a_killed_worker_and_of_ended_uploads_come_back(stack: ScaledStack, opened: ExitStack) -> None:
    with ExitStack() as killed:
        fill(stack, killed, "first")
        victim, survivor = stack.worker_pids()
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda: len(pids := stack.worker_pids()) == WORKERS and victim not in pids and survivor in pids,
            "a worker has replaced the killed one",
            seconds=30,
        )
        wait_until(lambda: uploads_in_flight(stack) == SLOTS_PER_WORKER, "the other worker's uploads go on")
    wait_until(lambda: uploads_in_flight(stack) == 0, "the aborted uploads have ended", seconds=30)
    for connection in stack.connect_to_all_workers().values():  # the new one accepts only when it has loaded
        connection.close()
    refused = fill(stack, opened, "second")
    assert refused.json()["code"] == "upload_capacity"
    assert uploads_in_flight(stack) == SLOTS
