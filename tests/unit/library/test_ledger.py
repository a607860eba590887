"""The ledger: a job's row appears before its upload, never changes its owner, and never goes back in time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from app.domain.job import Job, JobError, JobStatus
from app.domain.job_record import JobRecord
from app.domain.stages import StageTime
from app.domain.usual_time import size_class
from app.errors import OwnershipMismatchError
from app.library.database import Database, UniqueViolationError
from app.library.ledger import SQLJobLedger
from app.library.tables import jobs
from tests.support.clocks import FakeClock
from tests.support.parallel import in_parallel

RUNNING = Job("job", JobStatus.RUNNING, user_id="alice", stage="bie", progress=41.5)
COMPLETED = Job("job", JobStatus.COMPLETED, user_id="alice", stage="nef", progress=100.0)


def recorded(ledger: SQLJobLedger, user_id: str = "alice", job_id: str = "job") -> JobRecord:
    record = ledger.find_job(user_id, job_id)
    assert record is not None
    return record


def test_an_upload_is_pending_until_it_has_its_job(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.open_upload("upload", "alice", clock.now)
    pending = JobRecord("upload", "alice", None, "", None, clock.now, None)
    assert ledger.pending_uploads("alice") == [pending]
    assert ledger.history("alice", limit=10, after=None) == []

    ledger.assign_job("alice", "upload", RUNNING, filename="模型.onnx", size=6 * 1024**3)
    assert ledger.pending_uploads("alice") == []
    record = JobRecord("upload", "alice", "job", "模型.onnx", 6 * 1024**3, clock.now, RUNNING)
    assert ledger.find_job("alice", "job") == record
    assert ledger.history("alice", limit=10, after=None) == [record]


def test_everything_that_the_converter_says_of_a_job_is_stored(ledger: SQLJobLedger, clock: FakeClock) -> None:
    job = Job(
        "job",
        JobStatus.FAILED,
        user_id="alice",
        stage="nef",
        progress=66.6,
        created_at=clock.now - timedelta(minutes=5),
        updated_at=clock.now,
        parameters={"model_id": 1000, "版本": "v1", "quantize": True, "\x00": 0.5},
        error=JobError("E42", "不支援的運算子"),
    )
    ledger.record_job("alice", job)
    record = recorded(ledger)
    assert (record.job, record.started_at) == (job, job.created_at)


def test_opening_an_upload_again_changes_nothing(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.open_upload("upload", "alice", clock.now)
    ledger.open_upload("upload", "bob", clock.now + timedelta(1))
    assert [record.started_at for record in ledger.pending_uploads("alice")] == [clock.now]
    assert ledger.pending_uploads("bob") == []


def test_pending_uploads_are_listed_by_user_oldest_first(ledger: SQLJobLedger, clock: FakeClock) -> None:
    for number in (2, 1, 3):
        ledger.open_upload(f"upload-{number}", "alice", clock.now + timedelta(seconds=number))
    ledger.open_upload("bobs", "bob", clock.now)
    assert [record.upload_id for record in ledger.pending_uploads("alice")] == ["upload-1", "upload-2", "upload-3"]


def test_users_with_pending_uploads_are_listed_once(ledger: SQLJobLedger, clock: FakeClock) -> None:
    for upload_id, user_id in (("a", "alice"), ("b", "alice"), ("c", "bob"), ("d", "carol")):
        ledger.open_upload(upload_id, user_id, clock.now)
    ledger.open_upload("late", "dave", clock.now + timedelta(seconds=1))
    ledger.assign_job("carol", "d", RUNNING, filename="", size=None)
    assert ledger.users_with_pending_uploads(started_before=clock.now + timedelta(seconds=1)) == ["alice", "bob"]


def test_a_discarded_upload_is_gone_but_one_with_a_job_stays(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.open_upload("failed", "alice", clock.now)
    ledger.open_upload("upload", "alice", clock.now)
    ledger.assign_job("alice", "upload", RUNNING, filename="m.onnx", size=1)
    for upload_id in ("failed", "upload", "absent"):
        ledger.discard_upload(upload_id)
    assert ledger.pending_uploads("alice") == []
    assert ledger.find_job("alice", "job") is not None


def test_assigning_the_same_job_again_changes_nothing(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.open_upload("upload", "alice", clock.now)
    ledger.assign_job("alice", "upload", COMPLETED, filename="m.onnx", size=1)
    before = ledger.find_job("alice", "job")
    ledger.assign_job("alice", "upload", RUNNING, filename="other", size=2)
    assert ledger.find_job("alice", "job") == before


def test_a_job_that_a_poll_recorded_first_replaces_the_pending_row(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.open_upload("upload", "alice", clock.now)
    ledger.record_job("alice", COMPLETED)
    ledger.assign_job("alice", "upload", RUNNING, filename="m.onnx", size=1)
    assert ledger.pending_uploads("alice") == []
    (record,) = ledger.history("alice", limit=10, after=None)
    assert (record.filename, record.size, record.job) == ("m.onnx", 1, COMPLETED)


@pytest.mark.parametrize("recorded_by", ["nobody", "a poll", "a search for lost uploads"])
def test_the_advice_is_stored_with_the_job_and_stays(ledger: SQLJobLedger, clock: FakeClock, recorded_by: str) -> None:
    advice = {"format": "onnx", "chip": "720", "nodes": ["卷積"]}
    ledger.open_upload("upload", "alice", clock.now)
    if recorded_by == "a poll":
        ledger.record_job("alice", RUNNING)
    elif recorded_by == "a search for lost uploads":
        ledger.assign_job("alice", "upload", RUNNING, filename="", size=None)
    assert recorded_by == "nobody" or recorded(ledger).advice is None
    ledger.assign_job("alice", "upload", RUNNING, filename="m.onnx", size=1, advice=advice)
    assert ledger.record_job("alice", COMPLETED).advice == advice
    assert recorded(ledger).advice == ledger.history("alice", limit=1, after=None)[0].advice == advice


def test_a_job_of_another_user_is_never_assigned(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.record_job("bob", replace(RUNNING, user_id="bob"))
    ledger.open_upload("upload", "alice", clock.now)
    with pytest.raises(OwnershipMismatchError):
        ledger.assign_job("alice", "upload", COMPLETED, filename="m.onnx", size=1)
    with pytest.raises(OwnershipMismatchError):
        ledger.record_job("alice", COMPLETED)
    assert ledger.find_job("alice", "job") is None
    assert [record.upload_id for record in ledger.pending_uploads("alice")] == ["upload"]
    record = recorded(ledger, "bob")
    assert (record.job, record.filename) == (replace(RUNNING, user_id="bob"), "")


@pytest.mark.parametrize("named", ["alice", None])
def test_a_job_whose_pending_row_is_gone_still_gets_its_owner(ledger: SQLJobLedger, named: str | None) -> None:
    ledger.assign_job("alice", "gone", replace(RUNNING, user_id=named), filename="m.onnx", size=1)
    record = recorded(ledger)
    assert (record.filename, record.job) == ("m.onnx", RUNNING)


def test_a_job_is_not_assigned_to_another_users_upload(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.open_upload("bobs", "bob", clock.now)
    ledger.assign_job("alice", "bobs", RUNNING, filename="m.onnx", size=1)
    assert [record.upload_id for record in ledger.pending_uploads("bob")] == ["bobs"]
    assert ledger.find_job("alice", "job") is not None


def test_the_ledger_returns_the_owners_of_jobs(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.record_job("alice", RUNNING)
    ledger.record_job("bob", replace(RUNNING, job_id="bobs", user_id=None))
    ledger.open_upload("pending", "carol", clock.now)
    assert ledger.owners_of(["job", "bobs", "absent"]) == {"job": "alice", "bobs": "bob"}
    assert ledger.owners_of([]) == {}


def test_an_upload_that_has_a_job_keeps_it_and_another_job_gets_its_own_row(
    ledger: SQLJobLedger, clock: FakeClock
) -> None:
    ledger.open_upload("upload", "alice", clock.now)
    ledger.assign_job("alice", "upload", RUNNING, filename="m.onnx", size=1)
    ledger.assign_job("alice", "upload", replace(RUNNING, job_id="second"), filename="n.onnx", size=2)
    first, second = recorded(ledger), recorded(ledger, job_id="second")
    assert (first.upload_id, first.filename) == ("upload", "m.onnx")
    assert (second.upload_id != "upload", second.filename) == (True, "n.onnx")


@pytest.mark.parametrize("terminal", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
@pytest.mark.parametrize("late", [JobStatus.QUEUED, JobStatus.RUNNING])
def test_a_terminal_state_is_never_replaced_by_a_running_one(
    ledger: SQLJobLedger, clock: FakeClock, terminal: JobStatus, late: JobStatus
) -> None:
    ended = replace(RUNNING, status=terminal, updated_at=clock.now)
    ledger.record_job("alice", ended)
    ledger.record_job("alice", replace(RUNNING, status=late, updated_at=clock.now + timedelta(hours=1)))
    assert recorded(ledger).job == ended


def test_a_terminal_state_replaces_a_running_one_whatever_their_times(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.record_job("alice", replace(RUNNING, updated_at=clock.now))
    ended = replace(COMPLETED, updated_at=clock.now - timedelta(hours=1))
    ledger.record_job("alice", ended)
    assert recorded(ledger).job == ended


def test_an_older_running_state_never_replaces_a_newer_one(ledger: SQLJobLedger, clock: FakeClock) -> None:
    newer = replace(RUNNING, updated_at=clock.now)
    ledger.record_job("alice", newer)
    ledger.record_job("alice", replace(RUNNING, progress=1.0, updated_at=clock.now - timedelta(microseconds=1)))
    assert recorded(ledger).job == newer


def test_a_state_without_a_time_counts_as_newer(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.record_job("alice", replace(RUNNING, updated_at=clock.now))
    ledger.record_job("alice", replace(RUNNING, progress=50.0))
    assert recorded(ledger).job == replace(RUNNING, progress=50.0, updated_at=clock.now)


def test_what_a_later_response_leaves_out_stays(ledger: SQLJobLedger, clock: FakeClock) -> None:
    full = replace(
        RUNNING,
        status=JobStatus.FAILED,
        created_at=clock.now,
        parameters={"model_id": 1000},
        error=JobError("E42", "unsupported"),
    )
    ledger.record_job("alice", full)
    ledger.record_job("alice", replace(full, created_at=None, parameters={}, error=None))
    assert recorded(ledger).job == full


def test_a_job_of_another_user_is_left_alone(ledger: SQLJobLedger) -> None:
    ledger.record_job("alice", RUNNING)
    with pytest.raises(OwnershipMismatchError):
        ledger.record_job("bob", replace(COMPLETED, user_id="bob"))
    assert ledger.find_job("bob", "job") is None
    assert recorded(ledger).job == RUNNING


def test_a_fast_clock_of_the_converter_does_not_date_a_job_into_the_future(
    ledger: SQLJobLedger, clock: FakeClock
) -> None:
    ledger.record_job("alice", replace(RUNNING, created_at=datetime(9999, 1, 1, tzinfo=UTC)))
    assert recorded(ledger).started_at == clock.now


def test_a_status_of_a_later_version_reads_as_running(ledger: SQLJobLedger, database: Database) -> None:
    ledger.record_job("alice", RUNNING)
    with database.write() as connection:
        connection.execute(sa.update(jobs).values(status="paused"))
    assert recorded(ledger).job == RUNNING


def test_history_lists_every_job_once_newest_first_even_with_equal_times(
    ledger: SQLJobLedger, clock: FakeClock
) -> None:
    for number in range(10):
        upload_id = f"upload-{number}"
        ledger.open_upload(upload_id, "alice", clock.now + timedelta(microseconds=number // 3))
        ledger.assign_job("alice", upload_id, replace(RUNNING, job_id=f"job-{number}"), filename="m.onnx", size=1)
    ledger.record_job("bob", replace(RUNNING, user_id="bob"))
    ledger.open_upload("pending", "alice", clock.now)
    seen: list[JobRecord] = []
    while page := ledger.history("alice", limit=4, after=(seen[-1].started_at, seen[-1].upload_id) if seen else None):
        seen.extend(page)
    assert [record.job_id for record in seen] == [f"job-{number}" for number in reversed(range(10))]


def test_the_times_of_stages_are_stored_for_later_requests(ledger: SQLJobLedger, clock: FakeClock) -> None:
    """Each poll gets all known times, and so does every later one, of the owner only."""
    began = clock.now
    first = ledger.record_job("alice", replace(RUNNING, stage="onnx"), last_look=clock.now - timedelta(seconds=2))
    assert first.stages == (StageTime("onnx", began),)
    clock.advance(5)
    second = ledger.record_job("alice", RUNNING)
    assert second.stages == (StageTime("onnx", began, clock.now), StageTime("bie", clock.now, is_approximate=True))
    assert ledger.find_job("alice", "job") == second
    assert ledger.history("alice", limit=1, after=None) == [second]


def test_a_stale_response_does_not_change_the_stages(ledger: SQLJobLedger, clock: FakeClock) -> None:
    known = ledger.record_job("alice", replace(RUNNING, updated_at=clock.now))
    late = replace(RUNNING, stage="nef", updated_at=clock.now - timedelta(seconds=1))
    assert ledger.record_job("alice", late) == known
    with pytest.raises(OwnershipMismatchError):
        ledger.record_job("bob", replace(RUNNING, stage="nef", user_id="bob"))
    assert ledger.find_job("alice", "job") == known


def test_concurrent_observers_of_a_stage_store_one_time(ledger: SQLJobLedger, clock: FakeClock) -> None:
    """Workers see the begin of a stage one after the other or at once. All of them return the first one's time."""
    ledger.record_job("alice", replace(RUNNING, stage="onnx"))
    told: list[object] = []

    def look(_: int = 0) -> None:
        state = replace(RUNNING, updated_at=clock.now + timedelta(seconds=len(told)))
        told.append(ledger.record_job("alice", state).stages)

    clock.advance(60)
    assert in_parallel(6, look) == [None] * 6
    clock.advance(3)
    look()
    assert all(seen == told[-1] for seen in told)


