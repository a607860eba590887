"""The advice on its way: taken from an upload, stored with its job, and given out again."""

import random

import pytest

from app.advice.report import Advice
from app.advice.skeleton import SkeletonParser
from app.domain.job import Job
from app.errors import (
    ConverterUnavailableError,
    JobNotFoundError,
    ModelStoreUnavailableError,
    UploadOutcomeUnknownError,
)
from app.services import advising, notes
from app.services.advising import JobAdvice, ModelReader
from app.streaming import Chunk
from app.streaming.multipart import UploadMessage
from tests.support.fakes import call_context
from tests.support.models import model_with
from tests.support.multipart_bodies import Multipart
from tests.unit.services.bench import Bench, a_body

EINSUM = model_with("Relu", "Einsum")


def body_of(*parts: tuple[str, str | bytes]) -> bytes:
    body = Multipart("b")
    for name, value in parts:
        body.field(name, value) if isinstance(value, str) else body.file(name, value, "net.onnx")
    return body.as_bytes()


def upload(bench: Bench, body: bytes, *, cut_at: int | None = None) -> JobAdvice | None:
    """Upload a body in one or two pieces, and return the advice in the response."""
    chunks = (body,) if cut_at is None else (body[:cut_at], body[cut_at:])
    view = bench.service.init_job("alice", "b", a_body(*chunks), call_context())
    bench.has_job(view.job.job_id, "alice")
    return view.advice


@pytest.mark.parametrize("order", ["fields first", "model first"])
def test_an_upload_gets_the_advice_for_its_chip_and_stores_it(bench: Bench, order: str) -> None:
    parts: list[tuple[str, str | bytes]] = [("platform", "720"), ("model_id", "5"), ("model", EINSUM)]
    advice = upload(bench, body_of(*(parts if order == "fields first" else reversed(parts))))
    assert advice is not None
    assert advice.stored["chip"] == "720"
    findings = {finding["key"]: finding for finding in advice.stored["chips"]["720"]["findings"]}
    assert findings["operator_not_on_npu"]["nodes"] == ["einsum_1"]
    assert findings["model_id_reserved"]["values"]["model_id"] == 5
    (row,) = bench.ledger.rows.values()
    assert row.advice == advice.stored
    assert bench.service.get_job("alice", "new-job", call_context()).advice.stored == advice.stored  # type: ignore[union-attr]
    (past,), _ = bench.service.history("alice", 5, None, call_context())
    assert past.advice is not None
    assert past.advice.stored == advice.stored


def test_the_advice_does_not_depend_on_how_the_message_is_cut(bench: Bench) -> None:
    body = body_of(("platform", "530"), ("model", EINSUM), ("ref_images", b"\x00" * 99))
    whole = upload(bench, body)
    assert whole is not None
    for cut_at in random.Random(5).sample(range(1, len(body)), 40):
        bench.converter.jobs.clear()
        bench.ledger.rows.clear()
        cut = upload(bench, body, cut_at=cut_at)
        assert cut is not None
        assert cut.stored == whole.stored


def test_what_the_converter_gets_is_what_came(bench: Bench) -> None:
    upload(bench, body_of(("platform", "530"), ("model", EINSUM)))
    assert EINSUM in bench.converter.sent


@pytest.mark.parametrize(
    ("parts", "chip"),
    [
        ([("model", EINSUM)], None),
        ([("platform", "999"), ("model", EINSUM)], None),
        ([("platform", " 720 "), ("model", EINSUM)], "720"),
        ([("platform", "720"), ("platform", "520"), ("model", EINSUM)], "720"),
        ([("platform", "720" * 1000), ("model", EINSUM)], None),
        ([("platform", b"720"), ("model", EINSUM)], None),
    ],
)
def test_the_chip_is_the_first_field_platform_if_the_table_has_it(
    bench: Bench, parts: list[tuple[str, str | bytes]], chip: str | None
) -> None:
    advice = upload(bench, body_of(*parts))
    assert advice is not None
    assert advice.stored["chip"] == chip
    assert len(advice.stored["chips"]) == 5


def test_only_the_first_model_counts(bench: Bench) -> None:
    advice = upload(bench, body_of(("platform", "720"), ("model", EINSUM), ("model", b"\xff" * 5000)))
    assert advice is not None
    assert "chips" in advice.stored


@pytest.mark.parametrize("model", [b"", b"\xff" * 100_000, EINSUM[:-1], b"\x0a" * 100_000, b"PK\x03\x04" * 1000])
def test_a_model_that_cannot_be_read_starts_its_job_and_has_a_reason(bench: Bench, model: bytes) -> None:
    advice = upload(bench, body_of(("platform", "720"), ("model", model)))
    assert advice is not None
    assert advice.stored.keys() == {"format", "reason"}
    assert bench.converter.jobs.keys() == {"new-job"}


def test_an_upload_without_a_model_has_no_advice(bench: Bench) -> None:
    assert upload(bench, body_of(("platform", "720"))) is None


class Broken(SkeletonParser):
    """A parser with a bug, in `feed` or in `finish`."""

    breaks_at = "feed"

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        if self.breaks_at == "feed":
            raise ValueError("a bug")

    def finish(self):  # type: ignore[no-untyped-def]
        raise ValueError("a bug")


