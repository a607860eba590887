"""Ownership of jobs: proved by the cache, the ledger or the converter's list, and denied alike in all other cases."""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest
import structlog

from app.domain.call import CallContext, Deadline
from app.domain.job import Job, JobStatus
from app.errors import (
    ConverterUnavailableError,
    DeadlineExceededError,
    GatewayError,
    JobNotFoundError,
    ModelStoreUnavailableError,
    OwnershipMismatchError,
)
from tests.support.clocks import FakeSleep
from tests.support.counts import increase
from tests.support.fakes import a_job, call_context
from tests.support.parallel import in_parallel
from tests.unit.services.bench import Bench

THREE_TIMES = pytest.mark.parametrize("round_", range(3))


def is_owner(bench: Bench, user_id: str, job_id: str) -> bool:
    try:
        bench.ownership.require(user_id, job_id, call_context())
    except JobNotFoundError:
        return False
    return True


def test_the_ledger_proves_a_job_without_asking_the_converter(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "completed")
    assert is_owner(bench, "alice", "job-1")
    assert bench.converter.calls == []


def test_memory_proves_a_job_without_asking_anybody(bench: Bench) -> None:
    bench.knows_job("job-1", "alice")
    assert is_owner(bench, "alice", "job-1")
    bench.ledger.failing = ModelStoreUnavailableError("down")
    assert is_owner(bench, "alice", "job-1")


def test_a_running_job_that_nobody_remembers_is_rebuilt_from_the_converters_list(bench: Bench) -> None:
    bench.has_job("job-1", "alice")
    assert is_owner(bench, "alice", "job-1")
    assert bench.ledger.find_job("alice", "job-1") is not None
    assert is_owner(bench, "alice", "job-1")
    assert bench.converter.calls == ["list alice"]


def test_a_foreign_job_takes_the_same_steps_as_an_absent_one(bench: Bench) -> None:
    """Same failure, same number of calls: nothing tells another user that the job exists."""
    other = Bench()
    for one, job_id in ((bench, "job-1"), (other, "job-nowhere")):
        one.knows_job("job-1", "bob")
        with pytest.raises(JobNotFoundError) as caught:
            one.ownership.require("alice", job_id, call_context())
        assert type(caught.value) is JobNotFoundError
    assert bench.converter.calls == other.converter.calls == ["list alice"]
    assert bench.ledger.calls == other.ledger.calls


@pytest.mark.parametrize("failure", [ConverterUnavailableError("down"), DeadlineExceededError("late")])
def test_while_the_converter_is_down_ownership_is_never_proved(bench: Bench, failure: GatewayError) -> None:
    bench.knows_job("job-1", "bob")
    bench.converter.failing = failure
    for job_id in ("job-1", "job-nowhere"):
        with pytest.raises(type(failure)):
            bench.ownership.require("alice", job_id, call_context())
    bench.converter.failing = None
    bench.has_job("job-2", "alice")
    assert is_owner(bench, "alice", "job-2"), "a failure is no miss: the list is asked again at once"


def test_while_the_database_is_down_ownership_is_never_proved(bench: Bench) -> None:
    bench.has_job("job-1", "alice")
    bench.ledger.failing = ModelStoreUnavailableError("down")
    with pytest.raises(ModelStoreUnavailableError):
        bench.ownership.require("alice", "job-1", call_context())


def test_a_miss_is_cached_for_five_seconds_and_for_that_user_only(bench: Bench) -> None:
    assert not is_owner(bench, "alice", "job-1")
    bench.monotonic.advance(4.999)
    assert not is_owner(bench, "alice", "job-2")
    assert bench.converter.calls == ["list alice"]
    assert not is_owner(bench, "bob", "job-1")
    assert bench.converter.calls == ["list alice", "list bob"]
    bench.monotonic.advance(0.001)
    assert not is_owner(bench, "alice", "job-1")
    assert bench.converter.calls == ["list alice", "list bob", "list alice"]


def test_a_miss_hides_nothing_that_the_ledger_knows(bench: Bench) -> None:
    assert not is_owner(bench, "alice", "job-1")
    bench.knows_job("job-1", "alice")
    assert is_owner(bench, "alice", "job-1")


