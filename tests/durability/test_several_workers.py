"""Several processes, also of two replicas, are one gateway: what must happen once happens once."""

import os
import signal
import time
from collections import Counter
from functools import partial

import pytest

from app.domain.model import job_of_storage_key
from sandbox.settings import CONVERTER, FILE_ACCESS
from tests.durability.conftest import ON_HOST_AND_CLUSTER
from tests.support.aftermath import Aftermath
from tests.support.clients import RawConnection
from tests.support.fleet import Spread, all_at_once, ask, upload
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack

pytestmark = [ON_HOST_AND_CLUSTER, pytest.mark.timeout(60)]

UPLOADS = 20
LOGOUT_SECONDS = 1.5
three_times = pytest.mark.parametrize("turn", range(3))


@three_times
def test_of_20_uploads_at_once_over_all_workers_one_starts_a_job(stack: ScaledStack, turn: int) -> None:
    """One 201, 19 times 409, and one upload at the converter; all workers have served."""
    person = stack.person(f"twenty-{turn}")
    with Spread(stack, each=UPLOADS // len(stack.worker_pids())) as spread:
        responses = all_at_once(
            [
                partial(upload, connection, person, model_upload(LazyBytes(100_000, seed=number)))
                for number, connection in enumerate(spread.all)
            ]
        )

    codes = Counter(response.json().get("code", "started") for response in responses)
    assert [response.status for response in responses if response.status != 409] == [201]
    assert codes["started"] == 1
    assert set(codes) <= {"started", "upload_in_progress", "active_job_conflict"}
    assert len(Aftermath(stack).jobs_at_the_converter(f"twenty-{turn}")) == 1
    assert len(stack.sandbox.uploads()) == 1
    history = person.get("/api/conversion/jobs").json()["jobs"]
    assert [job["filename"] for job in history] == ["model.onnx"]
    assert not Aftermath(stack).rows("SELECT * FROM jobs WHERE job_id IS NULL")


@three_times
def test_promotes_at_once_in_all_processes_make_one_model(stack: ScaledStack, turn: int) -> None:
    """One 201, the rest 200 with the same model, one record, one file."""
    person = stack.person(f"twice-{turn}")
    job_id = stack.completed_job(person, LazyBytes(300_000, seed=turn))
    stack.sandbox.fault(FILE_ACCESS, call="get_file", when="after", drip={"bytes": 100_000, "interval_seconds": 0.05})
    with Spread(stack, each=1) as spread:
        path = f"/api/conversion/{job_id}/promote-to-models"
        responses = all_at_once([partial(ask, connection, person, "POST", path) for connection in spread.all])

    assert sorted(response.status for response in responses) == [*[200] * (len(responses) - 1), 201]
    assert all(response.json() == responses[0].json() for response in responses)
    aftermath = Aftermath(stack)
    kept = [row["storage_key"] for row in aftermath.rows("SELECT * FROM models WHERE user_id = ?", f"twice-{turn}")]
    assert len(kept) == 1
    assert [key for key in aftermath.stored() if job_of_storage_key(key) == job_id] == kept
    assert not aftermath.temporaries()


@pytest.mark.parametrize("first", ["delete", "promote", "both at once"])
@three_times
def test_promote_against_delete_ends_whole(stack: ScaledStack, first: str, turn: int) -> None:
    user_id = f"against-{first}-{turn}".replace(" ", "-")
    person = stack.person(user_id)
    job_id = stack.completed_job(person, LazyBytes(200_000, seed=turn))
    promote_path = f"/api/conversion/{job_id}/promote-to-models"
    model_id = person.post(promote_path).json()["id"]
    with Spread(stack, each=1) as spread:
        one, other, *_ = spread.all
        promote = partial(ask, one, person, "POST", promote_path)
        delete = partial(ask, other, person, "DELETE", f"/api/models/{model_id}")
        match first:
            case "delete":
                deleted, promoted = delete(), promote()
                assert promoted.status == 201
            case "promote":
                promoted, deleted = promote(), delete()
                assert promoted.status == 200
            case _:
                promoted, deleted = all_at_once([promote, delete])

    assert deleted.status == 204
    assert promoted.status in {200, 201}
    aftermath = Aftermath(stack)
    rows = aftermath.rows("SELECT id, storage_key FROM models WHERE user_id = ?", user_id)
    # A promote that made a new model came after the delete; one that found the old one came before it.
    assert [row["id"] for row in rows] == ([promoted.json()["id"]] if promoted.status == 201 else [])
    assert [key for key in aftermath.stored() if job_of_storage_key(key) == job_id] == [
        row["storage_key"] for row in rows
    ]
    assert person.get(f"/api/models/{model_id}").status_code == 404


@three_times
def test_a_cookie_that_was_signed_out_is_refused_by_all_workers_within_1_5_s(stack: ScaledStack, turn: int) -> None:
    """All workers have just seen the session alive; 1.5 s after the logout none of them accepts its cookie."""
    person = stack.person(f"leaving-{turn}")
    with Spread(stack, each=1) as spread:
        assert {ask(connection, person, "GET", "/api/me").status for connection in spread.all} == {200}
        signed_out = ask(spread.all[turn % len(spread.all)], person, "POST", "/auth/logout")
        assert signed_out.status in {200, 204}
        told_at = time.monotonic()
        accepted_at: list[float] = []

        def is_dead(connection: RawConnection) -> bool:
            began = time.monotonic()
            dead = ask(connection, person, "GET", "/api/me").status == 401
            if not dead:
                accepted_at.append(began)
            return dead

        for connection in spread.all:
            wait_until(partial(is_dead, connection), "the cookie is dead", every=0.05)
        # The start of a request counts, however long a slow machine then takes for it.
        assert not [began for began in accepted_at if began - told_at > LOGOUT_SECONDS]
        assert {ask(connection, person, "POST", "/api/conversion/check").status for connection in spread.all} == {401}


def test_a_signed_out_cookie_stays_dead_after_a_crash(stack: ScaledStack) -> None:
    person = stack.person("gone-for-good")
    assert person.clone().post("/auth/logout").status_code in {200, 204}

    stack.restart_gateway(kill=True)

    with Spread(stack, each=1) as spread:
        assert {ask(connection, person, "GET", "/api/me").status for connection in spread.all} == {401}


def test_every_worker_serves_every_kind_of_request(stack: ScaledStack) -> None:
    """One user's whole way, with the worker changing at each step: no step needs the process of the one before."""
    person = stack.person("wanderer")
    with Spread(stack, each=1) as spread:
        one, other, *_ = spread.all
        started = upload(one, person, model_upload(b"wanders"))
        assert started.status == 201
        job_id = started.json()["job_id"]
        assert ask(other, person, "GET", "/api/conversion/active").json()["active_job"]["filename"] == "model.onnx"
        assert upload(other, person, model_upload(b"second")).json()["code"] == "active_job_conflict"
        stack.sandbox.complete(job_id)
        model = ask(other, person, "POST", f"/api/conversion/{job_id}/promote-to-models")
        assert model.status == 201
        assert ask(one, person, "GET", f"/api/models/{model.json()['id']}/file").status == 200
        assert ask(one, person, "GET", f"/api/conversion/{job_id}/download").status == 302
        assert ask(one, person, "DELETE", f"/api/models/{model.json()['id']}").status == 204
        assert ask(other, person, "GET", f"/api/models/{model.json()['id']}").status == 404
        ports = {call["client_port"] for call in stack.sandbox.calls(CONVERTER)}
        assert len(ports) > 1


def test_an_upload_ends_from_every_worker_and_the_next_one_starts(stack: ScaledStack) -> None:
    """Its client is silent. The converter never sees its end, and other ids and users end nothing."""
    person, model = stack.person("ending"), model_upload(b"x" * 100_000)
    path = "/api/conversion/upload?upload_id="

    def begin(connection: RawConnection, upload_id: str) -> None:
        before = len(stack.sandbox.uploads())
        head = {"Cookie": person.cookie_header, **model.headers, "Content-Length": str(len(model))}
        connection.send_head("POST", "/api/conversion/init", head | {"X-Upload-ID": upload_id})
        connection.send(model.as_bytes()[:90_000])
        wait_until(lambda: len(stack.sandbox.uploads()) > before, "the converter has a part of it")

    with Spread(stack, each=2) as spread:
        # The worker of the first connection has the uploads.
        pid, (uploading, same) = next(iter(spread.by_worker.items()))
        for number, asked in enumerate([same, *spread.all[1 : len(spread.by_worker)]]):
            begin(uploading, f"upload-{number}")
            refused = upload(asked, person, model_upload(b"another")).json()
            assert refused["upload"].items() >= {"upload_id": f"upload-{number}", "total_bytes": len(model)}.items()
            assert ask(asked, person, "DELETE", f"{path}another").status == 404
            assert ask(asked, stack.person("stranger"), "DELETE", f"{path}upload-{number}").status == 404

            assert ask(asked, person, "DELETE", f"{path}upload-{number}").status == 204

            assert uploading.read_response().json()["code"] == "upload_ended"
            uploading.send(model.as_bytes()[90_000:])  # the worker reads it before the connection's next request
            assert [seen["complete"] for seen in stack.sandbox.ended_uploads(number + 1)] == [False] * (number + 1)
            assert ask(asked, person, "DELETE", f"{path}upload-{number}").status == 404

        begin(uploading, "killed")
        os.kill(pid, signal.SIGKILL)
        unconfirmed = ask(spread.all[1], person, "DELETE", f"{path}killed")
        assert (unconfirmed.status, unconfirmed.header("Retry-After")) == (202, "5")
        stack.stores.rows("UPDATE leases SET expires_at = started_at")
        stack.stores.rows("DELETE FROM jobs WHERE job_id IS NULL")
        assert ask(spread.all[1], person, "DELETE", f"{path}killed").status == 404
        assert upload(spread.all[1], person, model_upload(b"next")).status == 201
        wait_until(lambda: len({*stack.worker_pids()} - {pid}) == len(spread.by_worker), "the worker has a successor")
