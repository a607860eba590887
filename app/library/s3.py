"""Files by key in a bucket: the storage for several hosts. Needs boto3, an extra (`requirements-s3.txt`).

Implements what `LocalStorage` does, on Amazon S3 or what speaks like it (`AWS_ENDPOINT_URL`). Credentials, region and
endpoint are found the way boto3 finds them everywhere; this module takes none. The rights it needs are those to get,
put, delete and list objects, to list the bucket, and to list and abort multipart uploads.

A small file is one PUT, a larger one a multipart upload; neither is visible before it is whole. boto3's own transfer
code is deliberately not used for writing: it reads from a file or a pool of threads, and here bytes are pushed, one
part at a time. It copies objects, though: S3 cannot rename them, and large ones have to be copied in parts.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog

from app.errors import StorageUnavailableError
from app.library.storage import (
    LIBRARY_ID_NAME,
    MAX_CHUNK_BYTES,
    QUARANTINE,
    QuarantinedFile,
    StoredFile,
    check_key,
    check_range,
    quarantine_name,
    range_end,
    read_quarantine_name,
)

#: S3 takes parts of 5 MiB and more, and 10,000 of them: files of up to 78 GiB, with one part held in memory.
PART_BYTES = 8 * 1024 * 1024

#: An upload says when it was begun, not when it was last written to; younger ones may be slow rather than dead.
MIN_STALE_SECONDS = 86_400.0

#: The object that `ping` writes, and for how long a write that went well is not repeated.
PROBE_NAME = ".write-probe"
PROBE_EVERY_SECONDS = 60.0

_log = structlog.get_logger(__name__)


class S3Client(Protocol):
    """The part of a boto3 client that is used, all by keyword."""

    def abort_multipart_upload(self, **request: Any) -> Any: ...
    def complete_multipart_upload(self, **request: Any) -> Any: ...
    def copy(self, **request: Any) -> Any: ...
    def create_multipart_upload(self, **request: Any) -> Any: ...
    def delete_object(self, **request: Any) -> Any: ...
    def get_object(self, **request: Any) -> Any: ...
    def head_bucket(self, **request: Any) -> Any: ...
    def head_object(self, **request: Any) -> Any: ...
    def list_multipart_uploads(self, **request: Any) -> Any: ...
    def list_objects_v2(self, **request: Any) -> Any: ...
    def put_object(self, **request: Any) -> Any: ...
    def upload_part(self, **request: Any) -> Any: ...


class S3Storage:
    """Files in one bucket under a prefix. Thread-safe, but for a single writer; to be made after the fork.

    Every method raises ValueError for a malformed key, and StorageUnavailableError when the bucket fails, after the
    client's own bounded retries.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        client: S3Client | None = None,
        deadline_seconds: float = 60.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep files in `bucket` under `prefix/`. Connects to nothing.

        A bucket that hangs fails a call in less than half of `deadline_seconds`, unless another `client` is given.
        Raises RuntimeError if boto3 is not installed.
        """
        try:
            from app.library.s3_client import FAILURES, make_client  # noqa: PLC0415 - boto3 is an extra
        except ModuleNotFoundError:
            raise RuntimeError(
                "an s3:// storage needs boto3: pip install --require-hashes -r requirements-s3.txt"
            ) from None
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client: S3Client = make_client(deadline_seconds) if client is None else client
        # OSError too: what happens below botocore comes through it in more than one form.
        self._failures: tuple[type[Exception], ...] = (OSError, *FAILURES)
        self._clock = clock
        self._monotonic = monotonic
        self._written_at: float | None = None

    @contextmanager
    def open_writer(self, key: str) -> Iterator["S3Writer"]:
        """Begin a file. Leaving the block without `commit` removes what was sent."""
        writer = S3Writer(self._call, self._client, self._object(key))
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def open_reader(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[Iterator[bytes]]:
        """Read `length` bytes (None: all that follow) from `start`, in chunks of at most 1 MiB.

        On entering the block raises FileNotFoundError if there is no such file, and StorageUnavailableError if it is
        shorter than the range.
        """
        check_range(start, length)
        target = self._object(key)
        head = self._head(key, target)
        end = range_end(int(head["ContentLength"]), start, length)
        if start == end:
            # A range header cannot ask for nothing.
            yield iter(())
            return
        # If-Match: the bytes must be of the object whose length was just looked at.
        answer = self._call(self._client.get_object, **target, Range=f"bytes={start}-{end - 1}", IfMatch=head["ETag"])
        body = answer["Body"]
        try:
            yield self._chunks(body, end - start)
        finally:
            with suppress(*self._failures):
                body.close()

    def delete(self, key: str) -> None:
        """Remove a file; without one, do nothing."""
        self._call(self._client.delete_object, **self._object(key))

    def ping(self) -> None:
        """Return if the bucket is there and takes a write. It writes at most once a minute: each write costs money.

        A write that failed is repeated by the next call.
        """
        self._require_bucket()
        now = self._monotonic()
        if self._written_at is None or now - self._written_at >= PROBE_EVERY_SECONDS:
            self._call(self._client.put_object, Bucket=self._bucket, Key=self._prefix + PROBE_NAME, Body=b"")
            self._written_at = now

    def _require_bucket(self) -> None:
        self._call(self._client.head_bucket, Bucket=self._bucket)

    def library_id(self) -> str | None:
        """The id under the prefix; None if there is none."""
        target = {"Bucket": self._bucket, "Key": self._prefix + LIBRARY_ID_NAME}
        try:
            answer = self._client.get_object(**target)
        except self._failures as error:
            if _status(error) != 404:
                raise _unavailable(error) from error
            self._require_bucket()  # a missing bucket is a failure, and not a storage without an id
            return None
        return bytes(self._call(answer["Body"].read)).decode("ascii", "replace").strip()

    def write_library_id(self, library_id: str) -> None:
        """Keep the id, in place of another one. No conditional request: not every store has them."""
        self._call(
            self._client.put_object,
            Bucket=self._bucket,
            Key=self._prefix + LIBRARY_ID_NAME,
            Body=library_id.encode(),
        )

    def files(self) -> Iterator[StoredFile]:
        """All files that are there, by key. What cannot be a key of ours is passed over."""
        for name, entry in self._list(""):
            with suppress(ValueError):
                check_key(name)
                yield StoredFile(name, int(entry["Size"]), entry["LastModified"].astimezone(UTC))

    def quarantine(self, key: str, at: datetime) -> None:
        """Move a file out of the library; without one, do nothing."""
        self._move(self._prefix + key, self._prefix + quarantine_name(key, at))

    def quarantined(self) -> Iterator[QuarantinedFile]:
        """All files in quarantine, by time and key."""
        for name, entry in self._list(f"{QUARANTINE}/"):
            with suppress(ValueError):
                at, key = read_quarantine_name(name)
                yield QuarantinedFile(key, int(entry["Size"]), at)

    def restore(self, file: QuarantinedFile) -> bool:
        """Move a file back from quarantine. False, and nothing changes, if the library has a file of this key."""
        try:
            self._head(file.key, self._object(file.key))
        except FileNotFoundError:
            return self._move(self._prefix + quarantine_name(file.key, file.quarantined_at), self._prefix + file.key)
        return False

    def remove_quarantined(self, file: QuarantinedFile) -> None:
        """Remove a file from quarantine for good; without one, do nothing."""
        name = self._prefix + quarantine_name(file.key, file.quarantined_at)
        self._call(self._client.delete_object, Bucket=self._bucket, Key=name)

    def remove_stale_temporaries(self, *, older_than_seconds: float, is_in_use: Callable[[str], bool]) -> int:
        """Abort the multipart uploads that were begun that long ago, but at least a day, and are not in use; how many.

        What cannot be a key of ours is passed over.
        """
        limit = self._clock() - timedelta(seconds=max(older_than_seconds, MIN_STALE_SECONDS))
        removed = 0
        request: dict[str, str] = {}
        while True:
            page = self._call(self._client.list_multipart_uploads, Bucket=self._bucket, Prefix=self._prefix, **request)
            for upload in page.get("Uploads", ()):
                if upload["Initiated"] < limit and self._is_abandoned(upload["Key"], is_in_use):
                    self._call(
                        self._client.abort_multipart_upload,
                        Bucket=self._bucket,
                        Key=upload["Key"],
                        UploadId=upload["UploadId"],
                    )
                    removed += 1
            if not page.get("IsTruncated"):
                return removed
            request = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _is_abandoned(self, object_key: str, is_in_use: Callable[[str], bool]) -> bool:
        key = object_key.removeprefix(self._prefix)
        try:
            check_key(key)
        except ValueError:
            return False
        return not is_in_use(key)

    def _list(self, below: str) -> Iterator[tuple[str, Any]]:
        """The objects whose name begins so, with the name below our prefix."""
        request: dict[str, str] = {}
        while True:
            page = self._call(self._client.list_objects_v2, Bucket=self._bucket, Prefix=self._prefix + below, **request)
            for entry in page.get("Contents", ()):
                yield str(entry["Key"]).removeprefix(self._prefix), entry
            if not page.get("IsTruncated"):
                return
            request = {"ContinuationToken": page["NextContinuationToken"]}

    def _move(self, source: str, target: str) -> bool:
        """Copy an object, then remove the original; False if there is none. A crash in between leaves both."""
        try:
            self._client.copy(CopySource={"Bucket": self._bucket, "Key": source}, Bucket=self._bucket, Key=target)
        except self._failures as error:
            if _status(error) != 404:
                raise _unavailable(error) from error
            self._require_bucket()
            return False
        self._call(self._client.delete_object, Bucket=self._bucket, Key=source)
        return True

    def _object(self, key: str) -> dict[str, str]:
        check_key(key)
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _head(self, key: str, target: dict[str, str]) -> Any:
        try:
            return self._client.head_object(**target)
        except self._failures as error:
            if _status(error) != 404:
                raise _unavailable(error) from error
        # A bucket that is not there says 404 as well, and must never be taken for one from which all files are gone:
        # a sweep would remove their records.
        self._require_bucket()
        raise FileNotFoundError(2, "no such file", key)

    def _chunks(self, body: Any, length: int) -> Iterator[bytes]:
        while length:
            chunk: bytes = self._call(body.read, min(MAX_CHUNK_BYTES, length))
            if not chunk:
                raise StorageUnavailableError("the bucket sent less than it promised")
            length -= len(chunk)
            yield chunk

    def _call(self, function: Callable[..., Any], *arguments: Any, **request: Any) -> Any:
        """Call the client, turning its failures into ours. Never around a caller's code."""
        try:
            return function(*arguments, **request)
        except self._failures as error:
            raise _unavailable(error) from error