def test_concurrent_polls_of_a_job_leave_one_row_in_its_final_state(ledger: SQLJobLedger) -> None:
    states = [replace(RUNNING, progress=float(number)) for number in range(19)] + [COMPLETED]
    outcomes = in_parallel(len(states), lambda number: ledger.record_job("alice", states[number]))
    assert {type(outcome) for outcome in outcomes} == {JobRecord}
    (record,) = ledger.history("alice", limit=10, after=None)
    assert record.job == COMPLETED


def test_one_of_several_concurrent_users_owns_a_job(ledger: SQLJobLedger) -> None:
    users = [f"user-{number}" for number in range(10)]

    outcomes = in_parallel(len(users), lambda number: ledger.record_job(users[number], RUNNING))
    assert {type(outcome) for outcome in outcomes} == {JobRecord, OwnershipMismatchError}
    assert sum(ledger.find_job(user, "job") is not None for user in users) == 1


def test_concurrent_assigning_and_polling_leave_one_row_with_the_file_name(
    ledger: SQLJobLedger, clock: FakeClock
) -> None:
    for turn in range(10):
        job = replace(RUNNING, job_id=f"job-{turn}")
        ledger.open_upload(f"upload-{turn}", "alice", clock.now)

        def assign_or_record(number: int, job: Job = job, upload_id: str = f"upload-{turn}") -> None:
            if number < 2:
                ledger.assign_job("alice", upload_id, job, filename="m.onnx", size=1)
            else:
                ledger.record_job("alice", job)

        assert in_parallel(6, assign_or_record) == [None] * 6
    records = ledger.history("alice", limit=100, after=None)
    assert [record.filename for record in records] == ["m.onnx"] * 10
    assert ledger.pending_uploads("alice") == []