def test_a_started_job_clears_the_miss(bench: Bench) -> None:
    assert not is_owner(bench, "alice", "job-1")
    note_started(bench, "alice", a_job("job-1"))
    assert is_owner(bench, "alice", "job-1")
    bench.has_job("job-2", "alice")
    assert is_owner(bench, "alice", "job-2")


def test_the_list_of_running_jobs_never_reads_misses(bench: Bench) -> None:
    assert not is_owner(bench, "alice", "job-1")
    bench.has_job("job-1", "alice")
    assert [job.job_id for job in bench.ownership.running_jobs("alice", call_context())] == ["job-1"]


@THREE_TIMES
def test_a_hundred_callers_of_one_user_make_one_call(bench: Bench, round_: int) -> None:
    bench.has_job("job-1", "alice")
    has_asked = bench.wait_for_callers(99)

    def ask(_: int) -> bool:
        has_asked()
        bench.ownership.require("alice", "job-1", call_context())
        return True

    assert in_parallel(100, ask) == [True] * 100
    assert bench.converter.calls.count("list alice") == 1


@THREE_TIMES
def test_the_lists_of_different_users_are_fetched_in_parallel(bench: Bench, round_: int) -> None:
    all_in_their_calls = threading.Barrier(10)
    bench.converter.before = lambda name: all_in_their_calls.wait(60) and None
    for number in range(10):
        bench.has_job(f"job-{number}", f"user-{number}")
    owners = in_parallel(10, lambda n: bench.ownership.require(f"user-{n}", f"job-{n}", call_context()))
    assert owners == [None] * 10


@THREE_TIMES
def test_a_failing_list_is_one_call_and_fails_every_caller(bench: Bench, round_: int) -> None:
    bench.converter.before = lambda name: bench.converter.waiting.until(19)
    bench.converter.failing = ConverterUnavailableError("down")
    failures = in_parallel(20, lambda _: bench.ownership.require("alice", "job-1", call_context()))
    assert bench.converter.calls == ["list alice"]
    assert {type(failure) for failure in failures} == {ConverterUnavailableError}
    assert len({id(failure) for failure in failures}) == 20


def test_an_owner_that_the_converter_names_overrules_the_cache(bench: Bench) -> None:
    bench.knows_job("job-1", "alice")
    assert is_owner(bench, "alice", "job-1")
    bench.ownership.check_owner("alice", a_job("job-1"))
    bench.ownership.check_owner("alice", a_job("job-1", user_id="alice"))
    with pytest.raises(OwnershipMismatchError):
        bench.ownership.check_owner("alice", a_job("job-1", user_id="bob"))
    assert "job-1" not in bench.ownership._owners


# --- noting what an upload has started


def note_started(bench: Bench, user_id: str, job: Job) -> None:
    bench.ledger.open_upload("upload-1", user_id, bench.clock())
    upload = bench.ledger.rows["upload-1"]
    bench.ledger.failing = bench.database_failure
    bench.ownership.note_started(upload, job, filename="m.onnx", size=1)


def note_without_database(bench: Bench, user_id: str) -> None:
    """Note a started job while the database is down, which stays down."""
    bench.database_failure = ModelStoreUnavailableError("down")
    note_started(bench, user_id, a_job("job-1"))


def test_a_started_job_is_its_owners_also_if_it_cannot_be_recorded(bench: Bench) -> None:
    note_without_database(bench, "alice")
    assert is_owner(bench, "alice", "job-1")


