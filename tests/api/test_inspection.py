"""`/inspect`, `/capabilities`, and the advice in the responses of the other routes."""

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

from app.api import inspection
from app.domain.job import JobError, JobStatus
from app.domain.usual_time import CompletedJob, size_class
from app.services.advising import JobAdvice, ModelReader
from app.services.conversions import JobView
from tests.api.edge import NOW, Edge, a_job
from tests.support.models import model_with
from tests.support.multipart_bodies import Multipart

MIB = 1024 * 1024
EINSUM = model_with("Relu", "Einsum")


def stored_advice(model: bytes, chip: str = "520") -> JobAdvice:
    reader = ModelReader()
    reader.note({"platform": chip})
    reader.begin_model()(model)
    stored = reader.stored_advice()
    assert stored is not None
    # As the database gives it back.
    return JobAdvice(json.loads(json.dumps(stored)))


def message(form: Mapping[str, str | bytes | list[bytes]]) -> Multipart:
    """Return a form: texts are fields, bytes are files, and a list is a file several times."""
    made = Multipart("b")
    for name, value in form.items():
        if isinstance(value, str):
            made.field(name, value)
        else:
            for content in [value] if isinstance(value, bytes) else value:
                made.file(name, content, "m.onnx")
    return made


def post(
    edge: Edge, path: str, language: str = "en", user: str = "alice", **form: str | bytes | list[bytes]
) -> TestResponse:
    body = message(form)
    return edge.client(user).post(
        f"/api/conversion/{path}",
        data=body.as_bytes(),
        content_type=body.content_type,
        headers={"Accept-Language": language},
    )


@pytest.mark.parametrize("part", ["model", "skeleton"])
def test_a_model_or_its_skeleton_gets_advice_for_every_chip(edge: Edge, part: str) -> None:
    response = post(edge, "inspect", **{part: EINSUM})
    advice = response.get_json()
    assert response.status_code == 200
    assert (advice["format"], advice["opset"], advice["parameters"]) == ("onnx", 13, 1024)
    assert advice["operators"] == {"Conv": 1, "Einsum": 1, "Relu": 1}
    assert advice["chips"].keys() == {"520", "720", "530", "630", "730"}
    assert advice["chips"]["520"]["verdict"] == "partial"
    assert advice["chips"]["520"]["findings"][0]["nodes"] == ["einsum_1"]
    assert "reason" not in advice
    assert edge.conversions.calls == []


@pytest.mark.parametrize(
    ("form", "is_known"),
    [
        ({"model": EINSUM}, True),
        ({"skeleton": EINSUM, "model_size": str(len(EINSUM))}, True),
        ({"skeleton": EINSUM}, False),
        ({"skeleton": EINSUM, "model_size": str(2 * len(EINSUM))}, False),
    ],
)
def test_the_size_of_the_model_tells_how_long_it_usually_takes(
    edge: Edge, form: dict[str, bytes | str], is_known: bool
) -> None:
    jobs = [CompletedJob(NOW, NOW + timedelta(seconds=90))] * 5
    edge.conversions.ledger.completed["720", size_class(len(EINSUM))] = jobs
    chips = post(edge, "inspect", **form).get_json()["chips"]  # type: ignore[arg-type]
    expected = {"median_seconds": 90, "p90_seconds": 90, "jobs": 5, "stages": {}}
    assert {name: chip["usual_time"] for name, chip in chips.items() if name != "720"} == dict.fromkeys(
        ("520", "530", "630", "730")
    )
    assert chips["720"]["usual_time"] == (expected if is_known else None)


@pytest.mark.parametrize("size", ["-1", "1.5", "many"])
def test_a_size_that_is_no_number_is_refused(edge: Edge, size: str) -> None:
    response = post(edge, "inspect", skeleton=EINSUM, model_size=size)
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid_request")


def test_the_sentences_are_in_the_callers_language(edge: Edge) -> None:
    texts = []
    for language in ("en", "zh-TW"):
        response = post(edge, "inspect", language, model=EINSUM)
        assert response.headers["Content-Language"] == language
        assert "Accept-Language" in response.headers["Vary"]
        texts.append(response.get_json()["chips"]["520"]["findings"][0]["text"])
    assert texts[0].isascii()
    assert "晶片" in texts[1]