class Raced:
    """A database in which a concurrent writer is faster for this many writes, as can happen on PostgreSQL."""

    def __init__(self, database: Database, losses: int) -> None:
        self._database = database
        self.losses = losses
        self.insert = database.insert

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with self._database.write() as connection:
            yield connection
            self.losses -= 1
            if self.losses >= 0:
                raise UniqueViolationError("somebody has recorded the job meanwhile")


def test_a_conflict_with_a_concurrent_poll_is_retried(
    ledger: SQLJobLedger, database: Database, clock: FakeClock
) -> None:
    """The first try leaves nothing, and the second one finds the other row."""
    ledger.open_upload("upload", "alice", clock.now)
    raced = SQLJobLedger(Raced(database, losses=1), clock=clock)  # type: ignore[arg-type]
    raced.assign_job("alice", "upload", RUNNING, filename="net.onnx", size=3)
    found = recorded(ledger)
    assert (found.upload_id, found.filename) == ("upload", "net.onnx")


def test_a_conflict_on_every_try_is_a_failure(ledger: SQLJobLedger, database: Database, clock: FakeClock) -> None:
    """The upload stays pending, so the next poll matches it."""
    ledger.open_upload("upload", "alice", clock.now)
    raced = SQLJobLedger(Raced(database, losses=100), clock=clock)  # type: ignore[arg-type]
    with pytest.raises(UniqueViolationError):
        raced.assign_job("alice", "upload", RUNNING, filename="net.onnx", size=3)
    assert [record.upload_id for record in ledger.pending_uploads("alice")] == ["upload"]


