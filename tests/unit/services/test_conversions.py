"""The conversion operations: each proves first that the job is the caller's."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from app.clients.converter import Promotion
from app.domain.filters import JobFilter
from app.domain.job import JobError, JobStatus
from app.domain.stages import StageTime
from app.errors import (
    ConverterUnavailableError,
    DownloadTokenFailedError,
    GatewayError,
    IDPUnavailableError,
    JobFailedError,
    JobNotCompletedError,
    JobNotFoundError,
    ModelStoreUnavailableError,
    OwnershipMismatchError,
    PromoteFailedError,
    ResultMissingError,
    UploadCapacityError,
)
from tests.support.counts import increase
from tests.support.fakes import call_context
from tests.support.parallel import in_parallel
from tests.unit.services.bench import Bench

Operation = Callable[[Bench, str, str], object]

BY_ID: dict[str, Operation] = {
    "get": lambda bench, user, job: bench.service.get_job(user, job, call_context()),
    "promote": lambda bench, user, job: bench.service.promote_to_models(user, job, call_context()),
    "download": lambda bench, user, job: bench.service.download_redirect_url(user, job, call_context()),
    "check download": lambda bench, user, job: bench.service.check_download(user, job, call_context()),
}
RESULTS = {name: operation for name, operation in BY_ID.items() if name != "get"}


# --- whose job


@pytest.mark.parametrize("operation", BY_ID)
@pytest.mark.parametrize("job_id", ["", "a/b", "..", "x" * 129, "a b", "模", "job-1\n"])
def test_a_malformed_id_is_absent_without_any_call(bench: Bench, operation: str, job_id: str) -> None:
    with pytest.raises(JobNotFoundError):
        BY_ID[operation](bench, "alice", job_id)
    assert bench.converter.calls == bench.ledger.calls == bench.models.calls == []


@pytest.mark.parametrize("operation", BY_ID)
@pytest.mark.parametrize("status", ["running", "completed", "failed"])
def test_a_foreign_job_is_not_found_and_neither_fetched_nor_promoted(bench: Bench, operation: str, status: str) -> None:
    bench.knows_job("job-1", "bob", status)
    with pytest.raises(JobNotFoundError):
        BY_ID[operation](bench, "alice", "job-1")
    assert bench.converter.calls == ["list alice"]
    assert bench.member_center.minted == []
    assert bench.is_at_rest()


@pytest.mark.parametrize("operation", BY_ID)
def test_a_response_that_names_another_owner_denies_and_changes_nothing(bench: Bench, operation: str) -> None:
    bench.knows_job("job-1", "alice", "completed", user_id="bob")
    with pytest.raises(OwnershipMismatchError):
        BY_ID[operation](bench, "alice", "job-1")
    assert "promote job-1" not in bench.converter.calls


@pytest.mark.parametrize("operation", BY_ID)
def test_a_foreign_job_stays_foreign_while_it_is_cached_for_its_owner(bench: Bench, operation: str) -> None:
    bench.knows_job("job-1", "bob", "completed")
    bench.service.get_job("bob", "job-1", call_context())
    with pytest.raises(JobNotFoundError):
        BY_ID[operation](bench, "alice", "job-1")


def test_a_job_that_the_ledger_gives_to_another_while_it_is_polled_is_that_others(bench: Bench) -> None:
    """As after a late record: the cache had it as the caller's."""
    bench.ownership._owners["job-1"] = "alice"
    bench.knows_job("job-1", "bob", user_id=None)
    for _ in range(2):
        with pytest.raises(OwnershipMismatchError):
            bench.service.get_job("alice", "job-1", call_context())
    assert bench.service.get_job("bob", "job-1", call_context()).job.job_id == "job-1"
    with pytest.raises(JobNotFoundError):
        bench.service.get_job("alice", "job-1", call_context())


@pytest.mark.parametrize("operation", BY_ID)
def test_each_operation_proves_once_that_the_job_is_the_callers(bench: Bench, operation: str) -> None:
    bench.knows_job("job-1", "alice", "completed")
    decisions = [increase("visiona_ownership_total", decision=decision) for decision in ("memory", "ledger")]
    BY_ID[operation](bench, "alice", "job-1")
    assert [count() for count in decisions] == [0, 1]


