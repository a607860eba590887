"""How long a conversion usually takes: read once a minute, the same for every user, and stored with a new job."""

from datetime import timedelta

from app.domain.job import Job
from app.domain.usual_time import CompletedJob, size_class
from app.errors import ModelStoreUnavailableError
from app.services.usual_times import FRESH_SECONDS
from app.streaming.multipart import UploadMessage
from tests.support.fakes import call_context
from tests.unit.services.bench import Bench, a_body

SIZE = 1000
MODEL = b"model bytes"


def has_completed_jobs(bench: Bench, *, chip: str = "720", size: int = SIZE, seconds: float = 60) -> None:
    began = bench.clock()
    bench.ledger.completed[chip, size_class(size)] = [
        CompletedJob(began, began + timedelta(seconds=seconds)) for _ in range(5)
    ]


def test_chips_and_classes_of_size_are_not_mixed(bench: Bench) -> None:
    has_completed_jobs(bench, seconds=60)
    has_completed_jobs(bench, chip="520", seconds=30)
    has_completed_jobs(bench, size=2 * SIZE, seconds=90)
    medians = [bench.usual_times.of(chip, size) for chip, size in (("720", SIZE), ("520", SIZE), ("720", 2 * SIZE))]
    assert [found.median_seconds for found in medians if found] == [60, 30, 90]
    assert bench.usual_times.of("630", SIZE) is None


def test_a_time_is_read_once_a_minute_also_if_there_is_none(bench: Bench) -> None:
    for _ in range(3):
        assert bench.usual_times.of("720", SIZE) is None
    assert bench.ledger.calls == ["completed_jobs"]
    has_completed_jobs(bench)
    bench.monotonic.advance(FRESH_SECONDS)
    assert bench.usual_times.of("720", SIZE) is not None
    assert bench.ledger.calls == ["completed_jobs"] * 2


def test_without_chip_or_size_nothing_is_read(bench: Bench) -> None:
    assert bench.usual_times.of(None, SIZE) is bench.usual_times.of("720", None) is None
    assert bench.ledger.calls == []


def test_without_a_database_there_is_no_time_until_it_is_back(bench: Bench) -> None:
    has_completed_jobs(bench)
    bench.ledger.failing = ModelStoreUnavailableError("down")
    assert bench.usual_times.of("720", SIZE) is None
    bench.ledger.failing = None
    assert bench.usual_times.of("720", SIZE) is not None


def test_an_upload_tells_the_usual_time_and_its_job_keeps_it(bench: Bench) -> None:
    """Polls and the history show the time of the start, and read no other one."""
    has_completed_jobs(bench, chip="730", size=len(MODEL), seconds=240)
    bench.converter.create = lambda message: started(bench, message)
    expected = {"median_seconds": 240, "p90_seconds": 240, "jobs": 5, "stages": {}}
    assert bench.service.init_job("alice", "b", a_body(), call_context()).usual_time == expected
    bench.ledger.completed.clear()
    bench.ledger.calls.clear()
    bench.monotonic.advance(FRESH_SECONDS)
    assert bench.service.get_job("alice", "new-job", call_context()).usual_time == expected
    [shown], _ = bench.service.history("alice", 10, None, call_context())
    assert shown.usual_time == expected
    assert "completed_jobs" not in bench.ledger.calls


def started(bench: Bench, message: UploadMessage) -> Job:
    for _ in message:
        pass
    bench.has_job("new-job", "alice", parameters={"platform": "730"})
    return bench.converter.jobs["new-job"]
