"""Files in a bucket: the storage for several hosts. Needs boto3, an extra (`requirements-s3.txt`).

For Amazon S3 and compatible stores (`AWS_ENDPOINT_URL`). boto3 finds credentials, region and endpoint in the usual
way. It needs the rights to get, put, delete and list objects, to list the bucket, and to list and abort multipart
uploads.

A small file is one PUT, a larger one a multipart upload; neither is visible before it is complete. boto3's own upload
code reads from a file or uses a pool of threads, so it is not used here, where bytes arrive one part at a time.
"""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from app.errors import StorageUnavailableError
from app.library.s3_client import FAILURES, make_client
from app.library.storage import FileStorage, FileWriter, StoredFile, is_key, range_end, read_chunks

#: S3 takes up to 10,000 parts of at least 5 MiB: files of up to 78 GiB, with one part held in memory.
PART_BYTES = 8 * 1024 * 1024

#: An upload says when it began, not when it was last written to: a younger one may just be slow.
MIN_STALE_SECONDS = 86_400.0

#: The object that `ping` writes, and how long a successful write is not repeated.
PROBE_NAME = ".write-probe"
PROBE_EVERY_SECONDS = 60.0

# What happens below botocore can come through it as an OSError.
_FAILURES: tuple[type[Exception], ...] = (OSError, *FAILURES)

log = structlog.get_logger(__name__)


class S3Storage(FileStorage):
    """Files in one bucket under a prefix. Make it after the fork.

    A call fails when the bucket does, after the client's own bounded retries.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        client: Any = None,
        deadline_seconds: float = 60.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store files in `bucket` under `prefix/`. Connects to nothing.

        If the bucket hangs, a call fails in less than half of `deadline_seconds`, unless another `client` is given.
        """
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self._client = client or make_client(deadline_seconds)
        self._clock = clock
        self._monotonic = monotonic
        self._written_at: float | None = None

    def ping(self) -> None:
        """Return if the bucket is there and can be written to.

        Writes at most once a minute, because each write costs money. A write that failed is repeated by the next call.
        """
        self._require_bucket()
        now = self._monotonic()
        if self._written_at is None or now - self._written_at >= PROBE_EVERY_SECONDS:
            _call(self._client.put_object, **self._object(PROBE_NAME), Body=b"")
            self._written_at = now

    def remove_stale_temporaries(self, *, older_than_seconds: float, is_in_use: Callable[[str], bool]) -> int:
        """Abort the multipart uploads that are older than that, and than a day, and not in use. Return how many.

        Uploads whose name is not a key are passed over: they are not ours.
        """
        limit = self._clock() - timedelta(seconds=max(older_than_seconds, MIN_STALE_SECONDS))
        removed = 0
        for page in self._pages("list_multipart_uploads", ""):
            for upload in page.get("Uploads", ()):
                name = upload["Key"].removeprefix(self._prefix)
                if upload["Initiated"] < limit and is_key(name) and not is_in_use(name):
                    _call(self._client.abort_multipart_upload, **self._object(name), UploadId=upload["UploadId"])
                    removed += 1
        return removed

    def _begin(self, name: str) -> "S3Writer":
        return S3Writer(self._client, self._object(name))

    @contextmanager
    def _read(self, name: str, start: int = 0, length: int | None = None) -> Iterator[Iterator[bytes]]:
        target = self._object(name)
        head = self._call_for_object(self._client.head_object, **target)
        end = range_end(int(head["ContentLength"]), start, length)
        if start == end:
            # A range header cannot ask for nothing.
            yield iter(())
            return
        # If-Match: the bytes must be those of the object whose length was read.
        response = _call(self._client.get_object, **target, Range=f"bytes={start}-{end - 1}", IfMatch=head["ETag"])
        body = response["Body"]
        try:
            yield read_chunks(lambda size: _call(body.read, size), end - start)
        finally:
            with suppress(*_FAILURES):
                body.close()

    def _remove(self, name: str) -> None:
        _call(self._client.delete_object, **self._object(name))

    def _move(self, source: str, target: str) -> bool:
        # S3 cannot rename. A crash between the two calls leaves both objects. `copy` copies large objects in parts.
        try:
            self._call_for_object(self._client.copy, CopySource=self._object(source), **self._object(target))
        except FileNotFoundError:
            return False
        self._remove(source)
        return True

    def _list(self, prefix: str) -> Iterator[StoredFile]:
        for page in self._pages("list_objects_v2", prefix):
            for entry in page.get("Contents", ()):
                name = entry["Key"].removeprefix(self._prefix)
                yield StoredFile(name, int(entry["Size"]), entry["LastModified"].astimezone(UTC))

    def _pages(self, operation: str, prefix: str) -> Iterator[Any]:
        paginator = self._client.get_paginator(operation)
        pages = iter(paginator.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix))
        while (page := _call(next, pages, None)) is not None:
            yield page

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    def _require_bucket(self) -> None:
        _call(self._client.head_bucket, Bucket=self._bucket)

    def _call_for_object(self, function: Callable[..., Any], **request: Any) -> Any:
        """Call the client. Raises FileNotFoundError if the bucket is there and has no such object."""
        try:
            return function(**request)
        except _FAILURES as error:
            if _details(error).get("ResponseMetadata", {}).get("HTTPStatusCode") != 404:
                raise _unavailable(error) from error
        # A missing bucket is a 404 as well. It must not look like one that has lost all its files.
        self._require_bucket()
        raise FileNotFoundError(errno.ENOENT, "no such object")