def test_nothing_of_a_models_response_is_cached(edge: Edge) -> None:
    assert post(edge, "inspect", model=EINSUM).headers["Cache-Control"] == "no-store"


def test_weights_and_results_are_recognized_by_their_names(edge: Edge) -> None:
    for name, reason in [("model.onnx_data", "external_data"), ("model.nef", "nef"), ("model.onnx", "not_a_model")]:
        body = Multipart("b").file("model", bytes(1000), name)
        response = edge.client("alice").post(
            "/api/conversion/inspect", data=body.as_bytes(), content_type=body.content_type
        )
        assert response.get_json()["reason"] == reason


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x00" * 1000, b"\xff" * MIB, EINSUM[:-1], b"PK\x03\x04", b"....TFL3", b"\x89HDF\r\n\x1a\n"]
)
def test_a_file_without_advice_gets_200_and_the_reason_in_both_languages(edge: Edge, content: bytes) -> None:
    for language in ("en", "zh-TW"):
        response = post(edge, "inspect", language, model=content)
        advice = response.get_json()
        assert response.status_code == 200
        assert advice.keys() == {"format", "reason", "text"}
        assert advice["text"].isascii() == (language == "en")


@pytest.mark.parametrize(
    ("form", "status", "code", "in_english", "in_chinese"),
    [
        ({}, 400, "invalid_request", "the form needs a file skeleton or a file model, and not both", "不能兩者都有"),
        ({"model": "text"}, 400, "invalid_request", "needs a file skeleton", "不能兩者都有"),
        ({"file": b"x"}, 400, "invalid_request", "needs a file skeleton", "不能兩者都有"),
        (
            {"model": b"x", "skeleton": b"x"},
            400,
            "invalid_request",
            "and not both",
            "不能兩者都有",
        ),
        (
            {"model": [b"x", b"y"]},
            400,
            "invalid_request",
            "more than one file model",
            "一個以上的 model 檔案",
        ),
        ({"model": b"x", "model_id": "many"}, 400, "invalid_request", "model_id must be", "model_id must be"),
        (
            {"model": bytes(8 * MIB + 1)},
            413,
            "payload_too_large",
            "the file model may have at most 8 MiB",
            "model 檔案最多 8 MiB",
        ),
        (
            {"skeleton": bytes(4 * MIB + 1)},
            413,
            "payload_too_large",
            "the file skeleton may have at most 4 MiB",
            "skeleton 檔案最多 4 MiB",
        ),
        (
            {"model": bytes(inspection.MAX_FORM_BYTES)},
            413,
            "payload_too_large",
            "at most 8 MiB; send the skeleton of a larger model",
            "較大的模型請傳送 skeleton",
        ),
        (
            {f"field-{number}": "x" for number in range(65)},
            413,
            "payload_too_large",
            "at most 64 parts",
            "最多 64 個部分",
        ),
    ],
)
def test_a_form_that_cannot_be_inspected_is_refused_in_both_languages(
    edge: Edge, form: dict[str, Any], status: int, code: str, in_english: str, in_chinese: str
) -> None:
    for language, words in (("en", in_english), ("zh-TW", in_chinese)):
        response = post(edge, "inspect", language, **form)
        problem = response.get_json()
        assert (response.status_code, problem["code"]) == (status, code)
        assert words in problem["detail"]


@pytest.mark.parametrize("name", ["model", "skeleton"])
def test_a_file_of_exactly_the_largest_size_is_inspected(edge: Edge, name: str) -> None:
    size = inspection.MAX_MODEL_BYTES if name == "model" else inspection.MAX_SKELETON_BYTES
    assert post(edge, "inspect", **{name: bytes(size)}).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        ("application/octet-stream", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("multipart/form-data", 400, "invalid_request"),
        ("multipart/form-data; boundary=other", 400, "invalid_request"),
    ],
)
def test_a_body_that_is_not_such_a_form_is_refused(edge: Edge, content_type: str, status: int, code: str) -> None:
    response = edge.client().post("/api/conversion/inspect", data=b"--b--\r\n", content_type=content_type)
    assert (response.status_code, response.get_json()["code"]) == (status, code)