# --- how long jobs took


def complete(
    ledger: SQLJobLedger, clock: FakeClock, number: int, *, user_id: str = "alice", size: int = 1000, **fields: object
) -> None:
    """Record a job that took `number` seconds, for chip 720 unless `fields` say something else."""
    upload_id, began = f"upload-{user_id}-{number}", clock()
    values = {"status": JobStatus.COMPLETED, "user_id": user_id, "created_at": began, "parameters": {"platform": 720}}
    values["updated_at"] = began + timedelta(seconds=number)
    job = Job(f"job-{user_id}-{number}", **(values | fields))  # type: ignore[arg-type]
    ledger.open_upload(upload_id, user_id, began)
    ledger.assign_job(user_id, upload_id, job, filename="m.onnx", size=size)
    clock.advance(1)


def seconds_of(ledger: SQLJobLedger, limit: int = 100) -> list[float]:
    jobs = ledger.completed_jobs("720", size_class(1000), limit=limit)
    return [(job.ended_at - job.created_at).total_seconds() for job in jobs]


def test_the_newest_completed_jobs_of_all_users_count(ledger: SQLJobLedger, clock: FakeClock) -> None:
    complete(ledger, clock, 10)
    complete(ledger, clock, 20, user_id="bob")
    complete(ledger, clock, 30, user_id="carol", size=1023)
    assert seconds_of(ledger) == [30, 20, 10]
    assert seconds_of(ledger, limit=2) == [30, 20]


