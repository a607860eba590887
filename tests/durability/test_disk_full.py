"""With a full disk requests fail with our own code, leave nothing incomplete, and succeed again once there is space.

The full disk is a limit on the size of files (RLIMIT_FSIZE) of the running workers. A program cannot tell it from a
full disk, and no mount is needed.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.aftermath import Aftermath
from tests.support.clients import Client
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack

pytestmark = pytest.mark.timeout(60)

ROOM_BYTES = 400_000
#: More than the log of the database ever takes.
MUCH_ROOM_BYTES = 6_000_000
#: SQLite's log grows by some pages with each write and has the same limit.
MOST_WRITES = 400


@contextmanager
def full_disk(stack: ScaledStack, room_bytes: int) -> Iterator[None]:
    """Limit the size of all files of the workers during the block."""
    before = [(pid, resource.prlimit(pid, resource.RLIMIT_FSIZE)) for pid in stack.worker_pids()]
    for pid, (_, hard) in before:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (room_bytes, hard))
    try:
        yield
    finally:
        for pid, limits in before:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def verify_nothing_is_half_there(stack: ScaledStack) -> None:
    aftermath = Aftermath(stack)
    assert aftermath.is_intact()
    assert not aftermath.models_without_file()
    assert not aftermath.files_without_model()
    assert not aftermath.temporaries()


def test_a_result_is_stored_once_the_disk_has_space_again(stack: ScaledStack) -> None:
    person = stack.person("hoarder")
    job_id = stack.completed_job(person, LazyBytes(MUCH_ROOM_BYTES + 1))
    with full_disk(stack, MUCH_ROOM_BYTES):
        for _ in range(3):
            response = person.promote(job_id)
            assert (response.status_code, response.json()["code"]) == (500, "storage_unavailable")
            verify_nothing_is_half_there(stack)
        assert person.get("/api/models").json()["models"] == []
        assert person.get(f"/api/conversion/{job_id}").status_code == 200
        small = stack.person("modest")
        assert stack.kept_model(small, b"fits")

    response = person.promote(job_id)
    assert response.status_code == 201
    assert person.get(f"/api/models/{response.json()['id']}/file").status_code == 200
    verify_nothing_is_half_there(stack)


def fill_the_database(person: Client, model_id: str) -> None:
    """Rename until the database has no room."""
    for number in range(MOST_WRITES):
        response = person.patch(f"/api/models/{model_id}", json={"name": f"name {number}" + "x" * 150})
        if response.status_code != 200:
            assert (response.status_code, response.json()["code"]) == (500, "model_store_unavailable")
            return
    raise AssertionError("the database never became full")


def test_with_a_full_disk_the_database_refuses_writes_and_still_reads(stack: ScaledStack) -> None:
    person = stack.person("scribbler")
    kept = stack.kept_model(person, b"first")
    waiting = stack.completed_job(person, b"second")
    with full_disk(stack, ROOM_BYTES):
        fill_the_database(person, kept["id"])
        refused = [stack.send(person, model_upload()), person.promote(waiting)]
        refused.append(person.delete(f"/api/models/{kept['id']}"))
        codes = [(response.status_code, response.json()["code"]) for response in refused]
        assert codes == [(500, "model_store_unavailable")] * 3
        assert person.get(f"/api/models/{kept['id']}/file").status_code == 200
        assert person.get("/api/conversion/jobs").status_code == 200
        assert person.get(f"/api/conversion/{waiting}").json()["status"] == "completed"
        # No upload has reached the converter, which would then have a job without an owner.
        assert len(Aftermath(stack).jobs_at_the_converter("scribbler")) == 2
        verify_nothing_is_half_there(stack)

    assert person.promote(waiting).status_code == 201
    assert person.delete(f"/api/models/{kept['id']}").status_code == 204
    assert stack.send(person, model_upload()).status_code == 201
    verify_nothing_is_half_there(stack)
    assert not [lease for lease in Aftermath(stack).leases() if lease.name != "sweep"]


def test_a_log_that_cannot_be_written_fails_no_request(stack: ScaledStack) -> None:
    """No log line can be written either. Reads succeed, and writes report which store failed."""
    person = stack.person("unlogged")
    kept = stack.kept_model(person, b"first")
    with full_disk(stack, 0):
        assert person.get("/api/me").status_code == 200
        assert person.get(f"/api/models/{kept['id']}/file").status_code == 200
        refused = person.delete(f"/api/models/{kept['id']}")
        assert (refused.status_code, refused.json()["code"]) == (500, "model_store_unavailable")
        assert person.get("/healthz").status_code == 200
        # A worker keeps the result of its last check for two seconds.
        wait_until(lambda: person.get("/readyz").status_code == 503, "a check that sees the full disk")

    wait_until(lambda: person.get("/readyz").status_code == 200, "a check that sees the free disk")
    assert person.delete(f"/api/models/{kept['id']}").status_code == 204
