"""What a user is told of a conversion besides its state: the usual time, and the receipt."""

from datetime import UTC, datetime, timedelta

from app.domain.job import Job, JobStatus
from app.library.database import Database
from app.library.ledger import SQLJobLedger
from app.version import VERSION
from tests.support.clients import Client
from tests.support.multipart_bodies import PARAMETERS, Multipart, sha256_of
from tests.support.sandbox_processes import CONVERTER
from tests.support.stack import Stack

MODEL = b"a model that the receipt is about " * 1000
IMAGES = {"貓.png": b"cat", "dog.png": b"a dog"}


def upload(stack: Stack, client: Client, **fields: str) -> dict[str, object]:
    body = Multipart().fields(**PARAMETERS | fields).file("model", MODEL, "net.onnx")
    for filename, content in IMAGES.items():
        body.file("ref_images", content, filename)
    response = stack.send(client, body)
    assert response.status_code == 201, response.text
    return dict(response.json())


def test_a_receipt_says_what_was_sent_and_what_came_back(stack: Stack, alice: Client) -> None:
    """Also when the converter no longer knows the job."""
    job = upload(stack, alice)
    job_id, images = str(job["job_id"]), {"count": 2, "size": 8}
    stack.sandbox.complete(job_id)
    stack.wait_for_status(alice, job_id, "completed")
    polled, listed = alice.get(f"/api/conversion/{job_id}").json(), alice.get("/api/conversion/jobs").json()["jobs"][0]
    assert job["reference_images"] == polled["reference_images"] == listed["reference_images"] == images
    model = alice.promote(job_id).json()
    calls = len(stack.sandbox.calls(CONVERTER))
    response = alice.get(f"/api/conversion/{job_id}/receipt")
    assert response.status_code == 200
    assert f'attachment; filename="net-{job_id}-receipt.json"' in response.headers["Content-Disposition"]
    receipt = response.json()
    assert (receipt["schema"], receipt["gateway_version"]) == ("visiona-receipt/1", VERSION)
    assert (receipt["job_id"], receipt["status"]) == (job_id, "completed")
    assert (receipt["model"]["filename"], receipt["model"]["size"]) == ("net.onnx", len(MODEL))
    assert receipt["upload"]["reference_images"] == images | {"first_filenames": list(IMAGES)}
    assert receipt["upload"]["started_at"] <= receipt["upload"]["ended_at"] <= receipt["ended_at"]
    assert receipt["parameters"]["platform"] == PARAMETERS["platform"]
    assert receipt["result"] == {
        "library_model_id": model["id"],
        "filename": model["filename"],
        "size": model["size"],
        "sha256": model["sha256"],
        "verified": True,
        "stored_at": model["created_at"],
    }
    assert sha256_of(alice.get(f"/api/models/{model['id']}/file").content) == receipt["result"]["sha256"]
    assert len(stack.sandbox.calls(CONVERTER)) == calls


def test_another_users_receipt_does_not_exist(stack: Stack, alice: Client, bob: Client) -> None:
    job_id = stack.upload(alice)
    foreign, absent = bob.get(f"/api/conversion/{job_id}/receipt"), bob.get("/api/conversion/absent/receipt")
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json()["code"] == absent.json()["code"] == "job_not_found"


def test_five_jobs_of_others_tell_how_long_a_conversion_usually_takes(stack: Stack, alice: Client) -> None:
    """No other test uses this chip with models of this size: each worker caches for a minute that nothing is known."""
    database = Database(f"sqlite:///{stack.database_path}")
    began = datetime.now(UTC) - timedelta(days=1)
    ledger = SQLJobLedger(database, clock=lambda: began)
    for number in range(5):
        ended = began + timedelta(seconds=60 * (number + 1))
        parameters = {"platform": "630"}
        job = Job(f"of-others-{number}", JobStatus.COMPLETED, None, "nef", 100, began, ended, parameters)
        ledger.open_upload(f"of-others-{number}", f"other-{number}", began)
        ledger.assign_job(f"other-{number}", f"of-others-{number}", job, filename="m.onnx", size=len(MODEL))
    database.dispose()

    job = upload(stack, alice, platform="630")
    assert job["usual_time"] == {"median_seconds": 180, "p90_seconds": 300, "jobs": 5, "stages": {}}
    assert alice.get(f"/api/conversion/{job['job_id']}").json()["usual_time"] == job["usual_time"]
