"""A receipt says what was sent and what came back, to the owner only, and needs no upstream."""

import pytest

from app.domain.job import Job
from app.errors import JobNotFoundError
from app.streaming.multipart import UploadMessage
from app.version import VERSION
from tests.support.fakes import call_context
from tests.unit.services.bench import Bench, FakeBody

PART = 'Content-Disposition: form-data; name="{}"; filename="{}"'


def body(images: int) -> FakeBody:
    files = [("model", "net.onnx", "model bytes"), *(("ref_images", f"{n}.png", "image") for n in range(images))]
    parts = [f"--b\r\n{PART.format(name, filename)}\r\n\r\n{content}\r\n" for name, filename, content in files]
    return FakeBody([("".join(parts) + "--b--\r\n").encode()])


def upload(bench: Bench, images: int = 0) -> None:
    def create(message: UploadMessage) -> Job:
        for _ in message:
            pass
        bench.has_job("job-1", "alice")
        return bench.converter.jobs["job-1"]

    bench.converter.create = create
    bench.service.init_job("alice", "b", body(images), call_context())


def test_a_receipt_has_the_facts_of_the_upload(bench: Bench) -> None:
    upload(bench, images=3)
    assert bench.service.get_job("alice", "job-1", call_context()).reference_images == {"count": 3, "size": 15}
    receipt = bench.service.get_receipt("alice", "job-1")
    assert (receipt.record.filename, receipt.record.size) == ("net.onnx", 11)
    assert receipt.record.upload_facts == {
        "ended_at": bench.clock().isoformat(),
        "model_sha256": None,
        "ref_images": 3,
        "ref_image_bytes": 15,
        "ref_image_names": ["0.png", "1.png", "2.png"],
        "gateway_version": VERSION,
    }
    assert receipt.model is None


def test_of_many_reference_images_only_the_first_twenty_names_are_recorded(bench: Bench) -> None:
    bench.uploads._max_parts = 50
    upload(bench, images=25)
    facts = bench.service.get_receipt("alice", "job-1").record.upload_facts
    assert facts is not None
    assert (facts["ref_images"], facts["ref_image_bytes"]) == (25, 125)
    assert facts["ref_image_names"] == [f"{n}.png" for n in range(20)]


@pytest.mark.parametrize("status", ["queued", "running", "completed", "failed", "cancelled"])
def test_a_job_has_a_receipt_in_every_state_without_any_call(bench: Bench, status: str) -> None:
    bench.knows_job("job-1", "alice", status)
    bench.converter.jobs.clear()
    assert bench.service.get_receipt("alice", "job-1").job.status == status
    assert bench.converter.calls == []


def test_a_stored_result_is_on_the_receipt(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "completed")
    model = bench.has_model(source_job_id="job-1", is_verified=True)
    assert bench.service.get_receipt("alice", "job-1").model == model


@pytest.mark.parametrize("job_id", ["job-1", "absent", "..", "x" * 129])
def test_there_is_no_receipt_of_another_users_job_or_of_none(bench: Bench, job_id: str) -> None:
    bench.knows_job("job-1", "bob", "completed")
    with pytest.raises(JobNotFoundError):
        bench.service.get_receipt("alice", job_id)
