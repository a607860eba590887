"""The storage in a bucket, beyond what every storage does, on a real S3 server.

Failures that the server cannot produce are injected into boto3 as if they were responses of the server.
"""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from app.errors import StorageUnavailableError
from app.library.s3 import MIN_STALE_SECONDS, PART_BYTES, S3Storage
from app.library.storage_urls import open_storage
from tests.support.s3_server import S3Server

KEY = "job-1/model_1"


class Bucket:
    """An empty bucket, the calls of its client, and the failures to inject."""

    def __init__(self, name: str, server: S3Server) -> None:
        self.name = name
        self.server = server
        self.client = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))
        self.calls: list[str] = []
        self.client.meta.events.register("before-call.s3", lambda model, **_: self.calls.append(model.name))

    def fail(self, operation: str, failure: Callable[[], AWSResponse]) -> None:
        """Replace the request of an operation by what `failure` returns or raises."""
        self.client.meta.events.register(f"before-send.s3.{operation}", lambda **_: failure())

    def objects(self) -> dict[str, bytes]:
        client = self.server.client
        keys = [found["Key"] for found in client.list_objects_v2(Bucket=self.name).get("Contents", [])]
        return {key: client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in keys}

    def uploads(self) -> list[str]:
        """The keys of the unfinished multipart uploads."""
        return [
            found["Key"] for found in self.server.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        ]


def refuse(status: int, code: str) -> Callable[[], AWSResponse]:
    body = f"<Error><Code>{code}</Code><Message>no, at https://bucket.example/secret-key</Message></Error>".encode()
    return lambda: response(status, body)


def response(status: int, body: bytes) -> AWSResponse:
    raw: Any = BytesIO(body)
    raw.stream = lambda **_: iter([body])
    return AWSResponse("https://bucket.example/secret-key", status, {}, raw)


def break_connection() -> AWSResponse:
    raise ConnectionResetError


@pytest.fixture
def bucket(s3_bucket: str, s3_server: S3Server) -> Bucket:
    return Bucket(s3_bucket, s3_server)


@pytest.fixture
def storage(bucket: Bucket) -> S3Storage:
    return S3Storage(bucket.name, "library", client=bucket.client)


def put(storage: S3Storage, key: str, data: bytes) -> None:
    with storage.open_writer(key) as writer:
        writer.write(data)
        writer.commit()


def read(storage: S3Storage, key: str) -> bytes:
    with storage.open_reader(key) as chunks:
        return b"".join(chunks)


def test_a_small_file_is_one_request(storage: S3Storage, bucket: Bucket) -> None:
    put(storage, KEY, b"abc")
    assert bucket.calls == ["PutObject"]
    assert bucket.objects() == {"library/job-1/model_1": b"abc"}


@pytest.mark.parametrize("prefix", ["", "a/b"])
def test_keys_are_below_the_prefix(bucket: Bucket, prefix: str) -> None:
    put(S3Storage(bucket.name, prefix, client=bucket.client), KEY, b"abc")
    assert list(bucket.objects()) == [f"{prefix}/{KEY}".removeprefix("/")]


def test_an_absent_file_is_not_found_but_an_absent_bucket_is_a_failure(storage: S3Storage, bucket: Bucket) -> None:
    with pytest.raises(FileNotFoundError), storage.open_reader(KEY):
        pytest.fail("the block was entered")
    bucket.server.client.delete_bucket(Bucket=bucket.name)
    with pytest.raises(StorageUnavailableError), storage.open_reader(KEY):
        pytest.fail("the block was entered")
    with pytest.raises(StorageUnavailableError, match="NoSuchBucket"):
        list(storage.files())
    with pytest.raises(StorageUnavailableError):
        storage.ping()


@pytest.mark.parametrize("size", [3, PART_BYTES + 10])
def test_a_bucket_that_is_deleted_during_a_write_is_a_failure_of_the_storage(
    storage: S3Storage, bucket: Bucket, size: int
) -> None:
    with storage.open_writer(KEY) as writer:
        writer.write(bytes(size))
        for key in bucket.uploads():
            [found] = bucket.server.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
            bucket.server.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=found["UploadId"])
        bucket.server.client.delete_bucket(Bucket=bucket.name)
        with pytest.raises(StorageUnavailableError):
            writer.commit()


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"])
@pytest.mark.parametrize("failure", [refuse(503, "SlowDown"), break_connection])
def test_a_failing_write_is_a_failure_of_the_storage_and_leaves_nothing(
    storage: S3Storage, bucket: Bucket, operation: str, failure: Callable[[], AWSResponse]
) -> None:
    bucket.fail(operation, failure)
    with pytest.raises(StorageUnavailableError, match=r"SlowDown|ConnectionResetError") as caught:
        put(storage, KEY, bytes(10 if operation == "PutObject" else PART_BYTES + 10))
    assert operation in bucket.calls
    assert "secret-key" not in caught.value.reason
    assert (bucket.uploads(), bucket.objects()) == ([], {})


def test_an_abort_that_fails_does_not_hide_the_original_failure(storage: S3Storage, bucket: Bucket) -> None:
    bucket.fail("AbortMultipartUpload", refuse(500, "InternalError"))
    with storage.open_writer(KEY) as writer:
        writer.write(bytes(PART_BYTES))
    assert bucket.calls[-1] == "AbortMultipartUpload"
    assert bucket.uploads() == ["library/job-1/model_1"]


