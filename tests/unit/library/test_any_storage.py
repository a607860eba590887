"""What every storage does, in a folder and on an S3 server."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import StorageUnavailableError
from app.library.s3 import PART_BYTES, PROBE_NAME
from app.library.storage import MAX_CHUNK_BYTES, FileStorage
from app.library.storage_urls import open_storage

KEY = "model_1-job-1"
#: Keys of the present form, and of the form that older versions made.
KEYS = [KEY, "job-1/model_1"]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Backend:
    """A storage, and the names of everything in it, unfinished files included."""

    storage: FileStorage
    contents: Callable[[], set[str]]


@pytest.fixture(params=["folder", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "folder":
        root = tmp_path / "var" / "models"
        return Backend(open_storage(root.as_uri()), lambda: names_below(root))
    bucket = request.getfixturevalue("s3_bucket")
    client = request.getfixturevalue("s3_server").client
    return Backend(open_storage(f"s3://{bucket}/library"), lambda: names_in(client, bucket))


@pytest.fixture
def storage(backend: Backend) -> FileStorage:
    return backend.storage


def names_below(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def names_in(client: Any, bucket: str) -> set[str]:
    objects = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return {found["Key"].removeprefix("library/") for found in [*objects, *uploads]}


def put(storage: FileStorage, key: str, data: bytes) -> None:
    with storage.open_writer(key) as writer:
        for start in range(0, len(data), 1_000_003):
            writer.write(data[start : start + 1_000_003])
        writer.commit()


def read(storage: FileStorage, key: str, *, start: int = 0, length: int | None = None) -> bytes:
    with storage.open_reader(key, start=start, length=length) as chunks:
        return b"".join(chunks)


@pytest.mark.parametrize("size", [0, 1, 3 * MAX_CHUNK_BYTES + 17, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 5])
def test_a_committed_file_is_read_back_in_bounded_chunks(backend: Backend, size: int) -> None:
    data = os.urandom(size)
    put(backend.storage, KEY, data)
    with backend.storage.open_reader(KEY) as chunks:
        parts = list(chunks)
    assert b"".join(parts) == data
    assert max(map(len, parts), default=0) <= MAX_CHUNK_BYTES
    assert backend.contents() == {KEY}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(start=st.integers(0, 1000), length=st.none() | st.integers(0, 1000))
def test_a_range_returns_exactly_its_bytes_or_fails(storage: FileStorage, start: int, length: int | None) -> None:
    data = bytes(range(256)) * 2
    put(storage, KEY, data)
    end = len(data) if length is None else start + length
    if start <= end <= len(data):
        assert read(storage, KEY, start=start, length=length) == data[start:end]
    else:
        with pytest.raises(StorageUnavailableError):
            read(storage, KEY, start=start, length=length)


@pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1)])
def test_a_negative_range_is_a_value_error(storage: FileStorage, start: int, length: int | None) -> None:
    put(storage, KEY, b"abc")
    with pytest.raises(ValueError):
        read(storage, KEY, start=start, length=length)


@pytest.mark.parametrize("key", ["absent", "job-1/absent", "job-2/absent"])
def test_reading_an_absent_file_raises_file_not_found_on_entering_the_block(storage: FileStorage, key: str) -> None:
    put(storage, KEY, b"abc")
    put(storage, "job-1/model_1", b"abc")
    with pytest.raises(FileNotFoundError), storage.open_reader(key):
        pytest.fail("the block was entered")


@pytest.mark.parametrize("size", [3, PART_BYTES])
def test_nothing_is_visible_before_the_commit(storage: FileStorage, size: int) -> None:
    with storage.open_writer(KEY) as writer:
        writer.write(bytes(size))
        assert list(storage.files()) == []
        with pytest.raises(FileNotFoundError), storage.open_reader(KEY):
            pass
        writer.commit()
        assert read(storage, KEY) == bytes(size)


@pytest.mark.parametrize("size", [3, PART_BYTES])
def test_leaving_without_commit_leaves_nothing(backend: Backend, size: int) -> None:
    with backend.storage.open_writer(KEY) as writer:
        writer.write(bytes(size))
    assert backend.contents() == set()


@pytest.mark.parametrize("size", [3, PART_BYTES])
def test_an_exception_of_the_caller_leaves_nothing_and_passes_unchanged(backend: Backend, size: int) -> None:
    """The exceptions of `requests` are OSErrors too, and must not become failures of the storage."""

    def write_and_fail() -> None:
        with backend.storage.open_writer(KEY) as writer:
            writer.write(bytes(size))
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        write_and_fail()
    assert backend.contents() == set()
    put(backend.storage, KEY, b"abc")
    with pytest.raises(ConnectionResetError), backend.storage.open_reader(KEY):
        raise ConnectionResetError


def test_only_a_committed_writer_replaces_an_existing_file(storage: FileStorage) -> None:
    put(storage, KEY, b"old")
    with storage.open_writer(KEY) as writer:
        writer.write(bytes(PART_BYTES))
    assert read(storage, KEY) == b"old"
    put(storage, KEY, b"new")
    assert read(storage, KEY) == b"new"


@pytest.mark.parametrize("key", KEYS)
def test_a_reader_reads_a_file_to_its_end_even_if_it_is_deleted_meanwhile(storage: FileStorage, key: str) -> None:
    put(storage, key, b"abc")
    with storage.open_reader(key) as chunks:
        storage.delete(key)
        assert b"".join(chunks) == b"abc"


def test_a_writer_that_is_committed_or_closed_raises_value_error(storage: FileStorage) -> None:
    with storage.open_writer(KEY) as writer:
        writer.commit()
        with pytest.raises(ValueError):
            writer.write(b"late")
        with pytest.raises(ValueError):
            writer.commit()
    with storage.open_writer(KEY) as abandoned:
        pass
    with pytest.raises(ValueError):
        abandoned.write(b"late")
    with pytest.raises(ValueError):
        abandoned.commit()
    assert read(storage, KEY) == b""


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "a/../b",
        ".tmp/x",
        "a b",
        "a\n",
        "模型",
        "a\0",
        "a" * 201,
        "a/b/c",
        "a+b",
    ],
)
def test_every_method_refuses_a_key_that_could_lead_elsewhere(backend: Backend, key: str) -> None:
    with pytest.raises(ValueError), backend.storage.open_writer(key):
        pass
    with pytest.raises(ValueError), backend.storage.open_reader(key):
        pass
    with pytest.raises(ValueError):
        backend.storage.delete(key)
    assert backend.contents() == set()


def test_deleting_removes_one_file_and_may_be_repeated(backend: Backend) -> None:
    put(backend.storage, "a/b", b"1")
    put(backend.storage, "a/c", b"2")
    put(backend.storage, "d", b"3")
    put(backend.storage, "e", b"4")
    for key in ("a/c", "a/c", "d", "d", "absent", "f/absent"):
        backend.storage.delete(key)
    assert backend.contents() == {"a/b", "e"}
    assert read(backend.storage, "a/b") == b"1"


def test_ping_leaves_no_file_of_the_library(backend: Backend) -> None:
    backend.storage.ping()
    assert list(backend.storage.files()) == []
    assert backend.contents() <= {PROBE_NAME}


def test_files_are_listed_with_key_size_and_time_and_unfinished_ones_are_not(storage: FileStorage) -> None:
    put(storage, "a/b", b"1234")
    put(storage, "e", b"")
    with storage.open_writer("f") as writer:
        writer.write(bytes(PART_BYTES))
        found = {file.key: file for file in storage.files()}
    assert {key: file.size for key, file in found.items()} == {"a/b": 4, "e": 0}
    for file in found.values():
        # S3 reports whole seconds.
        assert timedelta(seconds=-1) <= datetime.now(UTC) - file.modified_at < timedelta(minutes=1)


def test_a_storage_that_was_never_used_has_no_files_and_nothing_to_remove(storage: FileStorage) -> None:
    assert list(storage.files()) == []
    assert storage.remove_stale_temporaries(older_than_seconds=0, is_in_use=lambda _: False) == 0


@pytest.mark.parametrize("key", KEYS)
def test_a_quarantined_file_is_no_file_of_the_library_until_it_is_restored(backend: Backend, key: str) -> None:
    storage = backend.storage
    put(storage, key, b"abc")
    storage.quarantine(key, AT)
    assert list(storage.files()) == []
    assert not storage.has_file(key)
    [file] = storage.quarantined()
    assert (file.key, file.size, file.quarantined_at) == (key, 3, AT)
    assert storage.restore(file)
    assert read(storage, key) == b"abc"
    assert backend.contents() == {key}


@pytest.mark.parametrize("key", KEYS)
def test_names_in_quarantine_are_flat_whatever_the_key(backend: Backend, key: str) -> None:
    put(backend.storage, key, b"abc")
    backend.storage.quarantine(key, AT)
    assert backend.contents() == {".quarantine/20260102T030405Z+" + key.replace("/", "+")}


def test_a_quarantined_file_never_replaces_a_file_of_the_library(storage: FileStorage) -> None:
    put(storage, KEY, b"old")
    storage.quarantine(KEY, AT)
    put(storage, KEY, b"new")
    [file] = storage.quarantined()
    assert not storage.restore(file)
    assert read(storage, KEY) == b"new"
    assert list(storage.quarantined()) == [file]


def test_what_is_not_in_quarantine_can_be_neither_restored_nor_removed(storage: FileStorage) -> None:
    put(storage, KEY, b"abc")
    storage.quarantine(KEY, AT)
    [file] = storage.quarantined()
    storage.remove_quarantined(file)
    storage.remove_quarantined(file)
    assert not storage.restore(file)
    storage.quarantine("absent", AT)
    assert list(storage.quarantined()) == []


def test_the_library_id_is_no_file_and_can_be_replaced(storage: FileStorage) -> None:
    assert storage.library_id() is None
    for library_id in ("first", "second"):
        storage.write_library_id(library_id)
        assert storage.library_id() == library_id
    assert list(storage.files()) == []