# --- get, active, history


def test_a_job_is_shown_with_what_the_gateway_knows_of_it(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "completed")
    bench.has_model("model-1", source_job_id="job-1")
    view = bench.service.get_job("alice", "job-1", call_context())
    assert (view.filename, view.size, view.model_id, view.started_at) == ("job-1.onnx", 11, "model-1", bench.clock())


def test_another_users_model_of_a_job_is_not_shown(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "completed")
    bench.has_model("model-1", user_id="bob", source_job_id="job-1")
    assert bench.service.get_job("alice", "job-1", call_context()).model_id is None


def test_an_ended_job_that_the_converter_has_forgotten_is_shown_from_the_ledger(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "failed", error=JobError("e", "m"))
    bench.converter.jobs.clear()
    assert bench.service.get_job("alice", "job-1", call_context()).job.error == JobError("e", "m")


@pytest.mark.parametrize(("minutes", "is_lost"), [(4.9, False), (5, True), (600, True)])
def test_a_running_job_that_the_converter_has_forgotten_is_lost_after_five_minutes(
    bench: Bench, minutes: float, is_lost: bool
) -> None:
    bench.knows_job("job-1", "alice")
    bench.converter.jobs.clear()
    bench.clock.advance(minutes * 60)
    if is_lost:
        job = bench.service.get_job("alice", "job-1", call_context()).job
        assert job.status is JobStatus.FAILED
        assert job.error is not None
        assert job.error.code == "job_lost"
    else:
        with pytest.raises(JobNotFoundError):
            bench.service.get_job("alice", "job-1", call_context())


def test_a_poll_writes_the_ledger_and_a_failing_database_fails_no_poll(bench: Bench) -> None:
    bench.knows_job("job-1", "alice")
    bench.service.get_job("alice", "job-1", call_context())
    bench.has_job("job-1", "alice", "completed")
    bench.monotonic.advance(1)
    bench.ledger.failing = bench.models.failing = ModelStoreUnavailableError("down")
    assert bench.service.get_job("alice", "job-1", call_context()).job.status is JobStatus.COMPLETED
    bench.ledger.failing = bench.models.failing = None
    assert bench.writes.flush()
    record = bench.ledger.find_job("alice", "job-1")
    assert record is not None
    assert record.job is not None
    assert record.job.status is JobStatus.COMPLETED


def test_the_active_job_is_the_converters_first_or_none(bench: Bench) -> None:
    assert bench.service.get_active_job("alice", call_context()) is None
    bench.has_job("job-0", "bob")
    bench.has_job("job-1", "alice", "completed")
    bench.has_job("job-2", "alice")
    view = bench.service.get_active_job("alice", call_context())
    assert view is not None
    assert view.job.job_id == "job-2"


def test_history_is_the_callers_own_newest_first_and_refreshed(bench: Bench) -> None:
    for number in range(5):
        bench.knows_job(f"job-{number}", "alice", "completed" if number else "running")
        bench.clock.advance(1)
    bench.knows_job("job-9", "bob")
    bench.has_job("job-0", "alice", "failed")
    bench.has_model("model-3", source_job_id="job-3")
    bench.ledger.open_upload("pending", "alice", bench.clock())
    views, cursor = bench.service.history("alice", 3, None, call_context())
    assert [view.job.job_id for view in views] == ["job-4", "job-3", "job-2"]
    assert [view.model_id for view in views] == [None, "model-3", None]
    views, cursor = bench.service.history("alice", 3, cursor, call_context())
    assert [(view.job.job_id, view.job.status.value) for view in views] == [("job-1", "completed"), ("job-0", "failed")]
    assert cursor is None


def test_history_shows_what_the_ledger_has_while_the_converter_is_down(bench: Bench) -> None:
    bench.knows_job("job-1", "alice")
    bench.converter.failing = ConverterUnavailableError("down")
    (view,), _ = bench.service.history("alice", 20, None, call_context())
    assert view.job.status is JobStatus.RUNNING