def test_a_job_that_cannot_be_recorded_is_an_alert_and_is_recorded_later(bench: Bench) -> None:
    bench.database_failure = ModelStoreUnavailableError("down")
    bench.has_job("job-1", "alice", "completed")
    with structlog.testing.capture_logs() as logs:
        note_started(bench, "alice", a_job("job-1", "queued"))
    alarms = [entry for entry in logs if entry["event"] == "ledger.job_not_noted"]
    assert [(entry["log_level"], entry["job_id"]) for entry in alarms] == [("error", "job-1")]
    assert bench.monotonic() - 1_000 <= 2, "the response waits for a moment only"
    assert not bench.writes.flush()

    bench.ledger.failing = None
    assert not bench.writes.flush(), "the job's state is still to be asked for"
    row = bench.ledger.rows["upload-1"]
    assert (row.job_id, row.filename, row.size) == ("job-1", "m.onnx", 1)
    assert bench.writes.flush()
    job = bench.ledger.rows["upload-1"].job
    assert job is not None
    assert job.status is JobStatus.COMPLETED, "as the converter has it by now"
    assert is_owner(Bench(ledger=bench.ledger), "alice", "job-1"), "for every worker"


@pytest.mark.parametrize("failure", [ConverterUnavailableError("down"), JobNotFoundError("forgotten")])
def test_a_late_record_does_not_depend_on_the_converter(bench: Bench, failure: GatewayError) -> None:
    note_without_database(bench, "alice")
    bench.ledger.failing, bench.converter.failing = None, failure
    bench.writes.flush()
    assert bench.writes.flush()
    assert bench.ledger.rows["upload-1"].job_id == "job-1"


def test_a_short_failure_of_the_database_is_waited_for(bench: Bench) -> None:
    bench.database_failure = ModelStoreUnavailableError("down")

    class Recovering(FakeSleep):
        def __call__(self, seconds: float) -> None:
            super().__call__(seconds)
            bench.ledger.failing = None

    bench.writes._sleep = Recovering(bench.monotonic)
    note_started(bench, "alice", a_job("job-1"))
    assert bench.ledger.rows["upload-1"].job_id == "job-1"
    assert len(bench.writes) == 0


def test_a_job_that_the_ledger_has_as_another_users_is_not_reassigned(bench: Bench) -> None:
    bench.knows_job("job-1", "bob")
    with pytest.raises(OwnershipMismatchError):
        note_started(bench, "alice", a_job("job-1"))
    assert not is_owner(bench, "alice", "job-1")
    assert is_owner(bench, "bob", "job-1")
    assert bench.ledger.owners_of(["job-1"]) == {"job-1": "bob"}


def test_a_job_that_this_process_knows_as_another_users_is_not_reassigned_while_the_database_is_away(
    bench: Bench,
) -> None:
    note_without_database(bench, "bob")
    bench.ledger.failing = bench.database_failure = None
    with pytest.raises(OwnershipMismatchError):
        note_started(bench, "alice", a_job("job-1"))
    assert is_owner(bench, "bob", "job-1")


def test_a_late_record_that_the_ledger_contradicts_is_dropped(bench: Bench) -> None:
    note_without_database(bench, "alice")
    bench.ledger.failing = None
    bench.knows_job("job-1", "bob", user_id=None)
    assert bench.writes.flush()
    assert not is_owner(bench, "alice", "job-1")
    assert is_owner(bench, "bob", "job-1")


def test_a_converter_that_names_the_caller_overrules_the_ledger_which_keeps_its_owner(bench: Bench) -> None:
    bench.knows_job("job-1", "bob", user_id="alice")
    contradicted = increase("visiona_ownership_total", decision="contradicted")
    note_started(bench, "alice", a_job("job-1", user_id="alice"))
    assert is_owner(bench, "alice", "job-1")
    assert bench.ledger.owners_of(["job-1"]) == {"job-1": "bob"}
    assert contradicted() == 1
    bench.converter.owners["job-1"] = "alice"
    assert [job.job_id for job in bench.ownership.running_jobs("alice", call_context())] == ["job-1"]
    with pytest.raises(OwnershipMismatchError):
        bench.ownership.check_owner("bob", bench.converter.jobs["job-1"])


def test_a_job_that_was_never_recorded_is_found_by_its_id_after_it_has_ended(bench: Bench) -> None:
    """The worker that knew it was killed; its owner knows the id from the response to the upload."""
    bench.ledger.open_upload("upload-1", "alice", bench.clock())
    bench.has_job("job-1", "alice", "completed")
    assert is_owner(bench, "alice", "job-1")
    assert bench.ledger.rows["upload-1"].job_id == "job-1"
    assert bench.converter.calls == ["list alice", "get job-1"]


