"""Ending an upload: from its own process or another one, before or after its last byte, and by its user only."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from app.domain.job import Job
from app.errors import (
    GatewayError,
    ModelStoreUnavailableError,
    UploadCompleteError,
    UploadEndedError,
    UploadInProgressError,
    UploadNotFoundError,
)
from app.services.running_uploads import LOOK_EVERY_SECONDS, RunningUploads
from app.streaming.multipart import UploadMessage
from tests.support.fakes import MemoryLeases, MemoryLedger, a_job, call_context
from tests.unit.services.bench import BODY, Bench, FakeBody, a_body


@pytest.fixture
def other(bench: Bench) -> Bench:
    """Another process with the same database."""
    return Bench(converter=bench.converter, ledger=bench.ledger, leases=bench.leases)


def between(bench: Bench, *, pauses: Callable[[], object]) -> RunningUploads:
    """The same process, where something happens during each pause of a request to end an upload."""
    bench.running._sleep = lambda _seconds: pauses()  # type: ignore[assignment, return-value]
    return bench.running


def upload(bench: Bench, halfway: Callable[[FakeBody], object] = lambda _body: None) -> str:
    """Upload as alice, and do something when half of the body has arrived."""

    def chunks() -> Iterator[bytes]:
        yield BODY[:60]
        halfway(body)
        yield BODY[60:]

    body = FakeBody(chunks())
    return bench.uploads.run("alice", "b", body, call_context(), public_id="u1").job.job_id


def after_the_last_byte(bench: Bench, action: Callable[[], object]) -> None:
    """Do something when the converter has the whole message."""

    def create(message: UploadMessage) -> Job:
        b"".join(message)
        action()
        return a_job("new-job")

    bench.converter.create = create


@pytest.mark.parametrize("asked", ["its own process", "another process"])
def test_an_upload_of_a_silent_client_ends_and_the_next_one_starts(bench: Bench, other: Bench, asked: str) -> None:
    silent, client = socket.socketpair()
    is_silent = threading.Event()
    failures: list[GatewayError] = []

    def wait(body: FakeBody) -> None:
        is_silent.set()
        body.progress.wait_for(silent, 60)

    def run() -> None:
        with pytest.raises(UploadEndedError) as ended:
            upload(bench, wait)
        failures.append(ended.value)

    uploading = threading.Thread(target=run)

    def look_and_wait_for_the_end() -> None:
        bench.running.look()
        uploading.join(60)

    with silent, client:
        uploading.start()
        assert is_silent.wait(60)
        process = bench if asked == "its own process" else other
        between(process, pauses=look_and_wait_for_the_end)
        assert process.uploads.end("alice", "u1")
    assert failures
    assert not bench.converter.sent.endswith(b"--\r\n")
    assert not bench.ledger.rows
    assert bench.is_at_rest()
    assert other.uploads.run("alice", "b", a_body(), call_context()).job.job_id == "new-job"


@pytest.mark.parametrize("asked", ["its own process", "another process"])
def test_after_the_last_byte_it_is_too_late_and_the_job_starts(bench: Bench, other: Bench, asked: str) -> None:
    process = bench
    if asked == "another process":
        process = other
        between(process, pauses=bench.running.look)

    def end() -> None:
        for _ in range(2):
            with pytest.raises(UploadCompleteError):
                process.uploads.end("alice", "u1")

    after_the_last_byte(bench, end)
    assert upload(bench) == "new-job"
    assert bench.is_at_rest()


@pytest.mark.parametrize("looks", ["before the last byte", "after it"])
def test_a_request_that_meets_the_last_byte_either_ends_the_upload_or_does_not(
    bench: Bench, other: Bench, looks: str
) -> None:
    """The other process has recorded the request before the last byte. What counts is when the upload's sees it."""

    def request(_body: FakeBody) -> None:
        assert not other.uploads.end("alice", "u1")
        if looks == "before the last byte":
            bench.running.look()

    after_the_last_byte(bench, bench.running.look)
    if looks == "before the last byte":
        with pytest.raises(UploadEndedError):
            upload(bench, request)
        assert not bench.ledger.rows
    else:
        assert upload(bench, request) == "new-job"
        assert bench.leases.uploads["upload:alice"].is_complete
        assert [row.job_id for row in bench.ledger.rows.values()] == ["new-job"]
    assert bench.is_at_rest()


def test_an_upload_of_a_killed_process_has_not_ended_until_its_lease_expires(bench: Bench) -> None:
    bench.leases.acquire("upload:alice", "killed", 150, upload_id="u1")
    assert not bench.uploads.end("alice", "u1")
    assert 1.5 < sum(bench.sleep.waits) <= 2
    bench.leases.holders.clear()
    with pytest.raises(UploadNotFoundError):
        bench.uploads.end("alice", "u1")


def test_an_upload_that_leaves_a_row_in_the_ledger_was_not_ended(bench: Bench) -> None:
    """For example, it was completed, and then its lease was released before its process has answered."""
    bench.leases.acquire("upload:alice", "elsewhere", 150, upload_id="u1")
    bench.ledger.open_upload("elsewhere", "alice", bench.clock())
    between(bench, pauses=bench.leases.holders.clear)
    with pytest.raises(UploadCompleteError):
        bench.uploads.end("alice", "u1")


@pytest.mark.parametrize(("user_id", "upload_id"), [("alice", "u2"), ("bob", "u1")])
def test_another_id_or_another_user_ends_nothing(bench: Bench, user_id: str, upload_id: str) -> None:
    def end(_body: FakeBody) -> None:
        with pytest.raises(UploadNotFoundError):
            bench.uploads.end(user_id, upload_id)

    assert upload(bench, end) == "new-job"


def test_a_conflict_shows_the_upload_that_is_running(bench: Bench, other: Bench) -> None:
    def conflict(body: FakeBody) -> None:
        bench.monotonic.advance(20)
        for refused in (lambda: other.uploads.require_slot("alice"), lambda: upload(other)):
            with pytest.raises(UploadInProgressError) as failure:
                refused()
            assert failure.value.extensions == {"upload": bench.leases.uploads["upload:alice"]}
        bench.leases.uploads.clear()
        with pytest.raises(UploadInProgressError) as failure:
            upload(other)
        assert failure.value.extensions == {}

    assert upload(bench, conflict) == "new-job"


def test_a_process_looks_once_a_second_while_it_has_uploads() -> None:
    leases, threads, waits = MemoryLeases(), list[Callable[[], None]](), list[float]()
    leases.acquire("upload:alice", "one", 150, upload_id="u1")

    with ExitStack() as uploads:

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 1:
                leases.failing = ModelStoreUnavailableError("down")
            if len(waits) == 2:
                leases.failing = ZeroDivisionError("a bug")  # type: ignore[assignment]
            if len(waits) == 3:
                leases.failing = None
                leases.request_end("upload:alice", "u1")
            if len(waits) == 4:
                uploads.close()

        running = RunningUploads(leases, MemoryLedger(), sleep=sleep, start_thread=threads.append)
        ending = uploads.enter_context(running.running("one"))
        uploads.enter_context(running.running("two"))
        assert len(threads) == 1
        threads[0]()
    assert ending.request()
    assert waits == [LOOK_EVERY_SECONDS] * 4
    assert leases.calls.count("requested_ends") == 3
    with running.running("three"):
        assert len(threads) == 2
