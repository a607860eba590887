"""Two replicas behind nginx: a user's requests may go to either, and either may end, as may their database."""

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.aftermath import Aftermath
from tests.support.clients import Client
from tests.support.cluster import Cluster
from tests.support.fleet import Spread, ask, upload
from tests.support.models import expected_bytes
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.postgresql import PostgreSQL
from tests.support.processes import wait_until
from tests.support.slow_uploads import SlowUpload

pytestmark = [pytest.mark.timeout(120), pytest.mark.parametrize("engine", ["cluster"], indirect=True, scope="module")]

AWAY_SECONDS = 10.0
LOGOUT_SECONDS = 1.5
#: Fewer than PostgreSQL accepts, and enough for several idle connections in each worker.
AT_ONCE = 16


@pytest.fixture
def cluster(stack: Cluster) -> Iterator[Cluster]:
    yield stack
    aftermath = Aftermath(stack)
    assert not aftermath.models_without_file()
    assert not aftermath.files_without_model()
    assert not aftermath.temporaries()


def journey(cluster: Cluster, seed: int) -> None:
    """Do all that a user can do, each request at a replica that is drawn."""
    draw = random.Random(seed)
    client = cluster.wandering(cluster.client(), draw).sign_in(draw.choice(["alice", "bob"]))
    content = draw.randbytes(200_000)
    assert client.post("/api/conversion/check").status_code == 200
    job_id = cluster.upload(client, content, "mine.onnx")
    assert client.get("/api/conversion/active").json()["active_job"]["job_id"] == job_id
    assert client.get(f"/api/conversion/{job_id}").json()["filename"] == "mine.onnx"
    refused = cluster.send(client, model_upload(b"a second model"))
    assert (refused.status_code, refused.json()["code"]) == (409, "active_job_conflict")
    cluster.sandbox.complete(job_id)
    cluster.wait_for_status(client, job_id, "completed")
    assert client.get("/api/conversion/active").json() == {"active_job": None}

    promoted = [client.promote(job_id) for _ in range(3)]
    assert [response.status_code for response in promoted] == [201, 200, 200]
    path = f"/api/models/{promoted[0].json()['id']}"
    assert client.get(f"/api/conversion/{job_id}/download", allow_redirects=True).content == expected_bytes(content)
    assert client.get(f"{path}/file").content == expected_bytes(content)
    assert client.patch(path, json={"name": "renamed"}).status_code == 200
    assert [model["name"] for model in client.get("/api/models").json()["models"]] == ["renamed"]
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.get("/api/conversion/jobs").json()["jobs"][0]["job_id"] == job_id

    left = client.clone()
    assert client.post("/auth/logout").status_code in {200, 204}
    time.sleep(LOGOUT_SECONDS)
    assert [cluster.wandering(left, draw).get("/api/me").status_code for _ in range(4)] == [401] * 4


@pytest.mark.parametrize("seed", [1, 2])
def test_each_request_of_a_user_may_go_to_either_replica(cluster: Cluster, seed: int) -> None:
    journey(cluster, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_each_request_of_a_user_may_go_to_either_replica_20_times(cluster: Cluster, seed: int) -> None:
    journey(cluster, seed)


def test_users_of_a_killed_replica_go_on_at_the_other(cluster: Cluster) -> None:
    """Through nginx, polls and a promote succeed at once. A cut-off upload can be repeated when its lease ends."""
    person, cut_off = cluster.person("survivor"), cluster.person("cut-off")
    job_id = cluster.completed_job(person, LazyBytes(100_000, seed=1))
    victim, other = cluster.replicas
    assert victim.process is not None
    with SlowUpload(victim.url, cut_off, host=cluster.public_host):
        wait_until(lambda: len(cluster.sandbox.uploads()) == 2, "the upload is under way")
        os.kill(victim.process.pid, signal.SIGKILL)
        victim.kill()
    try:
        polls = [person.get(f"/api/conversion/{job_id}").status_code for _ in range(20)]
        promoted = cluster.bound(person, other).promote(job_id)
        refused = cluster.send(cluster.bound(cut_off, other), model_upload())
        Aftermath(cluster).let_leases_expire()
        repeated = cluster.send(cut_off, model_upload())
    finally:
        cluster.start_replica(victim)
    assert polls == [200] * 20
    assert promoted.status_code == 201, promoted.text
    assert (refused.status_code, refused.json()["code"]) == (409, "upload_in_progress")
    assert repeated.status_code == 201, repeated.text


def test_after_an_outage_of_the_database_no_request_fails(cluster: Cluster, postgresql: PostgreSQL) -> None:
    """All pooled connections break while they are idle. The first requests after the outage find new ones."""
    names = [f"away-{number}" for number in range(AT_ONCE)]
    people = [cluster.person(name) for name in names]
    jobs = [cluster.completed_job(person) for person in people]

    def use_connections(person: Client) -> list[int]:
        return [person.clone().get(path).status_code for path in ("/api/models", "/api/conversion/jobs") * 4]

    with Spread(cluster, each=1) as spread, ThreadPoolExecutor(AT_ONCE) as pool:
        assert {status for statuses in pool.map(use_connections, people) for status in statuses} == {200}
        with postgresql.stopped():
            # The other replica uses none of its connections meanwhile.
            failed = [cluster.bound(person.clone(), cluster.replicas[0]).get("/api/models") for person in people[:4]]
            time.sleep(AWAY_SECONDS)
        # No worker has their sessions in memory, so the first statement after the outage counts.
        strangers = [cluster.person(f"stranger-{number}") for number, _ in enumerate(spread.all)]
        back = [
            ask(connection, stranger, "GET", "/api/models").status
            for connection, stranger in zip(spread.all, strangers, strict=True)
        ]
        started = [
            upload(connection, person, model_upload()).status
            for connection, person in zip(spread.all, people, strict=False)
        ]
        statuses = list(pool.map(use_connections, people))
        promotes = list(pool.map(Client.promote, people, jobs))
    assert [(response.status_code, response.json()["code"]) for response in failed] == [
        (500, "model_store_unavailable")
    ] * 4
    assert set(back) == {200}
    assert set(started) == {201}
    assert {status for each in statuses for status in each} == {200}
    assert {response.status_code for response in promotes} == {201}