def test_other_jobs_do_not_count(ledger: SQLJobLedger, clock: FakeClock) -> None:
    """Of another chip or size, failed, running, without times, or found on the converter's list."""
    complete(ledger, clock, 1, parameters={"platform": "520"})
    complete(ledger, clock, 2, size=1024)
    complete(ledger, clock, 3, status=JobStatus.FAILED)
    complete(ledger, clock, 4, status=JobStatus.RUNNING)
    complete(ledger, clock, 5, updated_at=None)
    complete(ledger, clock, 6, created_at=None)
    complete(ledger, clock, 7, parameters={})
    ledger.record_job("alice", Job("found", JobStatus.COMPLETED, parameters={"platform": "720"}))
    assert seconds_of(ledger) == []


def test_a_job_counts_once_it_has_completed(ledger: SQLJobLedger, clock: FakeClock) -> None:
    complete(ledger, clock, 10, status=JobStatus.RUNNING)
    assert seconds_of(ledger) == []
    job = recorded(ledger, job_id="job-alice-10").job
    assert job is not None
    ledger.record_job("alice", replace(job, status=JobStatus.COMPLETED, parameters={}))
    assert seconds_of(ledger) == [10]


def test_completed_jobs_are_read_by_their_index(ledger: SQLJobLedger, database: Database, clock: FakeClock) -> None:
    complete(ledger, clock, 10)
    explained: list[str] = []

    def explain(connection: sa.Connection, statement: sa.Executable, *_: object) -> None:
        if not isinstance(statement, sa.Select):
            return
        prefix = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        text = statement.compile(connection, compile_kwargs={"literal_binds": True})
        with database.read() as another:
            if another.dialect.name == "postgresql":
                # With so few rows, reading all of them would be cheaper.
                another.execute(sa.text("SET LOCAL enable_seqscan = off"))
            explained.extend(str(row) for row in another.exec_driver_sql(f"{prefix} {text}"))

    sa.event.listen(database._reading, "before_execute", explain)
    ledger.completed_jobs("720", 10, limit=5)
    assert "ix_jobs_completed" in " ".join(explained)
    assert "Sort" not in " ".join(explained), "the index has the order"
    assert "TEMP B-TREE" not in " ".join(explained)