def test_a_filter_by_status_is_about_the_states_that_are_returned(bench: Bench) -> None:
    """A page without the wanted jobs may come before one with them."""
    for number, status in enumerate(["failed", "completed", "running", "running", "failed"]):
        bench.knows_job(f"job-{number}", "alice", status)
        bench.clock.advance(1)
    bench.has_job("job-2", "alice", "failed")
    failed = JobFilter(statuses=frozenset({JobStatus.FAILED}))
    pages, cursor = [], None
    for _ in range(3):
        views, cursor = bench.service.history("alice", 2, cursor, call_context(), failed)
        pages.append([view.job.job_id for view in views])
        if cursor is None:
            break
    assert pages == [["job-4"], ["job-2", "job-0"]]
    running = JobFilter(statuses=frozenset({JobStatus.QUEUED, JobStatus.RUNNING}))
    views, _ = bench.service.history("alice", 9, None, call_context(), running)
    assert [view.job.job_id for view in views] == ["job-3"]


def test_history_asks_of_at_most_five_unfinished_jobs(bench: Bench) -> None:
    for number in range(10):
        bench.knows_job(f"job-{number}", "alice")
        bench.clock.advance(1)
    bench.service.history("alice", 20, None, call_context())
    assert len([call for call in bench.converter.calls if call.startswith("get")]) == 5


# --- promote


def test_promoting_stores_the_result_once_and_says_whether_it_is_new(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "completed")
    model, is_new = bench.service.promote_to_models("alice", "job-1", call_context())
    assert is_new
    assert model.name == "job-1"
    assert bench.storage.files[model.storage_key] == bench.files.content
    again, is_new = bench.service.promote_to_models("alice", "job-1", call_context())
    assert not is_new
    assert again == model
    assert bench.files.pulls == 1
    assert bench.is_at_rest()
    assert bench.service.get_job("alice", "job-1", call_context()).model_id == model.id


def test_promoting_again_returns_the_model_while_the_converter_is_down(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "completed")
    model, _ = bench.service.promote_to_models("alice", "job-1", call_context())
    bench.converter.failing = ConverterUnavailableError("down")
    assert bench.service.promote_to_models("alice", "job-1", call_context()) == (model, False)


@pytest.mark.parametrize("round_", range(3))
def test_four_promotes_at_once_in_two_processes_make_one_model(bench: Bench, round_: int) -> None:
    bench.knows_job("job-1", "alice", "completed")
    # A promote that waits for the lease holds a slot, so there is one for each, and a user's share is two per host.
    first, second = (
        Bench(
            converter=bench.converter,
            files=bench.files,
            ledger=bench.ledger,
            leases=bench.leases,
            models=bench.models,
            storage=bench.storage,
        )
        for _ in range(2)
    )
    outcomes = in_parallel(
        4,
        lambda n: (first if n % 2 else second).service.promote_to_models("alice", "job-1", call_context()),
    )
    assert sum(is_new for _, is_new in outcomes) == 1  # type: ignore[misc]
    assert len({model.id for model, _ in outcomes}) == 1  # type: ignore[misc]
    assert len(bench.models.models) == len(bench.storage.files) == bench.files.pulls == 1
    assert first.is_at_rest()
    assert second.is_at_rest()


@pytest.mark.parametrize("operation", RESULTS)
@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_result_of_an_unfinished_job_is_not_ready_and_checked_again_next_time(
    bench: Bench, operation: str, status: str
) -> None:
    bench.knows_job("job-1", "alice", status)
    with pytest.raises(JobNotCompletedError):
        RESULTS[operation](bench, "alice", "job-1")
    assert "promote job-1" not in bench.converter.calls
    bench.has_job("job-1", "alice", "completed")
    RESULTS[operation](bench, "alice", "job-1")


@pytest.mark.parametrize("operation", RESULTS)
def test_a_job_that_has_just_completed_is_not_delayed_by_the_cache(bench: Bench, operation: str) -> None:
    bench.knows_job("job-1", "alice")
    bench.service.get_job("alice", "job-1", call_context())
    bench.has_job("job-1", "alice", "completed")
    RESULTS[operation](bench, "alice", "job-1")