class S3Writer:
    """A file in the making; made by `S3Storage.open_writer`. For one thread at a time.

    Every method raises StorageUnavailableError when the bucket fails, and ValueError once the writer is done.
    """

    def __init__(self, call: Callable[..., Any], client: S3Client, target: dict[str, str]) -> None:
        self._call = call
        self._client = client
        self._target = target
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._is_done = False

    def write(self, data: bytes) -> None:
        """Append bytes. Every 8 MiB are sent, which takes as long as it takes."""
        self._check_open()
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            self._send_part(PART_BYTES)

    def commit(self) -> None:
        """Make the file durable and visible. Where this raises, the file may be there or not; without a record the
        sweep removes it.
        """
        self._check_open()
        if self._upload_id is None:
            self._call(self._client.put_object, **self._target, Body=bytes(self._buffer))
        else:
            if self._buffer:
                self._send_part(len(self._buffer))
            self._call(
                self._client.complete_multipart_upload,
                **self._target,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
            )
        self._upload_id = None
        self._is_done = True

    def close(self) -> None:
        """Let go of the file, and remove what was sent unless it was committed. Raises nothing."""
        self._is_done = True
        self._buffer = bytearray()
        if self._upload_id is None:
            return
        try:
            self._call(self._client.abort_multipart_upload, **self._target, UploadId=self._upload_id)
        except StorageUnavailableError as error:
            # The parts cost money until the sweep, or the bucket's own rule for unfinished uploads, finds them.
            _log.warning("storage.abort_failed", reason=error.reason)
        self._upload_id = None

    def _send_part(self, size: int) -> None:
        if self._upload_id is None:
            self._upload_id = str(self._call(self._client.create_multipart_upload, **self._target)["UploadId"])
        number = len(self._parts) + 1
        with memoryview(self._buffer) as view:
            part = bytes(view[:size])
        del self._buffer[:size]
        answer = self._call(
            self._client.upload_part, **self._target, UploadId=self._upload_id, PartNumber=number, Body=part
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def _check_open(self) -> None:
        if self._is_done:
            raise ValueError("the file is committed or closed")


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    return status if isinstance(status, int) else None


def _unavailable(error: Exception) -> StorageUnavailableError:
    # The messages of botocore hold addresses and keys; class and code are what an operator looks up.
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return StorageUnavailableError(f"{type(error).__name__} {code or ''}".strip()[:200])
