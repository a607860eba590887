"""A promote pulls the result from the file service into the caller's library, once."""

from pathlib import Path

import pytest
import requests

from tests.support.clients import Client
from tests.support.models import expected_bytes
from tests.support.multipart_bodies import sha256_of
from tests.support.sandbox_processes import FILE_ACCESS
from tests.support.stack import Stack

MODEL = b"a model to be kept " * 10_000


@pytest.fixture
def job_id(stack: Stack, alice: Client) -> str:
    return stack.completed_job(alice, MODEL)


def test_promote_is_201_and_then_200_with_the_same_model(stack: Stack, alice: Client, job_id: str) -> None:
    """The first call stores the result; later ones return the model and pull nothing."""
    first = alice.promote(job_id)
    again = alice.promote(job_id)

    assert (first.status_code, again.status_code) == (201, 200)
    model = first.json()
    assert again.json() == model
    result = expected_bytes(MODEL)
    assert (model["size"], model["sha256"]) == (len(result), sha256_of(result))
    assert (model["source_job_id"], model["platform"]) == (job_id, "720")
    assert first.headers["Location"] == again.headers["Location"] == f"/api/models/{model['id']}"
    assert len(stack.sandbox.calls(FILE_ACCESS, "get_file")) == 1
    assert alice.get(f"/api/conversion/{job_id}").json()["library_model_id"] == model["id"]


def test_librarys_bytes_are_the_downloads(alice: Client, job_id: str) -> None:
    model = alice.promote(job_id).json()
    location = alice.get(f"/api/conversion/{job_id}/download").headers["Location"]
    downloaded = requests.get(location, timeout=10).content

    whole = alice.get(f"/api/models/{model['id']}/file")

    assert downloaded == whole.content == expected_bytes(MODEL)
    assert whole.headers["Content-Disposition"].startswith("attachment;")
    assert whole.headers["ETag"] == f'"{model["sha256"]}"'


def test_promotion_too_early_and_of_a_failed_job_are_409(stack: Stack, alice: Client) -> None:
    job_id = stack.upload(alice)
    early = alice.promote(job_id)
    stack.sandbox.fail(job_id, "no_such_op", "no such op")
    failed = alice.promote(job_id)

    assert (early.status_code, early.json()["code"]) == (409, "job_not_completed")
    assert (failed.status_code, failed.json()["code"]) == (409, "job_failed")
    assert failed.json()["job_error"]["code"] == "no_such_op"
    assert stack.sandbox.calls(FILE_ACCESS) == []


def test_result_with_a_wrong_hash_is_not_stored(stack: Stack, alice: Client, job_id: str) -> None:
    """A pull that does not match the announced hash is 502, leaves no file and no model, and may be retried."""
    files_before = files_below(stack.storage_path)
    stack.sandbox.fault(FILE_ACCESS, call="get_file", status=200, body_size=len(expected_bytes(MODEL)), times=1)

    corrupt = alice.promote(job_id)

    assert (corrupt.status_code, corrupt.json()["code"]) == (502, "result_corrupt")
    assert files_below(stack.storage_path) == files_before
    assert alice.promote(job_id).status_code == 201


def test_pull_that_breaks_off_resumes_where_it_stopped(stack: Stack, alice: Client, job_id: str) -> None:
    stack.sandbox.fault(FILE_ACCESS, call="get_file", when="after", cut="mid_body", cut_at=70_000, times=1)

    model = alice.promote(job_id)

    assert model.status_code == 201, model.text
    assert alice.get(f"/api/models/{model.json()['id']}/file").content == expected_bytes(MODEL)
    assert [call["headers"].get("Range") for call in stack.sandbox.calls(FILE_ACCESS)] == [None, "bytes=70000-"]


def test_renamed_and_deleted_model_is_gone_for_good(stack: Stack, alice: Client, job_id: str) -> None:
    files_before = files_below(stack.storage_path)
    path = f"/api/models/{alice.promote(job_id).json()['id']}"

    assert alice.patch(path, json={"name": "人臉偵測 v2"}).json()["name"] == "人臉偵測 v2"
    assert alice.delete(path).status_code == 204

    assert alice.get(path).status_code == alice.get(f"{path}/file").status_code == 404
    assert files_below(stack.storage_path) == files_before


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
