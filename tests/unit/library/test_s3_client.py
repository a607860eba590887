"""The client of the bucket storage: bounded waits for a hanging store, and which features it uses."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from app.config import LIBRARY_DOWNLOAD_SLOTS, PULL_SLOTS
from app.errors import StorageUnavailableError
from app.library.s3 import PART_BYTES, PROBE_EVERY_SECONDS, PROBE_NAME, S3Storage
from app.library.s3_client import make_client
from app.library.storage_urls import open_storage
from tests.support.addresses import Resolve, resolve, unanswering
from tests.support.clocks import FakeMonotonic
from tests.support.s3_server import S3Server

__all__ = ["resolve"]  # a fixture

KEY = "job-1/model_1"
DEADLINE_SECONDS = 6.0
MAX_CALL_SECONDS = DEADLINE_SECONDS / 2


@pytest.fixture
def storage(s3_bucket: str) -> S3Storage:
    return S3Storage(s3_bucket, "library", deadline_seconds=DEADLINE_SECONDS)


def client_of(storage: S3Storage) -> Any:
    return storage._client


def write(storage: S3Storage, size: int) -> None:
    with storage.open_writer(KEY) as writer:
        writer.write(bytes(size))
        writer.commit()


def read(storage: S3Storage) -> None:
    with storage.open_reader(KEY):
        pytest.fail("the block was entered")


def seconds_until_unavailable(action: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError):
        action()
    return time.monotonic() - started


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(S3Storage.ping, id="ping"),
        pytest.param(read, id="read"),
        pytest.param(lambda storage: storage.delete(KEY), id="delete"),
        pytest.param(lambda storage: list(storage.files()), id="list"),
        pytest.param(lambda storage: write(storage, 3), id="write"),
        pytest.param(lambda storage: write(storage, PART_BYTES), id="write in parts"),
    ],
)
def test_a_call_to_a_frozen_store_fails_in_half_of_a_requests_deadline(
    storage: S3Storage, s3_server: S3Server, action: Callable[[S3Storage], object]
) -> None:
    storage.ping()  # also where a connection is there already
    with s3_server.frozen():
        assert seconds_until_unavailable(lambda: action(storage)) < MAX_CALL_SECONDS


def test_a_store_that_freezes_during_a_write_fails_the_request_within_its_deadline(
    storage: S3Storage, s3_server: S3Server
) -> None:
    """One call fails, and one fails to remove what was sent."""

    def write_two_parts() -> None:
        with storage.open_writer(KEY) as writer:
            writer.write(bytes(PART_BYTES))
            s3_server.freeze()
            writer.write(bytes(PART_BYTES))

    try:
        assert seconds_until_unavailable(write_two_parts) < DEADLINE_SECONDS
    finally:
        s3_server.thaw()


def test_a_store_that_freezes_during_a_read_ends_the_read(storage: S3Storage, s3_server: S3Server) -> None:
    """A read may take any time, but it needs a byte from time to time."""
    # More than the kernel's buffers hold.
    s3_server.client.put_object(Bucket=storage._bucket, Key=f"library/{KEY}", Body=bytes(8 * PART_BYTES))

    def read_slowly() -> None:
        with storage.open_reader(KEY) as chunks:
            next(chunks)
            s3_server.freeze()
            for _ in chunks:
                pass

    try:
        assert seconds_until_unavailable(read_slowly) < MAX_CALL_SECONDS
    finally:
        s3_server.thaw()


def test_the_addresses_of_a_store_share_the_timeout(
    s3_bucket: str, resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [f"127.0.0.{number}" for number in range(2, 10)]
    with unanswering(*addresses) as port:
        resolve("store.example", *addresses)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://store.example:{port}")
        storage = S3Storage(s3_bucket, deadline_seconds=DEADLINE_SECONDS)
        assert seconds_until_unavailable(storage.ping) < MAX_CALL_SECONDS


@pytest.mark.parametrize(
    ("deadline_seconds", "connect", "idle"), [(60, 4, 10), (3_600, 4, 10), (6, 2 / 7, 5 / 7), (0.1, 1 / 7, 2.5 / 7)]
)
def test_the_waits_fit_into_the_deadline(s3_bucket: str, deadline_seconds: float, connect: float, idle: float) -> None:
    config = client_of(open_storage(f"s3://{s3_bucket}/prefix", deadline_seconds=deadline_seconds)).meta.config
    assert (config.connect_timeout, config.read_timeout) == (pytest.approx(connect), pytest.approx(idle))
    assert config.retries["total_max_attempts"] == 2
    assert config.max_pool_connections >= PULL_SLOTS + LIBRARY_DOWNLOAD_SLOTS


def test_no_request_uses_checksums_that_many_stores_lack(s3_bucket: str) -> None:
    storage = S3Storage(s3_bucket)
    sent: list[tuple[str, dict[str, str]]] = []

    def note(request: Any, **_: Any) -> None:
        headers = {name.lower(): str(value) for name, value in request.headers.items()}
        sent.append((request.method, headers))

    client_of(storage).meta.events.register("before-send.s3", note)
    write(storage, 3)
    write(storage, PART_BYTES + 1)
    with storage.open_reader(KEY) as chunks:
        assert sum(map(len, chunks)) == PART_BYTES + 1
    storage.ping()
    assert {method for method, _ in sent} == {"PUT", "POST", "HEAD", "GET"}
    for _, headers in sent:
        assert not [name for name in headers if "checksum" in name or name in {"expect", "x-amz-trailer"}]
        assert "aws-chunked" not in headers.get("content-encoding", "")


def test_a_ping_writes_once_a_minute(s3_bucket: str, s3_server: S3Server) -> None:
    clock, writes = FakeMonotonic(), []
    storage = S3Storage(s3_bucket, "library", monotonic=clock)
    client_of(storage).meta.events.register("before-call.s3.PutObject", lambda **_: writes.append(clock.now))
    for _ in range(10):
        storage.ping()
        clock.advance(PROBE_EVERY_SECONDS / 4)
    assert len(writes) == 3
    [probe] = s3_server.client.list_objects_v2(Bucket=s3_bucket)["Contents"]
    assert (probe["Key"], probe["Size"]) == (f"library/{PROBE_NAME}", 0)
    assert list(storage.files()) == [], "it is no file of the library"


def test_a_bucket_that_refuses_writes_is_unavailable(s3_bucket: str) -> None:
    storage = S3Storage(s3_bucket)

    def refuse(**_: Any) -> None:
        raise ConnectionResetError

    events = client_of(storage).meta.events
    events.register("before-send.s3.PutObject", refuse)
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            storage.ping()
    events.unregister("before-send.s3.PutObject", refuse)
    storage.ping()


def test_the_client_uses_our_connection_classes(s3_bucket: str) -> None:
    """botocore has no public way to set them."""
    manager = make_client(60)._endpoint.http_session._manager
    assert {pool.__module__ for pool in manager.pool_classes_by_scheme.values()} == {"app.library.s3_client"}