@pytest.mark.parametrize("operation", RESULTS)
@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_without_a_result_says_why(bench: Bench, operation: str, status: str) -> None:
    bench.knows_job("job-1", "alice", status, error=JobError("bad_model", "no"))
    with pytest.raises(JobFailedError) as caught:
        RESULTS[operation](bench, "alice", "job-1")
    assert caught.value.extensions == {"job_error": {"code": "bad_model", "message": "no"}}
    bench.monotonic.advance(1)
    bench.has_job("job-1", "alice", status)
    with pytest.raises(JobFailedError) as caught:
        RESULTS[operation](bench, "alice", "job-1")
    assert caught.value.extensions == {"job_error": None}


@pytest.mark.parametrize("operation", RESULTS)
def test_a_promote_that_fails_fails_the_operation_and_stores_nothing(bench: Bench, operation: str) -> None:
    bench.knows_job("job-1", "alice", "completed")
    bench.converter.promotion = PromoteFailedError("no")
    with pytest.raises(PromoteFailedError):
        RESULTS[operation](bench, "alice", "job-1")
    assert bench.storage.files == {}
    assert bench.member_center.minted == []
    assert bench.is_at_rest()


def test_a_result_that_is_gone_leaves_nothing(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "completed")
    bench.files.failing = ResultMissingError("404")
    with pytest.raises(ResultMissingError):
        bench.service.promote_to_models("alice", "job-1", call_context())
    assert bench.storage.files == bench.models.models == {}
    assert bench.is_at_rest()


def test_without_a_free_slot_nothing_is_pulled_and_no_lease_is_held(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "completed")
    bench.take_all_slots()
    with pytest.raises(UploadCapacityError):
        bench.service.promote_to_models("alice", "job-1", call_context())
    assert bench.leases.holders == {}
    assert bench.files.pulls == 0


# --- download


def test_a_download_mints_one_token_for_one_object(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "completed")
    url = bench.service.download_redirect_url("alice", "job-1", call_context())
    assert url == "https://files.example/files/a/b?access_token=download-1"
    assert bench.member_center.minted == ["a/b"]


@pytest.mark.parametrize("failure", [DownloadTokenFailedError("no"), IDPUnavailableError("down")])
def test_a_token_that_cannot_be_minted_fails_the_download(bench: Bench, failure: GatewayError) -> None:
    bench.knows_job("job-1", "alice", "completed")
    bench.member_center.failing = failure
    with pytest.raises(type(failure)):
        bench.service.download_redirect_url("alice", "job-1", call_context())


@pytest.mark.parametrize(
    ("promotion", "filename", "size"),
    [
        (Promotion("k", "r.nef", 7, None, None), "r.nef", 7),
        (Promotion("k", None, None, None, None), "job-1.nef", None),
        (Promotion("k", "../x.nef", 0, None, None), "x.nef", 0),
    ],
)
def test_checking_a_download_mints_nothing(bench: Bench, promotion: Promotion, filename: str, size: int | None) -> None:
    bench.knows_job("job-1", "alice", "completed")
    bench.converter.promotion = promotion
    download = bench.service.check_download("alice", "job-1", call_context())
    assert (download.filename, download.size) == (filename, size)
    assert bench.member_center.minted == []


def test_every_view_of_a_job_shows_the_same_stage_times(bench: Bench) -> None:
    """In a poll, as the running job, and in the history."""
    bench.has_job("job-1", "alice")
    bench.knows_job("job-1", "alice")
    seen = (StageTime("onnx", bench.clock()),)
    bench.ledger.stages["job-1"] = seen
    assert bench.service.get_job("alice", "job-1", call_context()).stages == seen
    active = bench.service.get_active_job("alice", call_context())
    assert active is not None
    assert active.stages == seen
    (view,), _ = bench.service.history("alice", 1, None, call_context())
    assert view.stages == seen


def test_a_view_shows_when_its_upload_started(bench: Bench) -> None:
    """Not the time of the poll."""
    started_at = bench.clock()
    bench.knows_job("job-1", "alice")
    bench.clock.advance(timedelta(hours=1).total_seconds())
    (view,), _ = bench.service.history("alice", 1, None, call_context())
    assert view.started_at == started_at
    assert replace(view.job, progress=None).job_id == "job-1"