@pytest.mark.parametrize("operation", ["HeadObject", "GetObject"])
@pytest.mark.parametrize("failure", [refuse(403, "AccessDenied"), break_connection])
def test_a_failure_while_opening_is_a_failure_of_the_storage(
    storage: S3Storage, bucket: Bucket, operation: str, failure: Callable[[], AWSResponse]
) -> None:
    put(storage, KEY, b"abc")
    bucket.fail(operation, failure)
    with pytest.raises(StorageUnavailableError), storage.open_reader(KEY):
        pytest.fail("the block was entered")


def test_a_file_that_is_replaced_between_head_and_get_is_a_failure(storage: S3Storage, bucket: Bucket) -> None:
    """Its length would not be the expected one."""
    put(storage, KEY, b"abc")
    replace = {"Bucket": bucket.name, "Key": f"library/{KEY}", "Body": b"other"}
    bucket.client.meta.events.register(
        "before-send.s3.GetObject", lambda **_: bucket.server.client.put_object(**replace) and None
    )
    with pytest.raises(StorageUnavailableError, match="PreconditionFailed"):
        read(storage, KEY)


def test_a_body_that_ends_early_is_a_failure_and_not_a_short_read(storage: S3Storage, bucket: Bucket) -> None:
    put(storage, KEY, b"abc")
    bucket.fail("GetObject", lambda: response(206, b"ab"))
    with pytest.raises(StorageUnavailableError, match="early"):
        read(storage, KEY)


def test_a_malformed_key_is_refused_before_any_request(storage: S3Storage, bucket: Bucket) -> None:
    with pytest.raises(ValueError), storage.open_writer("../x"):
        pass
    with pytest.raises(ValueError), storage.open_reader("../x"):
        pass
    with pytest.raises(ValueError):
        storage.delete("../x")
    assert bucket.calls == []


@pytest.fixture(scope="module")
def paging_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose listings have two entries a page."""
    with S3Server(tmp_path_factory.mktemp("s3") / "s3.log", max_keys=2) as server:
        yield server


def test_files_are_listed_over_all_pages_without_foreign_objects(
    paging_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in paging_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = Bucket(paging_server.create_bucket(), paging_server)
    storage = S3Storage(bucket.name, "library", client=bucket.client)
    for key in ("a", "b/1", "b/2", "c", "d"):
        put(storage, key, key.encode())
    for stranger in ("library/read me.txt", "elsewhere/a"):
        paging_server.client.put_object(Bucket=bucket.name, Key=stranger, Body=b"not ours")
    found = list(storage.files())
    assert [(file.key, file.size) for file in found] == [("a", 1), ("b/1", 3), ("b/2", 3), ("c", 1), ("d", 1)]
    assert bucket.calls.count("ListObjectsV2") == 3


def list_uploads_as(bucket: Bucket, begun: dict[str, datetime]) -> None:
    """List uploads with these times and one a page. The server has no times and lists all on one page."""
    asked: list[str] = []

    def ask(params: dict[str, Any], **_: Any) -> None:
        asked.append(params["query_string"].get("key-marker", ""))

    def cut(parsed: dict[str, Any], **_: Any) -> None:
        uploads = sorted(parsed.get("Uploads", []), key=lambda upload: str(upload["Key"]))
        following = [upload for upload in uploads if upload["Key"] > asked[-1]]
        page = [{**upload, "Initiated": begun[upload["Key"]]} for upload in following[:1]]
        parsed |= {"Uploads": page, "IsTruncated": len(following) > 1}
        if page:
            parsed |= {"NextKeyMarker": page[0]["Key"], "NextUploadIdMarker": page[0]["UploadId"]}

    bucket.client.meta.events.register("before-call.s3.ListMultipartUploads", ask)
    bucket.client.meta.events.register("after-call.s3.ListMultipartUploads", cut)


def test_only_uploads_older_than_a_day_and_not_in_use_are_aborted(bucket: Bucket) -> None:
    """S3 does not report when a part was last sent. An upload whose name is not a key is not ours."""
    now = datetime.now(UTC)
    ages = {"a": 0, "b": 3600, "c": MIN_STALE_SECONDS, "d": MIN_STALE_SECONDS + 1, "e": MIN_STALE_SECONDS * 2}
    ages |= {"in-use": MIN_STALE_SECONDS * 3, "stranger's.zip": MIN_STALE_SECONDS * 3}
    begun = {f"library/{key}": now - timedelta(seconds=age) for key, age in ages.items()}
    for key in [*begun, "elsewhere/9"]:
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    list_uploads_as(bucket, begun)
    storage = S3Storage(bucket.name, "library", client=bucket.client, clock=lambda: now)
    assert storage.remove_stale_temporaries(older_than_seconds=3600, is_in_use=lambda key: key == "in-use") == 2
    left = ["elsewhere/9", *(f"library/{key}" for key in ("a", "b", "c", "in-use", "stranger's.zip"))]
    assert sorted(bucket.uploads()) == left


def test_without_boto3_the_failure_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    for module in ("app.library.s3", "app.library.s3_client"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(RuntimeError, match=r"requirements-s3\.txt"):
        open_storage("s3://bucket")
