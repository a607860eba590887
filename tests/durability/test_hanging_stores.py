"""A database or a bucket that accepts connections and never answers: requests that need it fail in bounded time."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.support.aftermath import Aftermath
from tests.support.multipart_bodies import model_upload
from tests.support.postgresql import PostgreSQL
from tests.support.processes import wait_until
from tests.support.s3_server import S3Server
from tests.support.scaled_stack import ScaledStack
from tests.support.slow_uploads import SlowUpload

pytestmark = [pytest.mark.timeout(120), pytest.mark.parametrize("engine", ["servers"], indirect=True, scope="module")]

LIMIT_SECONDS = 5.0
DEADLINE_SECONDS = 15
FROZEN_SECONDS = 12.0
#: More than the threads of both workers.
PROBES = 80


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """A short deadline, which the waits for a bucket follow."""
    return {"VISIONA_REQUEST_DEADLINE_SECONDS": str(DEADLINE_SECONDS)}


def timed(ask: Callable[[], requests.Response]) -> tuple[float, requests.Response]:
    started = time.monotonic()
    response = ask()
    return time.monotonic() - started, response


def checks(stack: ScaledStack) -> dict[str, str]:
    response: dict[str, str] = requests.get(f"{stack.url}/readyz", timeout=20).json()["checks"]
    return response


def test_with_a_frozen_database_known_sessions_poll_and_the_rest_fails_within_five_seconds(
    stack: ScaledStack, postgresql: PostgreSQL
) -> None:
    known, stranger = stack.person("known"), stack.person("stranger")
    job_id = stack.upload(known)
    poll = f"/api/conversion/{job_id}"
    for connection in stack.connect_to_all_workers().values():  # so that both workers know the session
        with connection:
            assert connection.send_head("GET", poll, {"Cookie": known.cookie_header}).read_response().status == 200
    polls: list[tuple[float, requests.Response]] = []
    with postgresql.frozen(), ThreadPoolExecutor(4) as pool:
        unfreeze_at = time.monotonic() + FROZEN_SECONDS
        refused = [pool.submit(timed, lambda: stranger.get("/api/models")) for _ in range(2)]
        upload = pool.submit(timed, lambda: stack.send(stranger, model_upload()))
        while time.monotonic() < unfreeze_at:
            polls.append(timed(lambda: known.get(poll)))
        assert checks(stack)["database"] in {"timeout", "model_store_unavailable"}
    assert {response.status_code for _, response in polls} == {200}
    assert max(seconds for seconds, _ in polls) < LIMIT_SECONDS
    assert len(polls) > 50, "after the first wait polls are answered at once"
    for seconds, response in [*(one.result() for one in refused), upload.result()]:
        assert (response.status_code, response.json()["code"]) == (500, "model_store_unavailable")
        assert seconds < LIMIT_SECONDS
    wait_until(lambda: checks(stack)["database"] == "ok", "the database is ready again", seconds=10)
    wait_until(lambda: stack.send(stranger, model_upload()).status_code == 201, "the stranger may upload", seconds=20)


def test_a_lease_that_could_not_be_released_is_released_once_the_database_answers(
    stack: ScaledStack, postgresql: PostgreSQL
) -> None:
    """Its holder may upload again at once, and not only when the lease expires after 150 s."""
    person, aftermath = stack.person("locked-out"), Aftermath(stack)
    lease = "upload:locked-out"
    with SlowUpload(stack.url, person) as upload:
        wait_until(lambda: lease in [one.name for one in aftermath.leases()], "the upload holds its lease")
        postgresql.freeze()
        try:
            # The upload ends here, with the job that the converter has made; its lease can't be released.
            response = upload.finish()
        finally:
            postgresql.thaw()
    assert response.status in {201, 500}
    wait_until(lambda: lease not in [one.name for one in aftermath.leases()], "the lease is released", seconds=10)


def test_with_a_frozen_bucket_probes_leave_threads_for_other_requests(stack: ScaledStack, s3_server: S3Server) -> None:
    person = stack.person("poller")
    poll = f"/api/conversion/{stack.upload(person)}"
    assert person.get(poll).status_code == 200
    with s3_server.frozen(), ThreadPoolExecutor(PROBES) as pool:
        probes = [pool.submit(timed, lambda: requests.get(f"{stack.url}/readyz", timeout=20)) for _ in range(PROBES)]
        others = [timed(lambda: requests.get(f"{stack.url}/healthz", timeout=20)) for _ in range(10)]
        others += [timed(lambda: person.get(poll)) for _ in range(10)]
        answered = [probe.result() for probe in probes]
        stack.outlast_readiness()
        later = [timed(lambda: requests.get(f"{stack.url}/readyz", timeout=20)) for _ in range(4)]
    assert {response.status_code for _, response in others} == {200}
    assert max(seconds for seconds, _ in others) < LIMIT_SECONDS / 2
    assert {response.status_code for _, response in later} == {503}
    # A check that has hung for long enough ends with the failure of its call.
    assert {response.json()["checks"]["storage"] for _, response in later} <= {"timeout", "storage_unavailable"}
    assert max(seconds for seconds, _ in answered + later) < LIMIT_SECONDS
    wait_until(lambda: checks(stack)["storage"] == "ok", "the storage is ready again", seconds=20)


def test_with_a_frozen_bucket_a_promote_fails_within_its_deadline(stack: ScaledStack, s3_server: S3Server) -> None:
    person = stack.person("keeper")
    job_id = stack.completed_job(person, b"a result")
    promote = f"/api/conversion/{job_id}/promote-to-models"
    with s3_server.frozen():
        seconds, response = timed(lambda: person.post(promote, timeout=60))
    assert (response.status_code, response.json()["code"]) == (500, "storage_unavailable")
    assert seconds < DEADLINE_SECONDS
    assert person.post(promote).status_code == 201
    aftermath = Aftermath(stack)
    assert not aftermath.models_without_file()
