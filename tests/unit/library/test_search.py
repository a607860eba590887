"""Searching the history and the library: alike on SQLite and PostgreSQL, and exact about who owns what."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from app.domain.filters import JobFilter, ModelFilter
from app.domain.job import Job, JobStatus
from app.domain.model import Model
from app.library.database import Database
from app.library.ledger import SQLJobLedger
from app.library.models import SQLModelStore
from app.library.search import contains_all
from app.library.tables import jobs
from tests.support.clocks import FakeClock

MakeModel = Callable[..., Model]

PARAMETERS: dict[str, Any] = {"platform": "720", "model_id": 32769, "version": "00a1"}

FILENAMES = ["YOLOv5s.onnx", "yolo_街景.tflite", "ÄRGER 100%.onnx", "été[1].onnx", "дом.onnx", "a(b)^$|+?{2}.onnx"]


@pytest.fixture
def add_job(ledger: SQLJobLedger, clock: FakeClock) -> Callable[..., None]:
    """Adds a job of alice, by default a completed one, newer than those before."""

    def add(
        filename: str, *, user_id: str = "alice", status: JobStatus = JobStatus.COMPLETED, **parameters: object
    ) -> None:
        clock.advance(1)
        job = Job(f"job-of-{user_id}-{filename}", status, parameters=PARAMETERS | parameters)
        ledger.open_upload(f"upload-of-{user_id}-{filename}", user_id, clock.now)
        ledger.assign_job(user_id, f"upload-of-{user_id}-{filename}", job, filename=filename, size=1)

    return add


def found(ledger: SQLJobLedger, wanted: JobFilter) -> set[str]:
    return {record.filename for record in ledger.history("alice", limit=100, after=None, wanted=wanted)}


@pytest.mark.parametrize(
    ("words", "filenames"),
    [
        (("yolo",), {"YOLOv5s.onnx", "yolo_街景.tflite"}),
        (("V5S",), {"YOLOv5s.onnx"}),
        (("街景",), {"yolo_街景.tflite"}),
        (("yolo", "tflite"), {"yolo_街景.tflite"}),
        (("ärger",), {"ÄRGER 100%.onnx"}),
        (("ÉTÉ",), {"été[1].onnx"}),
        (("ДОМ",), {"дом.onnx"}),
        (("%",), {"ÄRGER 100%.onnx"}),
        (("_",), {"yolo_街景.tflite"}),
        (("[1]",), {"été[1].onnx"}),
        ((".*",), set()),
        (("a(b", "^$"), {"a(b)^$|+?{2}.onnx"}),
        (("(B)^$|+?{2}.",), {"a(b)^$|+?{2}.onnx"}),
        (("32769", "дом"), {"дом.onnx"}),
        (("00A1", "дом"), {"дом.onnx"}),
        (("32770",), set()),
        # The texts are searched one by one: nothing is found across two of them.
        (("onnx32769",), set()),
    ],
)
def test_every_word_must_be_in_the_file_name_the_model_id_or_the_version_in_either_case(
    ledger: SQLJobLedger, add_job: Callable[..., None], words: tuple[str, ...], filenames: set[str]
) -> None:
    for filename in FILENAMES:
        add_job(filename)
        add_job(filename, user_id="bob")
    assert found(ledger, JobFilter(words=words)) == filenames


def test_any_character_of_unicode_is_found_as_itself(database: Database) -> None:
    """No character breaks the pattern of one of the databases, and none has a meaning there."""
    characters = [chr(code) for code in (*range(0x20, 0x3100), *range(0xFE00, 0x10000, 7), 0x1F600, 0x10FFFF)]
    with database.read() as connection:
        for start in range(0, len(characters), 500):
            some = characters[start : start + 500]
            matches = [contains_all(sa.literal(f"x{one}y"), [f"X{one}Y"]) for one in some]
            assert connection.execute(sa.select(sa.and_(*matches))).scalar_one() in (True, 1), start
        nothing = [contains_all(sa.literal("xay"), [f"X{one}Y"]) for one in characters[:95] if one not in "aA"]
        assert connection.execute(sa.select(sa.or_(*nothing))).scalar_one() in (False, 0)


def test_jobs_are_found_by_chip_whole_file_name_and_model_id(
    ledger: SQLJobLedger, add_job: Callable[..., None]
) -> None:
    add_job("net.onnx")
    add_job("net.onnx.old", platform=730, model_id="32769")
    add_job("other", platform="730", model_id=32770)
    assert found(ledger, JobFilter(chip="730")) == {"net.onnx.old", "other"}
    assert found(ledger, JobFilter(filename="net.onnx")) == {"net.onnx"}
    assert found(ledger, JobFilter(filename="NET.onnx")) == set()
    assert found(ledger, JobFilter(model_id=32769)) == {"net.onnx", "net.onnx.old"}
    assert found(ledger, JobFilter(model_id=32769, chip="730", words=("net",))) == {"net.onnx.old"}


def test_a_job_without_parameters_is_found_by_its_file_name_only(ledger: SQLJobLedger, clock: FakeClock) -> None:
    ledger.open_upload("upload", "alice", clock.now)
    ledger.assign_job("alice", "upload", Job("job", JobStatus.COMPLETED), filename="net.onnx", size=1)
    assert found(ledger, JobFilter(words=("NET",))) == {"net.onnx"}
    assert found(ledger, JobFilter(words=("1",))) == found(ledger, JobFilter(chip="720")) == set()
    assert found(ledger, JobFilter(model_id=1)) == set()


def test_a_filter_by_status_leaves_out_jobs_that_have_ended_otherwise(
    ledger: SQLJobLedger, database: Database, add_job: Callable[..., None]
) -> None:
    """Unfinished jobs stay: only the converter knows their status now."""
    for status in JobStatus:
        add_job(status.value, status=status)
    add_job("later", status=JobStatus.RUNNING)
    with database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.filename == "later").values(status="of a later version"))
    unfinished = {"queued", "running", "later"}
    assert found(ledger, JobFilter(statuses=frozenset({JobStatus.FAILED}))) == {"failed", *unfinished}
    assert found(ledger, JobFilter(statuses=frozenset({JobStatus.RUNNING, JobStatus.QUEUED}))) == unfinished


def test_pages_of_a_filtered_history_list_every_wanted_job_once(
    ledger: SQLJobLedger, add_job: Callable[..., None]
) -> None:
    for number in range(20):
        add_job(f"net-{number:02}.onnx" if number % 3 else f"other-{number}.onnx")
    seen: list[str] = []
    after = None
    while page := ledger.history("alice", limit=4, after=after, wanted=JobFilter(words=("NET",))):
        seen += [record.filename for record in page]
        after = (page[-1].started_at, page[-1].upload_id)
    assert seen == [f"net-{number:02}.onnx" for number in reversed(range(20)) if number % 3]


def test_models_are_found_by_name_file_name_and_the_parameters_of_their_job(
    store: SQLModelStore, a_model: MakeModel, add_job: Callable[..., None]
) -> None:
    add_job("net.onnx")
    add_job("net.onnx", user_id="bob", model_id=40_000)
    first = store.add(a_model(name="Vordertür", filename="net_kl720.nef", source_job_id="job-of-alice-net.onnx"))
    later = first.created_at + timedelta(seconds=1)
    second = store.add(a_model(name="other", platform="520", source_job_id="job-of-bob-net.onnx", created_at=later))
    store.add(a_model(user_id="bob", name="Vordertür"))

    def listed(**wanted: Any) -> list[str]:
        return [model.id for model in store.page("alice", limit=9, after=None, wanted=ModelFilter(**wanted))]

    assert listed() == [second.id, first.id]
    assert listed(words=("TÜR",)) == listed(words=("net_KL",)) == listed(words=("32769", "00A1")) == [first.id]
    assert listed(words=("vorder", "other")) == []
    assert listed(chip="520") == [second.id]
    assert listed(words=("40000",)) == [], "the other user's job tells nothing about this user's model"


def test_a_model_has_the_number_and_the_version_of_its_job_wherever_it_is_read(
    store: SQLModelStore, a_model: MakeModel, add_job: Callable[..., None]
) -> None:
    add_job("net.onnx")
    model = store.add(a_model(source_job_id="job-of-alice-net.onnx"))
    known = replace(model, model_id="32769", version="00a1")
    assert store.find("alice", model.id) == store.add(model) == known
    assert store.find_with_usage("alice", model.source_job_id) == (known, model.size)
    assert store.page("alice", limit=1, after=None) == [known]
    assert store.rename("alice", model.id, "new") == replace(known, name="new")