def test_a_form_that_ends_early_is_refused(edge: Edge) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n' + EINSUM
    response = edge.client().post("/api/conversion/inspect", data=body, content_type="multipart/form-data; boundary=b")
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid_request")


def test_a_session_is_needed(edge: Edge) -> None:
    assert edge.client(None).post("/api/conversion/inspect").status_code == 401
    assert edge.client(None).get("/api/conversion/capabilities").status_code == 401


def test_a_user_has_one_inspection_at_a_time(edge: Edge) -> None:
    """A second one gets 429, also as part of a check. Another user's is accepted, and the user's next one as well."""

    class Slow(BytesIO):
        def read(self, *arguments: int | None) -> bytes:
            has_begun.set()
            assert may_go_on.wait(60)
            return super().read(*arguments)

    has_begun, may_go_on = threading.Event(), threading.Event()
    body = message({"model": EINSUM})
    slow = Slow(body.as_bytes())
    with ThreadPoolExecutor() as threads:
        first = threads.submit(
            edge.client().post,
            "/api/conversion/inspect",
            input_stream=slow,
            content_length=len(body),
            content_type=body.content_type,
        )
        try:
            assert has_begun.wait(60)
            refused = post(edge, "inspect", model=EINSUM)
            assert post(edge, "check", skeleton=EINSUM).status_code == 429
            assert post(edge, "check", platform="720").status_code == 200
            assert post(edge, "inspect", user="bob", model=EINSUM).status_code == 200
        finally:
            may_go_on.set()
        assert first.result().status_code == 200
    assert (refused.status_code, refused.get_json()["code"]) == (429, "too_many_requests")
    assert refused.headers["Retry-After"] == "1"
    assert post(edge, "inspect", model=EINSUM).status_code == 200


def test_a_reserved_model_id_is_a_finding(edge: Edge) -> None:
    advice = post(edge, "inspect", model=EINSUM, model_id="5").get_json()
    assert "model_id_reserved" in {finding["key"] for finding in advice["chips"]["720"]["findings"]}


def test_check_with_a_skeleton_has_the_advice_for_the_chosen_chip(edge: Edge) -> None:
    response = post(edge, "check", skeleton=EINSUM, platform="720", size="7")
    assert response.get_json()["ok"] is True
    assert response.get_json()["advice"]["chips"].keys() == {"720"}
    whole = post(edge, "inspect", skeleton=EINSUM).get_json()
    assert whole["chips"]["720"].pop("usual_time") is None
    assert response.get_json()["advice"] == whole | {"chips": {"720": whole["chips"]["720"]}}


def test_check_without_a_known_chip_has_the_advice_for_all(edge: Edge) -> None:
    assert len(post(edge, "check", skeleton=EINSUM, platform="999").get_json()["advice"]["chips"]) == 5
    assert "advice" not in post(edge, "check", platform="720").get_json()


def test_check_refuses_a_skeleton_that_is_too_large_or_sent_twice(edge: Edge) -> None:
    assert post(edge, "check", skeleton=bytes(4 * MIB + 1)).status_code == 413
    assert post(edge, "check", skeleton=[EINSUM, EINSUM]).status_code == 400
    assert edge.conversions.calls == []


def test_capabilities_have_the_chip_table_and_the_limits(edge: Edge) -> None:
    response = edge.client().get("/api/conversion/capabilities")
    told = response.get_json()
    assert told["chips"] == ["520", "720", "530", "630", "730"]
    assert told["operators"]["Relu"].keys() <= set(told["chips"])
    assert {support["condition"] for chips in told["operators"].values() for support in chips.values()} - {
        None
    } <= told["conditions"].keys()
    assert told["opsets"] == {"first": 8, "last": 18}
    assert "730" not in told["legacy_environment"]["chips"]
    assert told["model_ids"] == {"first": 32_768, "last": 65_535}
    assert told["limits"]["skeleton_bytes"] == 4 * MIB


