"""A bucket that fails in any way: a clear code, nothing stored in part, nothing held, and the next try succeeds."""

from collections.abc import Iterator

import pytest
import requests

from app.library.s3 import PART_BYTES
from tests.support.aftermath import Aftermath
from tests.support.clients import Client
from tests.support.counts import Counts
from tests.support.failing_bucket import (
    FailingBucket,
    Failure,
    change_etag,
    end_early,
    lose_response,
    once,
    refuse,
    reset,
    reset_early,
    shorten,
)
from tests.support.models import expected_bytes
from tests.support.multipart_bodies import LazyBytes
from tests.support.processes import wait_until
from tests.support.s3_server import S3Server
from tests.support.scaled_stack import ScaledStack

pytestmark = [pytest.mark.timeout(60), pytest.mark.parametrize("engine", ["servers"], indirect=True, scope="module")]

SMALL, LARGE = 100_000, PART_BYTES + 100_000
UNAVAILABLE = (500, "storage_unavailable")


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> Iterator[FailingBucket]:
    with FailingBucket(s3_server.port) as bucket:
        yield bucket


@pytest.fixture(scope="module")
def environment(bucket: FailingBucket) -> dict[str, str]:
    """The gateway reaches the bucket through the failing server; the tests reach it directly."""
    return {"AWS_ENDPOINT_URL": bucket.url}


def transfers_in_flight(stack: ScaledStack) -> float:
    text = requests.get(f"{stack.direct_url}/metrics", timeout=10).text
    return Counts.of(text).sum("visiona_transfers_in_flight")


@pytest.fixture
def aftermath(stack: ScaledStack) -> Iterator[Aftermath]:
    """After each test: no lease, no transfer and no unfinished file is left."""
    aftermath = Aftermath(stack)
    yield aftermath
    # A download holds its slot until a moment after its last byte has arrived here.
    wait_until(lambda: transfers_in_flight(stack) == 0, "no transfer is in flight", seconds=10)
    assert {lease.name for lease in aftermath.leases()} <= {"sweep"}
    assert aftermath.temporaries() == []
    assert aftermath.models_without_file() == []


@pytest.fixture
def person(stack: ScaledStack, request: pytest.FixtureRequest) -> Client:
    """A user without models."""
    return stack.person(request.node.name.replace(" ", "-"))


def kept_file(stack: ScaledStack, person: Client) -> tuple[str, bytes]:
    """Store a result in the library. Return the path of its file, and its bytes."""
    content = b"a model" * 10_000
    return f"/api/models/{stack.kept_model(person, content)['id']}/file", expected_bytes(content)


