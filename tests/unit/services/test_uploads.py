"""Every outcome of an upload, and what it does to the upload's row, lease and slot."""

import itertools
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from app.clients.converter import ConverterConflictError
from app.domain.job import Job
from app.errors import (
    ActiveJobConflictError,
    ConverterBusyError,
    ConverterRejectedError,
    ConverterUnavailableError,
    GatewayError,
    IDPUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    ModelStoreUnavailableError,
    PayloadTooLargeError,
    ServiceClientUnauthorizedError,
    UploadCapacityError,
    UploadInProgressError,
    UploadOutcomeUnknownError,
    UploadTimeoutError,
)
from app.services.transfers import TransferKind
from app.streaming.inbound import IncompleteBodyError
from app.streaming.multipart import UploadMessage
from app.streaming.progress import UploadProgress
from tests.support.fakes import a_job, call_context
from tests.unit.services.bench import BODY, SLOTS, Bench, FakeBody, a_body

PENDING, ASSIGNED, GONE = "pending", "assigned", "gone"


def upload(bench: Bench, *chunks: bytes | Exception, user_id: str = "alice") -> str:
    return bench.uploads.run(user_id, "b", a_body(*chunks), call_context()).job.job_id


def row_of(bench: Bench) -> str:
    if not bench.ledger.rows:
        return GONE
    (row,) = bench.ledger.rows.values()
    return ASSIGNED if row.job_id else PENDING


def test_a_whole_upload_starts_a_job_that_is_its_owners(bench: Bench) -> None:
    started = bench.uploads.run("alice", "b", a_body(), call_context())
    assert (started.job.job_id, started.filename, started.size) == ("new-job", "net.onnx", 11)
    (row,) = bench.ledger.rows.values()
    assert (row.user_id, row.job_id, row.filename, row.size) == ("alice", "new-job", "net.onnx", 11)
    bench.ownership.require("alice", "new-job", call_context())
    assert bench.converter.calls == ["list alice", "create"]
    assert b'name="user_id"\r\n\r\nalice\r\n' in bench.converter.sent
    assert bench.is_at_rest()


def test_the_row_is_written_before_the_body_is_sent_and_the_lease_is_held(bench: Bench) -> None:
    def look(message: UploadMessage) -> Job:
        assert row_of(bench) == PENDING
        assert list(bench.leases.holders) == ["upload:alice"]
        assert bench.slots.free[TransferKind.UPLOAD] == SLOTS - 1
        return a_job("new-job")

    bench.converter.create = look
    assert upload(bench) == "new-job"


def raising(failure: GatewayError, *, after_body: bool) -> Callable[[UploadMessage], Job]:
    def create(message: UploadMessage) -> Job:
        if after_body:
            for _ in message:
                pass
        raise failure

    return create


REFUSALS: list[GatewayError] = [
    ConverterRejectedError("bad", "no"),
    ConverterBusyError("429"),
    ConverterConflictError(None),
    PayloadTooLargeError("413"),
    ServiceClientUnauthorizedError("401"),
    IDPUnavailableError("no token"),
]


@pytest.mark.parametrize(
    ("failure", "after_body"),
    [*itertools.product(REFUSALS, [False, True]), (ConverterUnavailableError("503"), False)],
    ids=lambda value: type(value).__name__ if isinstance(value, GatewayError) else str(value),
)
def test_a_certain_refusal_leaves_no_row(bench: Bench, failure: GatewayError, after_body: bool) -> None:
    bench.converter.create = raising(failure, after_body=after_body)
    with pytest.raises(type(failure)) as caught:
        upload(bench)
    assert caught.value is failure
    assert row_of(bench) == GONE
    assert bench.is_at_rest()