def test_unchanged_capabilities_are_not_sent_again(edge: Edge) -> None:
    first = edge.client().get("/api/conversion/capabilities")
    headers = {"If-None-Match": first.headers["ETag"]}
    assert edge.client().get("/api/conversion/capabilities", headers=headers).status_code == 304
    chinese = edge.client().get("/api/conversion/capabilities", headers=headers | {"Accept-Language": "zh-TW"})
    assert (chinese.status_code, chinese.headers["Content-Language"]) == (200, "zh-TW")


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_upload_poll_and_running_job_have_the_same_advice(edge: Edge, language: str) -> None:
    """The poll's is prepared once, and no different for that."""
    edge.conversions.view = JobView(a_job(), "net.onnx", 5, None, advice=stored_advice(EINSUM))
    client, headers = edge.client(), {"Accept-Language": language}
    poll = client.get("/api/conversion/job-1", headers=headers)
    started = client.post(
        "/api/conversion/init", data=b"", content_type="multipart/form-data; boundary=b", headers=headers
    )
    active = client.get("/api/conversion/active", headers=headers)
    assert poll.get_data() == started.get_data()
    assert poll.get_json() == active.get_json()["active_job"]
    advice = poll.get_json()["advice"]
    assert (advice["chip"], advice["chips"]["520"]["findings"][0]["operator"]) == ("520", "Einsum")
    assert poll.headers["Content-Language"] == language
    assert "Accept-Language" in poll.headers["Vary"]


def test_a_poll_in_another_language_is_not_the_callers_copy(edge: Edge) -> None:
    edge.conversions.view = JobView(a_job(), "net.onnx", 5, None, advice=stored_advice(EINSUM))
    english = edge.client().get("/api/conversion/job-1")
    headers = {"If-None-Match": english.headers["ETag"]}
    assert edge.client().get("/api/conversion/job-1", headers=headers).status_code == 304
    headers["Accept-Language"] = "zh-TW"
    assert edge.client().get("/api/conversion/job-1", headers=headers).status_code == 200


def test_the_history_has_the_verdict_the_counts_and_the_worst_finding_only(edge: Edge) -> None:
    edge.conversions.view = JobView(a_job(), "net.onnx", 5, None, advice=stored_advice(EINSUM))
    (job,) = edge.client().get("/api/conversion/jobs").get_json()["jobs"]
    assert job["advice"].keys() == {"verdict", "npu_nodes", "conditional_nodes", "other_nodes", "finding"}
    assert job["advice"]["finding"]["operator"] == "Einsum"


def test_a_job_whose_model_was_not_seen_has_null(edge: Edge) -> None:
    assert edge.client().get("/api/conversion/job-1").get_json()["advice"] is None
    assert edge.client().get("/api/conversion/jobs").get_json()["jobs"][0]["advice"] is None


def test_a_job_without_advice_says_why(edge: Edge) -> None:
    edge.conversions.view = JobView(a_job(), "net.onnx", 5, None, advice=stored_advice(EINSUM[:-1]))
    advice = edge.client().get("/api/conversion/job-1").get_json()["advice"]
    assert advice.keys() == {"format", "reason", "text"}
    assert advice["reason"] == "truncated"


def test_a_failed_job_is_explained_by_its_advice(edge: Edge) -> None:
    error = JobError("conversion_failed", "undefined CPU op Einsum of node einsum_1")
    job = a_job(status=JobStatus.FAILED, error=error)
    edge.conversions.view = view = JobView(job, "net.onnx", 5, None, NOW, advice=stored_advice(EINSUM))
    explanation = edge.client().get("/api/conversion/job-1").get_json()["explanation"]
    assert (explanation["operator"], explanation["nodes"]) == ("Einsum", ["einsum_1"])
    assert edge.client().get("/api/conversion/jobs").get_json()["jobs"][0]["explanation"] == explanation
    edge.conversions.view = replace(view, job=replace(job, error=JobError("code", "what nobody has seen")))
    assert "explanation" not in edge.client().get("/api/conversion/job-1").get_json()