class S3Writer(FileWriter):
    """A file in the making, in a bucket."""

    def __init__(self, client: Any, target: dict[str, str]) -> None:
        self._client = client
        self._target = target
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._is_done = False

    def write(self, data: bytes) -> None:
        """Append bytes. Sends a part for every 8 MiB."""
        self._require_open()
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            self._send_part(PART_BYTES)

    def commit(self) -> None:
        """Make the file durable and visible."""
        self._require_open()
        if self._upload_id is None:
            _call(self._client.put_object, **self._target, Body=bytes(self._buffer))
        else:
            if self._buffer:
                self._send_part(len(self._buffer))
            _call(
                self._client.complete_multipart_upload,
                **self._target,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
            )
        self._upload_id = None
        self._is_done = True

    def close(self) -> None:
        """Remove what was sent unless it was committed."""
        self._is_done = True
        self._buffer = bytearray()
        if self._upload_id is None:
            return
        try:
            _call(self._client.abort_multipart_upload, **self._target, UploadId=self._upload_id)
        except StorageUnavailableError as error:
            # The parts cost money until the sweep, or the bucket's rule for unfinished uploads, removes them.
            log.warning("storage.abort_failed", reason=error.reason)
        self._upload_id = None

    def _send_part(self, size: int) -> None:
        if self._upload_id is None:
            self._upload_id = str(_call(self._client.create_multipart_upload, **self._target)["UploadId"])
        number = len(self._parts) + 1
        with memoryview(self._buffer) as view:
            part = bytes(view[:size])
        del self._buffer[:size]
        response = _call(
            self._client.upload_part, **self._target, UploadId=self._upload_id, PartNumber=number, Body=part
        )
        self._parts.append({"PartNumber": number, "ETag": response["ETag"]})

    def _require_open(self) -> None:
        if self._is_done:
            raise ValueError("the file is committed or closed")


def _call(function: Callable[..., Any], *arguments: Any, **request: Any) -> Any:
    """Call the client and turn its failures into StorageUnavailableError. Never used around a caller's code."""
    try:
        return function(*arguments, **request)
    except _FAILURES as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> StorageUnavailableError:
    # The messages of botocore hold addresses and keys; class and code are what an operator looks up.
    code = _details(error).get("Error", {}).get("Code")
    return StorageUnavailableError(f"{type(error).__name__} {code or ''}".strip()[:200])


def _details(error: Exception) -> dict[str, Any]:
    """Return what the store said, in botocore's form."""
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}
