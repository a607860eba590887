"""Polls: one call a second for many tabs, and a ledger that follows without a query for each poll."""

import threading

import pytest

from app.domain.job import JobError, JobStatus
from app.domain.stages import StageTime
from app.errors import ConverterUnavailableError, JobNotFoundError, ModelStoreUnavailableError
from tests.support.fakes import a_job, call_context
from tests.support.parallel import in_parallel
from tests.unit.services.bench import Bench


def test_a_job_is_fetched_at_most_once_a_second(bench: Bench) -> None:
    bench.has_job("job-1", "alice")
    bench.polled_jobs.get("job-1", call_context())
    bench.monotonic.advance(0.999)
    bench.polled_jobs.get("job-1", call_context())
    assert bench.converter.calls == ["get job-1"]
    bench.monotonic.advance(0.001)
    bench.polled_jobs.get("job-1", call_context())
    assert bench.converter.calls == ["get job-1"] * 2


@pytest.mark.parametrize("round_", range(3))
def test_a_hundred_polls_at_once_make_one_call(bench: Bench, round_: int) -> None:
    bench.has_job("job-1", "alice")
    has_asked = bench.wait_for_callers(99)

    def poll(_: int) -> str:
        has_asked()
        return bench.polled_jobs.get("job-1", call_context()).job_id

    assert in_parallel(100, poll) == ["job-1"] * 100
    assert bench.converter.calls == ["get job-1"]


@pytest.mark.parametrize("round_", range(3))
def test_a_slow_job_does_not_delay_another(bench: Bench, round_: int) -> None:
    bench.has_job("slow", "alice")
    bench.has_job("quick", "alice")
    in_call, go_on = threading.Event(), threading.Event()

    def hold_up(name: str) -> None:
        if name == "get slow":
            in_call.set()
            assert go_on.wait(10)

    bench.converter.before = hold_up
    slow = threading.Thread(target=lambda: bench.polled_jobs.get("slow", call_context()))
    slow.start()
    assert in_call.wait(10)
    assert bench.polled_jobs.get("quick", call_context()).job_id == "quick"
    go_on.set()
    slow.join(10)


@pytest.mark.parametrize("failure", [ConverterUnavailableError("down"), JobNotFoundError("gone")])
def test_failures_are_not_cached(bench: Bench, failure: ConverterUnavailableError) -> None:
    bench.has_job("job-1", "alice")
    bench.converter.failing = failure
    with pytest.raises(type(failure)):
        bench.polled_jobs.get("job-1", call_context())
    bench.converter.failing = None
    assert bench.polled_jobs.get("job-1", call_context()).job_id == "job-1"


def test_a_forgotten_job_is_fetched_again(bench: Bench) -> None:
    bench.has_job("job-1", "alice")
    bench.polled_jobs.get("job-1", call_context())
    bench.polled_jobs.forget("job-1")
    bench.polled_jobs.forget("job-1")
    bench.polled_jobs.get("job-1", call_context())
    assert bench.converter.calls == ["get job-1"] * 2


# --- notes


def test_a_changed_state_is_written_with_the_time_of_the_look_before(bench: Bench) -> None:
    """It tells how exact the start of a stage is. A poll that could not be recorded does not count."""
    looks = []
    for stage in ("onnx", "onnx", "bie", "bie"):
        looks.append(bench.clock())
        bench.notes.note("alice", a_job("job-1", "running", stage=stage))
        bench.clock.advance(2)
    assert bench.ledger.looks == [None, looks[1]]
    bench.ledger.failing = ModelStoreUnavailableError("down")
    bench.notes.note("alice", a_job("job-1", "running", stage="nef"))
    bench.ledger.failing = None
    bench.clock.advance(2)
    assert bench.writes.flush()
    assert bench.ledger.looks[-1] == looks[3]
    bench.notes.note("alice", a_job("job-1", "completed"))
    assert bench.ledger.looks[-1] == looks[3]


def test_stage_times_are_read_without_a_query_for_each_poll(bench: Bench) -> None:
    """The times change only with the state. For a job that this process has not recorded, the ledger is queried."""
    seen = (StageTime("onnx", bench.clock()),)
    bench.knows_job("job-1", "alice")
    bench.ledger.stages["job-1"] = seen
    assert bench.notes.stages_of("alice", "job-1") == seen
    assert bench.notes.stages_of("bob", "job-1") == ()
    bench.notes.note("alice", a_job("job-1", "running", stage="onnx"))
    bench.ledger.calls.clear()
    assert bench.notes.stages_of("alice", "job-1") == seen
    assert bench.ledger.calls == []
    bench.ledger.failing = ModelStoreUnavailableError("down")
    assert bench.notes.stages_of("alice", "job-2") == ()


