"""Starting a conversion, and checking whether one could start. A running job is shown if it is the caller's."""

from collections.abc import Callable

import pytest

from app.clients.converter import ConverterConflictError
from app.domain.job import Job
from app.errors import (
    ActiveJobConflictError,
    ConverterUnavailableError,
    GatewayError,
    IDPUnavailableError,
    UploadCapacityError,
    UploadInProgressError,
)
from app.streaming.multipart import UploadMessage
from tests.support.fakes import a_job, call_context
from tests.unit.services.bench import Bench, a_body


def test_init_shows_the_job_that_it_started(bench: Bench) -> None:
    view = bench.service.init_job("alice", "b", a_body(), call_context())
    assert (view.job.job_id, view.filename, view.size, view.model_id) == ("new-job", "net.onnx", 11, None)


def conflict(job: Job | None) -> Callable[[UploadMessage], Job]:
    def create(message: UploadMessage) -> Job:
        raise ConverterConflictError(job)

    return create


def active_of(bench: Bench) -> object:
    with pytest.raises(ActiveJobConflictError) as caught:
        bench.service.init_job("alice", "b", a_body(), call_context())
    assert not isinstance(caught.value, ConverterConflictError)
    assert caught.value.retry_after_seconds == 5
    return caught.value.extensions["active_job"]


def test_a_conflict_before_the_body_shows_the_running_job(bench: Bench) -> None:
    bench.knows_job("job-1", "alice")
    active = active_of(bench)
    assert active.job.job_id == "job-1"  # type: ignore[attr-defined]
    assert active.filename == "job-1.onnx"  # type: ignore[attr-defined]


def test_the_converters_own_conflict_shows_its_active_job(bench: Bench) -> None:
    bench.converter.create = conflict(a_job("job-7", user_id="alice"))
    assert active_of(bench).job.job_id == "job-7"  # type: ignore[attr-defined]


def test_the_converters_conflict_with_a_foreign_job_shows_nothing_of_it(bench: Bench) -> None:
    bench.converter.create = conflict(a_job("job-7", user_id="bob"))
    assert active_of(bench) is None


@pytest.mark.parametrize("is_pending", [False, True])
def test_the_converters_conflict_with_a_job_that_the_ledger_has_as_anothers_shows_nothing(
    bench: Bench, is_pending: bool
) -> None:
    bench.knows_job("job-7", "bob", user_id=None)
    if is_pending:
        bench.ledger.open_upload("lost", "alice", bench.clock())
    bench.converter.create = conflict(a_job("job-7", created_at=bench.clock()))
    assert active_of(bench) is None


def test_the_converters_conflict_with_a_job_that_nobody_accounts_for_shows_nothing(bench: Bench) -> None:
    bench.converter.create = conflict(a_job("job-7", created_at=bench.clock()))
    assert active_of(bench) is None


def test_the_converters_conflict_with_an_earlier_uploads_job_shows_it(bench: Bench) -> None:
    """The upload got no response, the converter names no owners, and its list does not show the job yet."""
    bench.ledger.open_upload("lost", "alice", bench.clock())
    bench.converter.create = conflict(a_job("job-7", created_at=bench.clock()))
    assert active_of(bench).job.job_id == "job-7"  # type: ignore[attr-defined]


def test_a_conflict_that_names_no_job_asks_the_converter_for_it(bench: Bench) -> None:
    def create(message: UploadMessage) -> Job:
        bench.has_job("job-8", "alice")
        raise ConverterConflictError(None)

    bench.converter.create = create
    assert active_of(bench).job.job_id == "job-8"  # type: ignore[attr-defined]


def test_a_conflict_whose_job_cannot_be_fetched_is_still_a_conflict(bench: Bench) -> None:
    def create(message: UploadMessage) -> Job:
        bench.converter.failing = ConverterUnavailableError("down")
        raise ConverterConflictError(None)

    bench.converter.create = create
    assert active_of(bench) is None


def test_checking_an_upload_makes_every_check_and_starts_nothing(bench: Bench) -> None:
    bench.service.check_upload("alice", call_context())
    assert bench.member_center.token_source.scopes == ["converter:job.write"]
    assert bench.ledger.rows == {}
    assert "create" not in bench.converter.calls
    assert bench.is_at_rest()


def spoil(bench: Bench, what: str) -> type[GatewayError]:
    if what == "running":
        bench.has_job("job-1", "alice")
        return ActiveJobConflictError
    if what == "uploading":
        bench.leases.holders["upload:alice"] = "another"
        return UploadInProgressError
    if what == "full":
        bench.take_all_slots()
        return UploadCapacityError
    if what == "converter":
        bench.converter.failing = ConverterUnavailableError("down")
        return ConverterUnavailableError
    bench.member_center.token_source.failing = IDPUnavailableError("down")
    return IDPUnavailableError


@pytest.mark.parametrize("what", ["running", "uploading", "full", "converter", "idp"])
def test_checking_an_upload_raises_what_the_upload_would_raise(bench: Bench, what: str) -> None:
    expected = spoil(bench, what)
    with pytest.raises(expected):
        bench.service.check_upload("alice", call_context())
