"""The bucket storage against a client that behaves like S3 in memory: what is asked of it, and how it fails."""

import sys
from datetime import UTC, datetime, timedelta
from io import BytesIO
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from app.config import WORKER_THREADS
from app.errors import StorageUnavailableError
from app.library.s3 import MIN_STALE_SECONDS, PART_BYTES, S3Storage
from app.library.storage import MAX_CHUNK_BYTES
from app.library.storage_urls import open_storage

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = "job-1/model_1"


class FakeClientError(Exception):
    """Has what botocore's ClientError has: a response with a status and a code, and an address in its message."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{code} at https://bucket.example/secret-key")
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


class FakeS3:
    """A bucket in memory; pages hold two entries. `failing` names the operations that fail, `calls` lists all."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.truncated_bodies = False

    def _enter(self, operation: str) -> None:
        self.calls.append(operation)
        if operation in self.failing:
            raise self.failing[operation]

    def head_bucket(self, *, Bucket: str) -> None:  # noqa: N803
        self._enter("head_bucket")

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        self._enter("head_object")
        if Key not in self.objects:
            raise FakeClientError(404, "404")
        return {"ContentLength": len(self.objects[Key]), "ETag": f'"{hash(self.objects[Key])}"'}

    def get_object(self, *, Bucket: str, Key: str, Range: str, IfMatch: str) -> dict[str, Any]:  # noqa: N803
        self._enter("get_object")
        data = self.objects[Key]
        if f'"{hash(data)}"' != IfMatch:
            raise FakeClientError(412, "PreconditionFailed")
        first, last = (int(number) for number in Range.removeprefix("bytes=").split("-"))
        return {"Body": BytesIO(data[first : last if self.truncated_bodies else last + 1])}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803
        self._enter("put_object")
        self.objects[Key] = Body

    def delete_object(self, *, Bucket: str, Key: str) -> None:  # noqa: N803
        self._enter("delete_object")
        self.objects.pop(Key, None)

    def create_multipart_upload(self, *, Bucket: str, Key: str) -> dict[str, str]:  # noqa: N803
        self._enter("create_multipart_upload")
        upload_id = uuid4().hex
        self.uploads[upload_id] = {"Key": Key, "UploadId": upload_id, "Initiated": NOW, "parts": {}}
        return {"UploadId": upload_id}

    def upload_part(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        UploadId: str,  # noqa: N803
        PartNumber: int,  # noqa: N803
        Body: bytes,  # noqa: N803
    ) -> dict[str, str]:
        self._enter("upload_part")
        self.uploads[UploadId]["parts"][PartNumber] = Body
        return {"ETag": f"etag-{PartNumber}"}

    def complete_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str, MultipartUpload: Any) -> None:  # noqa: N803
        self._enter("complete_multipart_upload")
        parts = self.uploads.pop(UploadId)["parts"]
        named = MultipartUpload["Parts"]
        assert [part["ETag"] for part in named] == [f"etag-{part['PartNumber']}" for part in named]
        assert sorted(parts) == [part["PartNumber"] for part in named]
        assert all(len(parts[number]) >= 5 * 1024 * 1024 for number in sorted(parts)[:-1])
        self.objects[Key] = b"".join(parts[number] for number in sorted(parts))

    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> None:  # noqa: N803
        self._enter("abort_multipart_upload")
        assert self.uploads.pop(UploadId)["Key"] == Key

    def list_objects_v2(self, *, Bucket: str, Prefix: str, ContinuationToken: str = "") -> dict[str, Any]:  # noqa: N803
        self._enter("list_objects_v2")
        keys = sorted(key for key in self.objects if key.startswith(Prefix) and key > ContinuationToken)
        page = [{"Key": key, "Size": len(self.objects[key]), "LastModified": NOW} for key in keys[:2]]
        more = {"IsTruncated": len(keys) > 2, "NextContinuationToken": keys[1] if len(keys) > 1 else ""}
        return {"Contents": page, **more} if page else {"IsTruncated": False}

    def list_multipart_uploads(
        self,
        *,
        Bucket: str,  # noqa: N803
        Prefix: str,  # noqa: N803
        KeyMarker: str = "",  # noqa: N803
        UploadIdMarker: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        self._enter("list_multipart_uploads")
        found = sorted(
            (upload for upload in self.uploads.values() if upload["Key"].startswith(Prefix)),
            key=lambda upload: (upload["Key"], upload["UploadId"]),
        )
        found = [upload for upload in found if (upload["Key"], upload["UploadId"]) > (KeyMarker, UploadIdMarker)]
        if len(found) <= 2:
            return {"Uploads": found, "IsTruncated": False}
        marker = {"NextKeyMarker": found[1]["Key"], "NextUploadIdMarker": found[1]["UploadId"]}
        return {"Uploads": found[:2], "IsTruncated": True, **marker}


@pytest.fixture
def s3() -> FakeS3:
    return FakeS3()


@pytest.fixture
def storage(s3: FakeS3) -> S3Storage:
    return S3Storage("bucket", "library", client=s3, failures=(FakeClientError,), clock=lambda: NOW)


def put(storage: S3Storage, key: str, data: bytes, chunk: int = 1_000_003) -> None:
    with storage.open_writer(key) as writer:
        for start in range(0, len(data), chunk):
            writer.write(data[start : start + chunk])
        writer.commit()


def read(storage: S3Storage, key: str, *, start: int = 0, length: int | None = None) -> list[bytes]:
    with storage.open_reader(key, start=start, length=length) as chunks:
        return list(chunks)


def test_a_small_file_is_one_request(storage: S3Storage, s3: FakeS3) -> None:
    put(storage, KEY, b"abc")
    assert s3.calls == ["put_object"]
    assert s3.objects == {"library/job-1/model_1": b"abc"}
    assert read(storage, KEY) == [b"abc"]


def test_an_empty_file_is_a_file(storage: S3Storage) -> None:
    put(storage, KEY, b"")
    assert read(storage, KEY) == []


@pytest.mark.parametrize("size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 5])
def test_a_larger_file_goes_in_parts_and_comes_back_in_bounded_chunks(
    storage: S3Storage, s3: FakeS3, size: int
) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    put(storage, KEY, data[:size])
    chunks = read(storage, KEY)
    assert b"".join(chunks) == data[:size]
    assert max(map(len, chunks)) <= MAX_CHUNK_BYTES
    assert s3.uploads == {}


@pytest.mark.parametrize(("start", "length"), [(0, 0), (0, 3), (2, 5), (9, None), (10, None), (10, 0)])
def test_a_range_gives_exactly_its_bytes(storage: S3Storage, start: int, length: int | None) -> None:
    put(storage, KEY, b"0123456789")
    end = 10 if length is None else start + length
    assert b"".join(read(storage, KEY, start=start, length=length)) == b"0123456789"[start:end]


@pytest.mark.parametrize(("start", "length"), [(11, None), (5, 6)])
def test_a_range_beyond_the_file_is_refused_whole(storage: S3Storage, start: int, length: int | None) -> None:
    put(storage, KEY, b"0123456789")
    with pytest.raises(StorageUnavailableError):
        read(storage, KEY, start=start, length=length)


def test_an_absent_file_is_not_found_but_an_absent_bucket_is_a_failure(storage: S3Storage, s3: FakeS3) -> None:
    with pytest.raises(FileNotFoundError), storage.open_reader(KEY):
        pytest.fail("the block was entered")
    s3.failing["head_bucket"] = FakeClientError(404, "404")
    with pytest.raises(StorageUnavailableError), storage.open_reader(KEY):
        pytest.fail("the block was entered")


def test_leaving_without_commit_aborts_the_upload(storage: S3Storage, s3: FakeS3) -> None:
    with storage.open_writer(KEY) as writer:
        writer.write(bytes(PART_BYTES))
        assert s3.uploads
    assert (s3.uploads, s3.objects) == ({}, {})


def test_an_exception_of_the_caller_aborts_and_passes_unchanged(storage: S3Storage, s3: FakeS3) -> None:
    def write_and_fail() -> None:
        with storage.open_writer(KEY) as writer:
            writer.write(bytes(PART_BYTES))
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        write_and_fail()
    assert (s3.uploads, s3.objects) == ({}, {})


@pytest.mark.parametrize(
    "operation", ["create_multipart_upload", "upload_part", "complete_multipart_upload", "put_object"]
)
@pytest.mark.parametrize("failure", [FakeClientError(503, "SlowDown"), ConnectionResetError()])
def test_whatever_fails_while_writing_is_our_storages_failure_and_leaves_nothing(
    storage: S3Storage, s3: FakeS3, operation: str, failure: Exception
) -> None:
    s3.failing[operation] = failure
    with pytest.raises(StorageUnavailableError) as caught:
        put(storage, KEY, bytes(10 if operation == "put_object" else PART_BYTES + 10))
    assert caught.value.__cause__ is failure
    assert "secret-key" not in caught.value.reason
    assert (s3.uploads, s3.objects) == ({}, {})


def test_an_abort_that_fails_does_not_hide_why_the_writer_was_left(storage: S3Storage, s3: FakeS3) -> None:
    s3.failing["abort_multipart_upload"] = FakeClientError(500, "InternalError")
    with storage.open_writer(KEY) as writer:
        writer.write(bytes(PART_BYTES))


@pytest.mark.parametrize("operation", ["head_object", "get_object"])
def test_whatever_fails_while_opening_is_our_storages_failure(storage: S3Storage, s3: FakeS3, operation: str) -> None:
    put(storage, KEY, b"abc")
    s3.failing[operation] = FakeClientError(403, "AccessDenied")
    with pytest.raises(StorageUnavailableError, match="AccessDenied"), storage.open_reader(KEY):
        pytest.fail("the block was entered")


def test_a_body_that_ends_early_is_a_failure_not_a_short_answer(storage: S3Storage, s3: FakeS3) -> None:
    put(storage, KEY, b"abc")
    s3.truncated_bodies = True
    with pytest.raises(StorageUnavailableError, match="less"):
        read(storage, KEY)


def test_a_writer_takes_nothing_more_once_it_is_committed_or_closed(storage: S3Storage) -> None:
    with storage.open_writer(KEY) as writer:
        writer.commit()
        with pytest.raises(ValueError):
            writer.write(b"late")
    with storage.open_writer(KEY) as abandoned:
        pass
    with pytest.raises(ValueError):
        abandoned.commit()


@pytest.mark.parametrize("key", ["", "../x", "a//b", "a/b/c/d/e"])
def test_a_malformed_key_is_refused_before_any_request(storage: S3Storage, s3: FakeS3, key: str) -> None:
    with pytest.raises(ValueError), storage.open_writer(key):
        pass
    with pytest.raises(ValueError), storage.open_reader(key):
        pass
    with pytest.raises(ValueError):
        storage.delete(key)
    assert s3.calls == []


def test_deleting_may_be_repeated(storage: S3Storage, s3: FakeS3) -> None:
    put(storage, KEY, b"abc")
    storage.delete(KEY)
    storage.delete(KEY)
    assert s3.objects == {}


def test_files_are_listed_over_all_pages_and_strangers_are_passed_over(storage: S3Storage, s3: FakeS3) -> None:
    for key in ("a", "b/1", "b/2", "c", "d"):
        put(storage, key, key.encode())
    s3.objects["library/read me.txt"] = b"not ours"
    s3.objects["elsewhere/a"] = b"not ours"
    found = list(storage.files())
    assert [(file.key, file.size) for file in found] == [("a", 1), ("b/1", 3), ("b/2", 3), ("c", 1), ("d", 1)]
    assert {file.modified_at for file in found} == {NOW}


def test_only_uploads_that_were_begun_more_than_a_day_ago_are_swept(storage: S3Storage, s3: FakeS3) -> None:
    ages = [0, 3600, MIN_STALE_SECONDS, MIN_STALE_SECONDS + 1, MIN_STALE_SECONDS * 2]
    for number, age in enumerate(ages):
        upload_id = s3.create_multipart_upload(Bucket="bucket", Key=f"library/{number}")["UploadId"]
        s3.uploads[upload_id]["Initiated"] = NOW - timedelta(seconds=age)
    assert storage.remove_stale_temporaries(older_than_seconds=3600) == 2
    assert {upload["Key"] for upload in s3.uploads.values()} == {"library/0", "library/1", "library/2"}


def test_ping_asks_for_the_bucket_and_tells_its_failure(storage: S3Storage, s3: FakeS3) -> None:
    storage.ping()
    s3.failing["head_bucket"] = FakeClientError(403, "403")
    with pytest.raises(StorageUnavailableError):
        storage.ping()


def test_a_bucket_needs_no_mark(storage: S3Storage) -> None:
    """One that is not there is a failure, and not an empty folder under something that was not mounted."""
    storage.mark()
    assert storage.is_marked()


@pytest.fixture
def boto3(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The names of boto3 that we use, and what was asked of it; the extra is not among what tests install."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def make(name: str, **members: Any) -> None:
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)

    def client(service: str, *, config: dict[str, Any]) -> FakeS3:
        asked.append((service, config))
        return FakeS3()

    make("boto3", client=client)
    make("botocore")
    make("botocore.config", Config=dict)
    make("botocore.exceptions", BotoCoreError=KeyError, ClientError=FakeClientError)
    return asked


def test_the_url_of_a_bucket_opens_it_with_bounds_on_every_call(boto3: list[tuple[str, dict[str, Any]]]) -> None:
    """botocore alone would wait a minute for a connection, five times."""
    storage = open_storage("s3://bucket/some/prefix/")
    storage.ping()
    [(service, config)] = boto3
    assert service == "s3"
    assert 0 < config["connect_timeout"] <= 10
    assert 0 < config["read_timeout"] <= 60
    assert 1 <= config["retries"]["total_max_attempts"] <= 5
    assert config["max_pool_connections"] >= WORKER_THREADS


@pytest.mark.parametrize("failure", [FakeClientError(500, "InternalError"), KeyError("BotoCoreError"), OSError()])
def test_whatever_boto3_raises_is_the_storages_failure(
    boto3: list[tuple[str, dict[str, Any]]], failure: Exception
) -> None:
    storage = open_storage("s3://bucket")
    client = FakeS3()
    client.failing["head_bucket"] = failure
    storage._client = client  # type: ignore[attr-defined]
    with pytest.raises(StorageUnavailableError):
        storage.ping()


def test_without_boto3_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(RuntimeError, match=r"requirements-s3\.txt"):
        open_storage("s3://bucket")