@pytest.mark.parametrize("named", ["bob", None])
def test_a_pending_upload_gives_nobody_an_ended_job_that_does_not_name_them(bench: Bench, named: str | None) -> None:
    """A job that exists takes the same steps as one that does not."""
    other = Bench()
    for one, job_id in ((bench, "job-1"), (other, "job-nowhere")):
        one.ledger.open_upload("upload-1", "alice", one.clock())
        one.has_job("job-1", "bob", "completed", user_id=named, created_at=one.clock())
        assert not is_owner(one, "alice", job_id)
        assert not is_owner(one, "alice", job_id)
        assert one.ledger.rows["upload-1"].job_id is None
    assert bench.converter.calls == ["list alice", "get job-1"]
    assert other.converter.calls == ["list alice", "get job-nowhere"]
    assert bench.ledger.calls == other.ledger.calls


def test_while_the_converter_fails_a_pending_uploads_job_is_neither_found_nor_denied(bench: Bench) -> None:
    bench.ledger.open_upload("upload-1", "alice", bench.clock())
    bench.has_job("job-1", "alice", "completed")

    def fail(name: str) -> None:
        bench.converter.failing = ConverterUnavailableError("down") if name.startswith("get") else None

    bench.converter.before = fail
    with pytest.raises(ConverterUnavailableError):
        bench.ownership.require("alice", "job-1", call_context())


# --- jobs of which the converter does not say whose they are


def unnamed(bench: Bench, job_id: str, listed_for: str, created_minutes_ago: float | None = None) -> None:
    created_at = None if created_minutes_ago is None else bench.clock() - timedelta(minutes=created_minutes_ago)
    bench.has_job(job_id, listed_for, user_id=None, created_at=created_at)


def test_a_listed_job_that_the_ledger_has_as_another_users_is_not_the_callers(bench: Bench) -> None:
    """It is neither shown, nor found, nor cached, and stays the other user's."""
    bench.knows_job("job-1", "bob")
    unnamed(bench, "job-1", listed_for="alice", created_minutes_ago=0)
    bench.ledger.open_upload("pending", "alice", bench.clock())
    with structlog.testing.capture_logs() as logs:
        assert bench.ownership.running_jobs("alice", call_context()) == []
    assert [entry["job_id"] for entry in logs if entry["event"] == "ownership.not_the_callers"] == ["job-1"]
    assert not is_owner(bench, "alice", "job-1")
    assert bench.ownership.find_started(bench.ledger.rows["pending"], call_context()) is None
    assert bench.ledger.rows["pending"].job_id is None
    assert bench.ledger.owners_of(["job-1"]) == {"job-1": "bob"}


def test_what_this_process_remembers_counts_until_it_is_in_the_ledger(bench: Bench) -> None:
    note_without_database(bench, "bob")
    bench.ledger.failing = None
    unnamed(bench, "job-1", listed_for="alice", created_minutes_ago=0)
    bench.ledger.open_upload("pending", "alice", bench.clock())
    assert bench.ownership.running_jobs("alice", call_context()) == []


def test_a_listed_job_that_nobody_accounts_for_is_not_the_callers(bench: Bench) -> None:
    denied = increase("visiona_ownership_total", decision="unattributed")
    unnamed(bench, "job-1", listed_for="alice", created_minutes_ago=0)
    assert bench.ownership.running_jobs("alice", call_context()) == []
    assert not is_owner(bench, "alice", "job-1")
    assert bench.ledger.rows == {}
    assert denied() == 2


def test_the_longest_possible_list_is_checked_quickly(bench: Bench) -> None:
    """A search through the accepted jobs for each one took 15 s for 8,000 jobs."""
    listed = [a_job(f"job-{number}", user_id="alice") for number in range(8_000)]
    began = time.thread_time()
    assert len(bench.ownership.accept("alice", listed)) == len(listed)
    assert time.thread_time() - began < 2