@pytest.mark.parametrize("where", ["feed", "finish"])
def test_a_bug_of_the_advice_fails_no_upload(bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setattr(Broken, "breaks_at", where)
    monkeypatch.setattr("app.services.advising.SkeletonParser", Broken)
    advice = upload(bench, body_of(("platform", "720"), ("model", EINSUM)))
    assert advice is not None
    assert advice.stored == {"format": "unknown", "reason": "failed"}
    assert advice.document("en")["text"]


def test_advice_that_cannot_be_stored_fails_no_upload(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job has started by then, and its response must not be lost."""
    broken = Advice(format="onnx", chips={"720": None})  # type: ignore[dict-item]
    monkeypatch.setattr("app.services.advising.advise", lambda *_, **__: broken)
    advice = upload(bench, body_of(("platform", "720"), ("model", EINSUM)))
    assert advice is not None
    assert advice.stored == {"format": "unknown", "reason": "failed"}
    (row,) = bench.ledger.rows.values()
    assert row.advice == advice.stored


def test_no_request_waits_long_for_the_advice_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload's job has started by then. Once the others are done, there is advice."""
    monkeypatch.setattr(advising, "_LONGEST_WAIT_SECONDS", 0.01)
    reader = ModelReader()
    reader.begin_model("net.onnx")(EINSUM)
    with advising._one_at_a_time:
        assert reader.advice().reason == "failed"
    assert reader.advice().reason is None


def test_the_weights_of_a_model_are_recognized_by_the_name_of_the_file() -> None:
    reader = ModelReader()
    take = reader.watch("model", file_name="model.onnx_data")
    assert take is not None
    take(bytes(1000))
    assert reader.advice().reason == "external_data"


def test_lent_chunks_are_not_read_after_they_were_given_back() -> None:
    """What a reader takes stays the same when the buffer is used again."""
    reader, plain = ModelReader(), ModelReader()
    take, take_plain = reader.watch("model", file_name="m"), plain.watch("model", file_name="m")
    chip = reader.watch("platform", file_name=None)
    assert take is not None
    assert take_plain is not None
    assert chip is not None
    buffer = bytearray(1000)
    for start in range(0, len(EINSUM), 1000):
        piece = EINSUM[start : start + 1000]
        buffer[: len(piece)] = piece
        take(memoryview(buffer)[: len(piece)])
        take_plain(piece)
        buffer[:] = bytes(1000)
    lent: Chunk = memoryview(b"720")
    chip(lent)
    assert reader.advice() == plain.advice()
    assert reader.chip == "720"


def test_no_advice_is_worked_out_for_an_upload_that_started_no_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(message: UploadMessage) -> Job:
        for _ in message:
            pass
        raise ConverterUnavailableError("down")

    bench.converter.create = refuse
    monkeypatch.setattr(Broken, "breaks_at", "finish")
    monkeypatch.setattr("app.services.advising.SkeletonParser", Broken)
    monkeypatch.setattr("app.services.advising.advise", lambda *_, **__: pytest.fail("advice for no job"))
    with pytest.raises(ConverterUnavailableError):
        upload(bench, body_of(("model", EINSUM)))


def test_a_job_found_after_an_unknown_outcome_has_no_advice(bench: Bench) -> None:
    def lose(message: UploadMessage) -> Job:
        for _ in message:
            pass
        raise UploadOutcomeUnknownError("no response")

    bench.converter.create = lose
    with pytest.raises(UploadOutcomeUnknownError):
        upload(bench, body_of(("platform", "720"), ("model", EINSUM)))
    bench.has_job("late", "alice", created_at=bench.clock())
    assert bench.service.get_job("alice", "late", call_context()).advice is None


def test_another_user_gets_nothing_of_a_jobs_advice(bench: Bench) -> None:
    upload(bench, body_of(("platform", "720"), ("model", EINSUM)))
    with pytest.raises(JobNotFoundError):
        bench.service.get_job("bob", "new-job", call_context())
    assert bench.notes.advice_of("bob", "new-job") is None


def test_polls_read_the_advice_once_and_prepare_its_json_once(bench: Bench) -> None:
    upload(bench, body_of(("platform", "720"), ("model", EINSUM)))
    first = bench.service.get_job("alice", "new-job", call_context()).advice
    bench.ledger.calls.clear()
    second = bench.service.get_job("alice", "new-job", call_context()).advice
    assert first is not None
    assert second is first
    assert first.as_json("en") is first.as_json("en")
    assert first.as_json("en") != first.as_json("zh-TW")
    assert bench.ledger.calls == []


def test_advice_that_no_longer_fits_in_memory_is_read_from_the_ledger_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    advice = upload(bench, body_of(("platform", "720"), ("model", EINSUM)))
    assert advice is not None
    monkeypatch.setattr(notes, "_MOST_ADVICE_BYTES", int(1.5 * advice.most_bytes))
    small = notes.JobNotes(bench.ledger, bench.writes, clock=bench.clock)
    bench.knows_job("other", "alice")
    other = next(row for row in bench.ledger.rows.values() if row.job_id == "other")
    bench.ledger.rows[other.upload_id] = type(other)(
        other.upload_id, "alice", "other", "o.onnx", 1, other.started_at, other.job, advice=advice.stored
    )
    for job_id in ("new-job", "other", "new-job"):
        found = small.advice_of("alice", job_id)
        assert found is not None
        assert found.stored == advice.stored
    assert bench.ledger.calls.count("find_job") >= 3


def test_the_advice_is_shown_while_the_database_fails_if_it_was_read_before(bench: Bench) -> None:
    advice = upload(bench, body_of(("platform", "720"), ("model", EINSUM)))
    bench.service.get_job("alice", "new-job", call_context())
    assert advice is not None
    bench.ledger.failing = ModelStoreUnavailableError("down")
    view = bench.service.get_job("alice", "new-job", call_context())
    assert view.advice is not None
    assert view.advice.stored == advice.stored