@pytest.mark.parametrize(
    "failure",
    [
        IncompleteBodyError("gone"),
        UploadTimeoutError("stalled"),
        PayloadTooLargeError("total"),
        InvalidRequestError("malformed"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_body_that_fails_leaves_no_row(bench: Bench, failure: GatewayError) -> None:
    with pytest.raises(type(failure)) as caught:
        upload(bench, BODY[:50], failure)
    assert caught.value is failure
    assert row_of(bench) == GONE
    assert bench.is_at_rest()


def test_a_message_without_its_end_leaves_no_row(bench: Bench) -> None:
    with pytest.raises(InvalidRequestError):
        upload(bench, BODY[:-6])
    assert row_of(bench) == GONE


def test_a_bug_leaves_the_row_to_be_matched_and_everything_else_at_rest(bench: Bench) -> None:
    def crash(message: UploadMessage) -> Job:
        raise ValueError("a bug")

    bench.converter.create = crash
    with pytest.raises(ValueError, match="a bug"):
        upload(bench)
    assert row_of(bench) == PENDING
    assert bench.is_at_rest()


# --- the response was lost


def losing_the_response(bench: Bench, *, job_id: str | None) -> None:
    """The converter starts the job, or does not, and its response never comes."""

    def create(message: UploadMessage) -> Job:
        for _ in message:
            pass
        if job_id is not None:
            bench.has_job(job_id, "alice")
        raise UploadOutcomeUnknownError("lost")

    bench.converter.create = create


def test_a_lost_response_is_looked_for_in_the_converters_list(bench: Bench) -> None:
    losing_the_response(bench, job_id="job-7")
    assert upload(bench) == "job-7"
    (row,) = bench.ledger.rows.values()
    assert (row.job_id, row.filename) == ("job-7", "net.onnx")
    assert bench.is_at_rest()


def test_a_lost_response_that_the_list_does_not_explain_stays_unknown_and_pending(bench: Bench) -> None:
    losing_the_response(bench, job_id=None)
    with pytest.raises(UploadOutcomeUnknownError):
        upload(bench)
    assert row_of(bench) == PENDING
    assert bench.is_at_rest()


def test_a_list_that_fails_too_leaves_it_unknown(bench: Bench) -> None:
    def create(message: UploadMessage) -> Job:
        bench.converter.failing = ConverterUnavailableError("down")
        raise UploadOutcomeUnknownError("lost")

    bench.converter.create = create
    with pytest.raises(UploadOutcomeUnknownError):
        upload(bench)
    assert row_of(bench) == PENDING


def test_the_search_for_a_lost_response_has_a_deadline_of_its_own(bench: Bench) -> None:
    """The request's own deadline has passed while the body was sent."""

    def create(message: UploadMessage) -> Job:
        bench.monotonic.advance(10_000)
        bench.has_job("job-7", "alice")
        raise UploadOutcomeUnknownError("lost")

    bench.converter.create = create
    assert upload(bench) == "job-7"


def test_the_pending_row_of_a_lost_response_is_matched_when_the_job_shows(bench: Bench) -> None:
    losing_the_response(bench, job_id=None)
    with pytest.raises(UploadOutcomeUnknownError):
        upload(bench)
    bench.has_job("job-9", "alice", created_at=bench.clock() + timedelta(seconds=5))
    bench.ownership.require("alice", "job-9", call_context())
    assert row_of(bench) == ASSIGNED


# --- before the body is read


def unread(bench: Bench) -> bool:
    return "create" not in bench.converter.calls and "open_upload" not in bench.ledger.calls


def test_a_running_job_is_a_conflict_before_the_body_is_read(bench: Bench) -> None:
    bench.has_job("job-1", "alice")
    with pytest.raises(ActiveJobConflictError) as caught:
        upload(bench)
    assert isinstance(caught.value, ConverterConflictError)
    assert caught.value.job is not None
    assert caught.value.job.job_id == "job-1"
    assert unread(bench)
    assert bench.is_at_rest()


def test_another_users_running_job_is_none_of_ours(bench: Bench) -> None:
    bench.has_job("job-1", "bob")
    assert upload(bench) == "new-job"


@pytest.mark.parametrize("failure", [ConverterUnavailableError("down"), ConverterBusyError("429")])
def test_a_converter_that_cannot_say_whether_a_job_runs_gets_no_body(bench: Bench, failure: GatewayError) -> None:
    bench.converter.failing = failure
    with pytest.raises(type(failure)):
        upload(bench)
    assert unread(bench)
    assert bench.is_at_rest()


def test_a_second_upload_of_the_same_user_is_refused_in_whatever_worker(bench: Bench) -> None:
    other_worker = Bench(converter=bench.converter, ledger=bench.ledger, leases=bench.leases)

    def meanwhile(message: UploadMessage) -> Job:
        with pytest.raises(UploadInProgressError):
            upload(other_worker)
        return a_job("new-job")

    bench.converter.create = meanwhile
    assert upload(bench) == "new-job"
    assert other_worker.is_at_rest()


def test_without_a_free_slot_nothing_else_is_asked(bench: Bench) -> None:
    bench.take_all_slots()
    with pytest.raises(UploadCapacityError):
        upload(bench)
    assert bench.converter.calls == []
    assert bench.leases.calls == []


@pytest.mark.parametrize("store", ["leases", "ledger"])
def test_without_a_database_no_body_is_read(bench: Bench, store: str) -> None:
    getattr(bench, store).failing = ModelStoreUnavailableError("down")
    with pytest.raises(ModelStoreUnavailableError):
        upload(bench)
    assert "create" not in bench.converter.calls
    assert bench.slots.free[TransferKind.UPLOAD] == SLOTS


# --- while it streams


def test_the_lease_is_renewed_while_the_body_comes_and_once_more_before_the_response(bench: Bench) -> None:
    def chunks() -> Iterator[bytes]:
        for start in range(0, len(BODY), 20):
            bench.monotonic.advance(10)
            yield BODY[start : start + 20]
        bench.monotonic.advance(5)

    bench.uploads.run("alice", "b", FakeBody(chunks()), call_context())
    arrivals = -(-len(BODY) // 20)
    assert len(bench.leases.renewals) == arrivals // 2 + 1


def test_a_lost_lease_ends_the_upload_without_its_end(bench: Bench) -> None:
    def chunks() -> Iterator[bytes]:
        yield BODY[:60]
        bench.leases.holders["upload:alice"] = "another"
        bench.monotonic.advance(20)
        yield BODY[60:]

    with pytest.raises(UploadInProgressError):
        bench.uploads.run("alice", "b", FakeBody(chunks()), call_context())
    assert row_of(bench) == GONE
    assert bench.leases.holders == {"upload:alice": "another"}


def test_body_is_closed_before_the_lease_is_released_when_the_upload_fails_between_two_reads(bench: Bench) -> None:
    """Reading uses the client's connection until then, which the failure's response needs."""
    leases_at_close: list[str] = []

    class Body:
        progress = UploadProgress()

        def __iter__(self) -> Generator[bytes, None, None]:
            try:
                yield b"--b\r\nno header\r\n\r\n"
                yield BODY
            finally:
                leases_at_close.extend(bench.leases.holders)

    body = Body()
    with pytest.raises(InvalidRequestError) as failure:
        bench.uploads.run("alice", "b", body, call_context())
    assert leases_at_close == ["upload:alice"]
    assert failure.value  # holds the traceback, and with it everything that might close the body later


def test_a_lease_lost_at_the_very_end_still_ends_it_before_the_closing_boundary(bench: Bench) -> None:
    sent = bytearray()

    def create(message: UploadMessage) -> Job:
        for chunk in message:
            sent.extend(chunk)
        return a_job("new-job")

    def chunks() -> Iterator[bytes]:
        yield BODY
        bench.leases.holders["upload:alice"] = "another"
        bench.monotonic.advance(5)

    bench.converter.create = create
    with pytest.raises(UploadInProgressError):
        bench.uploads.run("alice", "b", FakeBody(chunks()), call_context())
    assert b"--\r\n" not in sent[-4:]


def test_a_job_that_was_started_is_told_also_when_the_ledger_fails_meanwhile(bench: Bench) -> None:
    def create(message: UploadMessage) -> Job:
        for _ in message:
            pass
        bench.ledger.failing = ModelStoreUnavailableError("down")
        return a_job("new-job")

    bench.converter.create = create
    assert upload(bench) == "new-job"
    assert row_of(bench) == PENDING


def test_a_row_that_cannot_be_discarded_does_not_hide_the_refusal_and_is_discarded_later(bench: Bench) -> None:
    """A row that stayed would look like an upload without a response."""

    def create(message: UploadMessage) -> Job:
        bench.ledger.failing = ModelStoreUnavailableError("down")
        raise ConverterRejectedError("bad", "no")

    bench.converter.create = create
    with pytest.raises(ConverterRejectedError):
        upload(bench)
    assert row_of(bench) == PENDING
    bench.ledger.failing = None
    bench.writes.flush()
    assert row_of(bench) == GONE


def test_a_row_of_which_nobody_knows_whether_it_was_written_is_discarded_later(bench: Bench) -> None:
    """The database may have committed the row, and only its reply was lost."""
    write = bench.ledger.open_upload

    def write_and_fail(*row: Any) -> None:
        write(*row)
        raise ModelStoreUnavailableError("the response was lost")

    bench.ledger.open_upload = write_and_fail  # type: ignore[method-assign]
    with pytest.raises(ModelStoreUnavailableError):
        upload(bench)
    bench.writes.flush()
    assert row_of(bench) == GONE


# --- looking before


def test_checking_for_a_free_slot_takes_none(bench: Bench) -> None:
    bench.uploads.require_slot("alice")
    assert bench.is_at_rest()
    bench.leases.holders["upload:alice"] = "another"
    with pytest.raises(UploadInProgressError):
        bench.uploads.require_slot("alice")
    bench.uploads.require_slot("bob")
    bench.take_all_slots()
    with pytest.raises(UploadCapacityError):
        bench.uploads.require_slot("bob")


def test_a_job_that_the_converter_attributes_to_another_user_is_not_returned(bench: Bench) -> None:
    """The outcome of the upload is then unknown. The row stays until the converter's list shows the job."""

    def start(message: UploadMessage) -> Job:
        b"".join(message)
        bench.has_job("new-job", "bob", user_id="bob")
        return bench.converter.jobs["new-job"]

    bench.converter.create = start
    with pytest.raises(UploadOutcomeUnknownError):
        upload(bench)
    assert row_of(bench) == PENDING
    assert bench.is_at_rest()


def test_a_job_that_the_ledger_has_as_another_users_is_not_given_out(bench: Bench) -> None:
    """The converter answers 201 with the id of another user's job, and names nobody."""
    bench.knows_job("job-1", "bob")
    bench.converter.create = lambda message: [*message] and a_job("job-1")  # type: ignore[func-returns-value]
    with pytest.raises(UploadOutcomeUnknownError):
        upload(bench)
    with pytest.raises(JobNotFoundError):
        bench.ownership.require("alice", "job-1", call_context())
    assert [row.user_id for row in bench.ledger.rows.values() if row.job_id == "job-1"] == ["bob"]
    assert [row.user_id for row in bench.ledger.rows.values() if row.job_id is None] == ["alice"]
    assert bench.is_at_rest()


def test_the_job_that_the_list_shows_counts_where_the_response_has_another_users(bench: Bench) -> None:
    def start(message: UploadMessage) -> Job:
        b"".join(message)
        bench.knows_job("job-1", "bob")
        bench.has_job("job-2", "alice")
        return a_job("job-1")

    bench.converter.create = start
    assert upload(bench) == "job-2"


def test_a_lost_uploads_job_is_not_taken_for_one_that_was_known_before(bench: Bench) -> None:
    """Two jobs run where one should: the one that has a row of its own is another upload's."""

    def lose(message: UploadMessage) -> Job:
        b"".join(message)
        bench.knows_job("earlier", "alice")
        bench.has_job("later", "alice")
        raise UploadOutcomeUnknownError("the response was lost")

    bench.converter.create = lose
    assert upload(bench) == "later"