def test_a_state_is_written_when_it_changes_and_only_then(bench: Bench) -> None:
    for status, stage, progress in [
        ("queued", None, 0.0),
        ("queued", None, 0.0),
        ("running", "onnx", 1.0),
        ("running", "onnx", 50.0),
        ("running", "bie", 60.0),
        ("completed", "nef", 100.0),
        ("completed", "nef", 100.0),
    ]:
        bench.notes.note("alice", a_job("job-1", status, stage=stage, progress=progress))
    assert bench.ledger.calls.count("record_job") == 4
    bench.notes.note("alice", a_job("job-1", "failed", error=JobError("e", "m")))
    assert bench.ledger.calls.count("record_job") == 5


def test_a_failing_database_fails_no_poll_and_gets_the_newest_state_later(bench: Bench) -> None:
    """Also if there are no more polls: the last state is the one that ended the job."""
    bench.ledger.failing = ModelStoreUnavailableError("down")
    bench.notes.note("alice", a_job("job-1"))
    bench.notes.note("alice", a_job("job-1", "completed"))
    bench.notes.note("alice", a_job("job-1", "completed"))
    assert bench.ledger.calls.count("record_job") == 2, "one try a state, not one a poll"
    assert bench.notes.find_record("alice", "job-1") is None
    assert bench.notes.upload_of("alice", "job-1").filename == ""
    bench.ledger.failing = None
    assert bench.writes.flush()
    record = bench.ledger.find_job("alice", "job-1")
    assert record is not None
    assert record.job is not None
    assert record.job.status is JobStatus.COMPLETED


def test_the_facts_of_an_upload_are_read_once_and_by_their_owner_only(bench: Bench) -> None:
    bench.has_job("job-1", "alice")
    bench.ownership.running_jobs("alice", call_context())
    assert bench.notes.upload_of("alice", "job-1").filename == ""
    bench.clock.advance(59)
    bench.ledger.rows.clear()
    bench.knows_job("job-1", "alice")
    before = len(bench.ledger.calls)
    for _ in range(3):
        note = bench.notes.upload_of("alice", "job-1")
        assert (note.filename, note.size, note.started_at) == ("job-1.onnx", 11, bench.clock())
    assert len(bench.ledger.calls) == before + 1
    assert bench.notes.upload_of("bob", "job-1").filename == ""


def test_the_name_of_a_job_from_the_converters_list_is_looked_for_in_each_poll_of_a_minute_and_then_once_a_minute(
    bench: Bench,
) -> None:
    """Its upload may be about to record the name in another process; or the name was lost."""
    bench.has_job("job-1", "alice")
    bench.ownership.running_jobs("alice", call_context())
    bench.ledger.calls.clear()
    for _ in range(60):
        bench.notes.upload_of("alice", "job-1")
        bench.clock.advance(1)
    assert bench.ledger.calls.count("find_job") == 60
    bench.ledger.calls.clear()
    for _ in range(600):
        bench.notes.upload_of("alice", "job-1")
        bench.clock.advance(1)
    assert bench.ledger.calls.count("find_job") in {9, 10}


def test_a_process_that_reads_a_record_first_neither_reads_nor_writes_it_again(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "running", stage="onnx")
    bench.ledger.stages["job-1"] = (StageTime("onnx", bench.clock()),)
    bench.ledger.calls.clear()
    view = bench.service.get_job("alice", "job-1", call_context())
    assert (view.filename, view.stages) == ("job-1.onnx", bench.ledger.stages["job-1"])
    assert bench.ledger.calls == ["find_job"]


def test_a_stage_that_the_response_to_an_upload_names_is_recorded_by_the_first_poll(bench: Bench) -> None:
    bench.knows_job("job-1", "alice", "running", stage="onnx")
    bench.ledger.calls.clear()
    bench.service.get_job("alice", "job-1", call_context())
    assert bench.ledger.calls == ["find_job", "record_job"]


@pytest.mark.parametrize("has_stages", [True, False])
def test_stage_times_come_back_with_the_next_poll_after_an_older_record_was_read(
    bench: Bench, has_stages: bool
) -> None:
    """A page of the history, for example, was read just before a poll recorded the next stage."""
    onnx, bie = StageTime("onnx", bench.clock()), StageTime("bie", bench.clock())
    bench.knows_job("job-1", "alice", "running", stage="onnx")
    bench.ledger.stages["job-1"] = (onnx,) if has_stages else ()
    older = bench.ledger.find_job("alice", "job-1")
    assert older is not None
    bench.ledger.stages["job-1"] = (onnx, bie)
    bench.notes.note("alice", a_job("job-1", "running", stage="bie"))
    bench.notes.learn(older)
    bench.notes.note("alice", a_job("job-1", "running", stage="bie"))
    assert bench.notes.stages_of("alice", "job-1") == (onnx, bie)
