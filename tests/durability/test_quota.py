"""The quota of the library: checked before the pull if the size is known, else during it, also concurrently."""

from typing import Any

import pytest

from app.domain.model import job_of_storage_key
from sandbox.data_directory import DataDirectory
from sandbox.settings import CONVERTER, FILE_ACCESS
from tests.durability.conftest import ON_BOTH_ENGINES
from tests.support.aftermath import Aftermath
from tests.support.clients import Client
from tests.support.fleet import Spread, all_at_once, ask
from tests.support.multipart_bodies import LazyBytes
from tests.support.scaled_stack import ScaledStack

pytestmark = [ON_BOTH_ENGINES, pytest.mark.timeout(60)]

QUOTA = 500_000


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {"VISIONA_LIBRARY_BYTES_PER_USER": str(QUOTA)}


def promote_path(job_id: str) -> str:
    return f"/api/conversion/{job_id}/promote-to-models"


def object_key_of(stack: ScaledStack, job_id: str) -> str:
    with DataDirectory(stack.sandbox.data).reading() as database:
        [key] = [row["object_key"] for row in database.execute("SELECT object_key FROM objects")]
        assert job_id in key
        return str(key)


def verify_nothing_is_kept(stack: ScaledStack, person: Client, job_id: str) -> None:
    assert person.get("/api/models").json()["models"] == []
    aftermath = Aftermath(stack)
    assert not [key for key in aftermath.stored() if key.startswith(job_id)]
    assert not aftermath.temporaries()


def test_a_result_that_is_announced_as_too_large_is_not_pulled(stack: ScaledStack) -> None:
    person = stack.person("announced")
    job_id = stack.completed_job(person, LazyBytes(QUOTA))  # the result is a little larger than the model

    response = person.promote(job_id)

    assert (response.status_code, response.json()["code"]) == (409, "library_full")
    assert stack.sandbox.calls(FILE_ACCESS, "get_file") == []
    verify_nothing_is_kept(stack, person, job_id)


def test_a_result_of_unknown_size_is_stopped_at_the_quota_by_the_gateway(stack: ScaledStack) -> None:
    """The converter does not announce the size, and the file service sends without end."""
    person = stack.person("unannounced")
    job_id = stack.completed_job(person, b"small")
    assert person.get(f"/api/conversion/{job_id}/download?check=1").status_code == 200
    promotion = {"job_id": job_id, "object_key": object_key_of(stack, job_id)}
    stack.sandbox.fault(CONVERTER, call="promote", status=200, body_json=promotion)
    stack.sandbox.fault(FILE_ACCESS, call="get_file", status=200, body_size=200_000_000, headers={"ETag": '"x"'})

    response = person.promote(job_id)

    assert (response.status_code, response.json()["code"]) == (409, "library_full")
    assert response.elapsed.total_seconds() < 20
    verify_nothing_is_kept(stack, person, job_id)


def test_a_result_of_unknown_size_that_fits_is_stored(stack: ScaledStack) -> None:
    person = stack.person("fits")
    job_id = stack.completed_job(person, LazyBytes(QUOTA // 2))
    assert person.get(f"/api/conversion/{job_id}/download?check=1").status_code == 200
    promotion = {"job_id": job_id, "object_key": object_key_of(stack, job_id)}
    stack.sandbox.fault(CONVERTER, call="promote", status=200, body_json=promotion)

    assert person.promote(job_id).status_code == 201


@pytest.mark.parametrize("turn", range(3))
def test_of_two_concurrent_promotes_that_fit_only_alone_one_is_stored(stack: ScaledStack, turn: int) -> None:
    """Two jobs of one user in two processes make one model. After deleting it, its quota can be used at once."""
    person = stack.person(f"greedy-{turn}")
    jobs = [stack.completed_job(person, LazyBytes(QUOTA * 3 // 5, seed=seed)) for seed in (1, 2)]
    stack.sandbox.fault(FILE_ACCESS, call="get_file", when="after", drip={"bytes": QUOTA // 5, "interval_seconds": 0.1})
    with Spread(stack, each=1) as spread:

        def promote(index: int) -> Any:
            return ask(spread.all[index], person, "POST", promote_path(jobs[index]))

        responses = all_at_once([lambda: promote(0), lambda: promote(1)])

    assert sorted(response.status for response in responses) == [201, 409], [response.body for response in responses]
    refused = next(index for index, response in enumerate(responses) if response.status == 409)
    assert responses[refused].json()["code"] == "library_full"
    aftermath = Aftermath(stack)
    [row] = aftermath.rows("SELECT * FROM models WHERE user_id = ?", f"greedy-{turn}")
    assert [key for key in aftermath.stored() if job_of_storage_key(key) in jobs] == [row["storage_key"]]
    assert not aftermath.temporaries()
    assert person.delete(f"/api/models/{row['id']}").status_code == 204
    assert person.promote(jobs[refused]).status_code == 201