def test_a_listed_job_that_fits_a_pending_upload_is_the_callers(bench: Bench) -> None:
    bench.ledger.open_upload("pending", "alice", bench.clock())
    unnamed(bench, "job-1", listed_for="alice", created_minutes_ago=0)
    assert is_owner(bench, "alice", "job-1")
    assert bench.ledger.rows["pending"].job_id == "job-1"


def test_a_job_that_is_recorded_for_another_user_meanwhile_is_not_shown(bench: Bench) -> None:
    """Between the decision and the record, the other user's upload was recorded."""
    bench.ledger.open_upload("pending", "alice", bench.clock())
    unnamed(bench, "job-1", listed_for="alice", created_minutes_ago=0)
    decide = bench.ownership.accept

    def decide_and_lose(user_id: str, jobs: Sequence[Job]) -> list[Job]:
        accepted = decide(user_id, jobs)
        bench.ledger.record_job("bob", a_job("job-1"))
        return accepted

    bench.ownership.accept = decide_and_lose  # type: ignore[method-assign]
    assert bench.ownership.running_jobs("alice", call_context()) == []
    assert bench.ledger.owners_of(["job-1"]) == {"job-1": "bob"}


# --- uploads whose response was lost


def test_a_pending_upload_is_matched_with_the_job_that_nobody_accounts_for(bench: Bench) -> None:
    bench.ledger.open_upload("upload-1", "alice", bench.clock())
    bench.has_job("job-1", "alice", created_at=bench.clock())
    assert is_owner(bench, "alice", "job-1")
    assert bench.ledger.rows["upload-1"].job_id == "job-1"
    assert list(bench.ledger.rows) == ["upload-1"]


def test_the_newest_of_two_pending_uploads_gets_the_job_and_no_other_users(bench: Bench) -> None:
    """A user has one upload at a time, and none begins while a job runs."""
    bench.ledger.open_upload("upload-1", "alice", bench.clock())
    bench.ledger.open_upload("upload-2", "alice", bench.clock() + timedelta(seconds=1))
    bench.ledger.open_upload("upload-3", "bob", bench.clock())
    bench.has_job("job-1", "alice")
    bench.ownership.running_jobs("alice", call_context())
    bench.ownership.running_jobs("alice", call_context())
    assert {row.upload_id: row.job_id for row in bench.ledger.rows.values()} == {
        "upload-1": None,
        "upload-2": "job-1",
        "upload-3": None,
    }


def test_a_job_that_is_older_than_the_upload_is_not_matched(bench: Bench) -> None:
    bench.ledger.open_upload("upload-1", "alice", bench.clock())
    bench.has_job("job-1", "alice", created_at=bench.clock() - timedelta(minutes=6))
    bench.ownership.running_jobs("alice", call_context())
    assert bench.ledger.rows["upload-1"].job_id is None


@pytest.mark.parametrize(("minutes", "found"), [(None, True), (0, True), (-5, True), (-5.01, False), (5.01, False)])
def test_a_job_is_matched_with_an_unanswered_upload_only_if_its_time_fits(
    bench: Bench, minutes: float | None, found: bool
) -> None:
    """The clocks may differ by five minutes."""
    bench.ledger.open_upload("upload-1", "alice", bench.clock())
    created_at = None if minutes is None else bench.clock() + timedelta(minutes=minutes)
    bench.has_job("job-1", "alice", created_at=created_at)
    assert (bench.ownership.find_started(bench.ledger.rows["upload-1"], call_context()) is not None) is found


def test_a_waiter_whose_time_runs_out_gets_a_deadline_error(bench: Bench) -> None:
    in_call, go_on = threading.Event(), threading.Event()

    def hold_up(name: str) -> None:
        in_call.set()
        assert go_on.wait(10)

    bench.converter.before = hold_up
    leader = threading.Thread(target=lambda: bench.ownership.running_jobs("alice", call_context()))
    leader.start()
    assert in_call.wait(10)
    with pytest.raises(DeadlineExceededError):
        bench.ownership.running_jobs("alice", CallContext(Deadline(0)))
    go_on.set()
    leader.join(10)