def code_of(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize(
    ("operation", "failure", "size"),
    [
        pytest.param("PutObject", refuse(500, "InternalError"), SMALL, id="PutObject is 500"),
        pytest.param("PutObject", refuse(403, "AccessDenied"), SMALL, id="PutObject is 403"),
        pytest.param("PutObject", refuse(404, "NoSuchBucket"), SMALL, id="no bucket"),
        pytest.param("CreateMultipartUpload", refuse(503, "SlowDown"), LARGE, id="CreateMultipartUpload is 503"),
        pytest.param("UploadPart", reset, LARGE, id="UploadPart is reset"),
        # S3 responds before it is done, so an error may come with status 200.
        pytest.param(
            "CompleteMultipartUpload", refuse(200, "InternalError"), LARGE, id="CompleteMultipartUpload is 200"
        ),
    ],
)
def test_a_promote_that_cannot_write_stores_nothing_and_can_be_repeated(
    stack: ScaledStack,
    bucket: FailingBucket,
    aftermath: Aftermath,
    person: Client,
    operation: str,
    failure: Failure,
    size: int,
) -> None:
    job_id = stack.completed_job(person, LazyBytes(size, seed=1))
    before = set(aftermath.stored())
    with bucket.failing(operation, failure):
        refused = person.promote(job_id)
    assert code_of(refused) == UNAVAILABLE
    assert set(aftermath.stored()) == before
    assert aftermath.temporaries() == []
    assert person.get("/api/models").json()["models"] == []

    assert person.promote(job_id).status_code == 201
    assert len(aftermath.stored()) == len(before) + 1


@pytest.mark.parametrize(("operation", "size"), [("PutObject", SMALL), ("CompleteMultipartUpload", LARGE)])
def test_a_file_whose_commit_was_not_confirmed_has_no_record_and_goes_with_the_sweep(
    stack: ScaledStack, bucket: FailingBucket, aftermath: Aftermath, person: Client, operation: str, size: int
) -> None:
    job_id = stack.completed_job(person, LazyBytes(size, seed=2))
    with bucket.failing(operation, lose_response):
        refused = person.promote(job_id)
    assert code_of(refused) == UNAVAILABLE
    assert len(aftermath.files_without_model()) == 1
    assert person.get("/api/models").json()["models"] == []

    assert person.promote(job_id).status_code == 201
    assert aftermath.sweep().removed["files_without_record"] == 1
    assert aftermath.files_without_model() == []


def test_a_failure_that_passes_is_not_noticed(
    stack: ScaledStack, bucket: FailingBucket, aftermath: Aftermath, person: Client
) -> None:
    job_id = stack.completed_job(person, LazyBytes(SMALL, seed=3))
    with bucket.failing("PutObject", once(refuse(503, "SlowDown"))):
        assert person.promote(job_id).status_code == 201


@pytest.mark.parametrize(
    ("operation", "failure"),
    [
        pytest.param("HeadObject", refuse(500, ""), id="HeadObject is 500"),
        pytest.param("HeadObject", refuse(404, ""), id="no such object"),
        pytest.param("HeadObject", shorten, id="too short"),
        pytest.param("HeadObject", change_etag, id="another ETag"),
        pytest.param("GetObject", refuse(403, "AccessDenied"), id="GetObject is 403"),
    ],
)
def test_a_download_that_cannot_begin_is_an_error_and_can_be_repeated(
    stack: ScaledStack, bucket: FailingBucket, aftermath: Aftermath, person: Client, operation: str, failure: Failure
) -> None:
    path, content = kept_file(stack, person)
    with bucket.failing(operation, failure):
        assert code_of(person.get(path)) == UNAVAILABLE
    assert person.get(path).content == content


@pytest.mark.parametrize("failure", [end_early, reset_early])
def test_a_download_that_is_cut_off_does_not_look_complete(
    stack: ScaledStack, bucket: FailingBucket, aftermath: Aftermath, person: Client, failure: Failure
) -> None:
    path, content = kept_file(stack, person)
    with bucket.failing("GetObject", failure):
        try:
            response = person.get(path)
        except requests.RequestException:
            pass  # The connection has ended early.
        else:
            assert code_of(response) == UNAVAILABLE, "the failure came before the first chunk"
    assert person.get(path).content == content


def test_a_model_is_deleted_even_if_its_file_stays_until_the_sweep(
    stack: ScaledStack, bucket: FailingBucket, aftermath: Aftermath, person: Client
) -> None:
    path, _ = kept_file(stack, person)
    with bucket.failing("DeleteObject", refuse(500, "InternalError")):
        assert person.delete(path.removesuffix("/file")).status_code == 204
    assert person.get(path).status_code == 404
    assert len(aftermath.files_without_model()) == 1
    with bucket.failing("ListObjectsV2", refuse(500, "InternalError")):
        assert "files_without_record" in aftermath.sweep().failed
    assert aftermath.sweep().failed == []
    assert aftermath.files_without_model() == []


def test_without_a_connection_to_the_bucket_nothing_is_stored_and_the_gateway_is_not_ready(
    stack: ScaledStack, bucket: FailingBucket, aftermath: Aftermath, person: Client
) -> None:
    job_id = stack.completed_job(person, LazyBytes(SMALL, seed=4))
    stack.outlast_readiness()
    with bucket.refusing():
        assert code_of(person.promote(job_id)) == UNAVAILABLE
        readiness = requests.get(f"{stack.url}/readyz", timeout=10)
    assert (readiness.status_code, readiness.json()["checks"]["storage"]) == (503, "storage_unavailable")
    assert person.promote(job_id).status_code == 201
    wait_until(lambda: requests.get(f"{stack.url}/readyz", timeout=10).status_code == 200, "the gateway is ready")
