"""The converter: what it accepts, one active job per user, time passing, promotion."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox.converter.progress import Job
from sandbox.converter.uploads import looks_like_user_id
from sandbox.result import KEY, expected_result
from sandbox.running import start
from sandbox.settings import CONVERTER, TENANT_ID
from tests.sandbox.callers import Caller, Multipart, Wire, settings_for, usual_form
from tests.support.processes import wait_until

MODEL = bytes(range(256)) * 300


def _is_empty(directory: Path) -> bool:
    return not any(directory.iterdir())


def test_upload_becomes_a_queued_job(caller: Caller, user_id: str) -> None:
    form = usual_form(user_id).add("note", "舊模型").add("model", MODEL, "a.onnx").add("ref_images", b"png", "1.png")
    response = caller.upload(form.body, form.content_type)
    assert response.status_code == 201
    job = response.json()
    assert set(job) == {
        *("job_id", "user_id", "status", "stage", "progress", "created_at", "updated_at", "parameters", "error")
    }
    assert (job["user_id"], job["status"], job["progress"], job["error"]) == (user_id, "queued", 0, None)
    assert job["parameters"] == {"model_id": 40000, "version": "0001", "platform": "720", "note": "舊模型"}
    assert job["created_at"].endswith("Z")
    assert caller.get_job(job["job_id"]).json() == job


def test_chunked_upload_is_logged_part_by_part(caller: Caller, user_id: str) -> None:
    form = usual_form(user_id).add("model", MODEL, "模型 a.onnx")
    pieces = (form.body[start : start + 777] for start in range(0, len(form.body), 777))
    job = caller.upload(pieces, form.content_type).json()
    attempt = caller.attempts()[-1]
    assert attempt["complete"]
    assert attempt["outcome"] == "created"
    assert attempt["job_id"] == job["job_id"]
    assert attempt["bytes_read"] == len(form.body)
    assert [part["name"] for part in attempt["parts"]] == ["user_id", "model_id", "version", "platform", "model"]
    model = attempt["parts"][-1]
    assert (model["filename"], model["size"]) == ("模型 a.onnx", len(MODEL))
    assert model["headers"][1] == "Content-Type: application/octet-stream"


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        (Multipart().add("model_id", "40000").add("user_id", "u"), 400, "user_id_not_first"),
        (Multipart().add("user_id", "u", "file.txt"), 400, "user_id_not_first"),
        (Multipart().add("userId", "u"), 400, "user_id_not_first"),
        (Multipart(), 400, "user_id_missing"),
        (Multipart().add("user_id", "a").add("user_id", "b"), 400, "user_id_repeated"),
        (Multipart().add("user_id", "a").add("user_id[]", "b"), 400, "user_id_repeated"),
        (Multipart().add("user_id", "a").add("user_id", "b", "f"), 400, "user_id_repeated"),
        (Multipart().add("user_id", ""), 400, "user_id_invalid"),
        (usual_form("a"), 400, "model_missing"),
        (usual_form("a").add("model", "text"), 400, "model_not_a_file"),
        (usual_form("a").add("model", b"x", "m").add("model", b"y", "n"), 400, "model_repeated"),
        (usual_form("a").add("model", b"", "m"), 422, "model_empty"),
        (usual_form("a").add("ref_images", "text"), 400, "ref_image_not_a_file"),
        (usual_form("a").add("platform", "720"), 400, "platform_repeated"),
        (Multipart().add("user_id", "a").add("model_id", "32767"), 422, "model_id_invalid"),
        (Multipart().add("user_id", "a").add("model_id", "65536"), 422, "model_id_invalid"),
        (Multipart().add("user_id", "a").add("model_id", "4e4"), 422, "model_id_invalid"),
        (Multipart().add("user_id", "a").add("version", "12345"), 422, "version_invalid"),
        (Multipart().add("user_id", "a").add("platform", "KL999"), 422, "platform_invalid"),
        (Multipart().add("user_id", "a").add("platform", "klkl720"), 422, "platform_invalid"),
        (Multipart().add("user_id", "a").add("version", "0001").add("model", b"x", "m"), 422, "model_id_missing"),
        (Multipart().add("user_id", "a").add("note", "x" * 70_000), 413, "field_too_large"),
    ],
)
def test_wrong_upload_is_refused_and_leaves_nothing(caller: Caller, form: Multipart, status: int, code: str) -> None:
    response = caller.upload(form.body, form.content_type)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["message"]
    assert caller.attempts()[-1]["outcome"] == code
    assert _is_empty(caller.sandbox.data.uploads)


@pytest.mark.parametrize("platform", ["520", "KL520", "kl720", "Kl530", "630", "KL730"])
def test_platform_is_accepted_with_and_without_prefix(caller: Caller, user_id: str, platform: str) -> None:
    form = Multipart().add("user_id", user_id).add("model_id", "65535").add("version", "beEF")
    form.add("platform", platform).add("model", b"x", "m")
    assert caller.upload(form.body, form.content_type).json()["parameters"]["platform"] == platform[-3:]


@pytest.mark.parametrize(
    "name", ["user_id", "userId", "USER-ID", "user id", "user_id[]", "user.id", "user%5Fid", "ｕｓｅｒ＿ｉｄ"]
)
def test_look_alikes_of_user_id_are_recognised(name: str) -> None:
    assert looks_like_user_id(name)


def test_other_names_are_no_look_alikes() -> None:
    assert not any(looks_like_user_id(name) for name in ("user", "id", "user_idea", "tenant_id", "", "模型"))


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "multipart/mixed; boundary=x"])
def test_body_that_is_not_multipart_is_refused(caller: Caller, content_type: str) -> None:
    assert caller.upload(b"{}", content_type).json()["error"]["code"] == "not_multipart"


def test_missing_final_boundary_is_refused_although_the_body_ended(caller: Caller, user_id: str) -> None:
    form = usual_form(user_id).add("model", MODEL, "a.onnx")
    response = caller.upload(form.body[:-10], form.content_type)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "malformed_multipart")
    assert not caller.attempts()[-1]["complete"]


@pytest.mark.parametrize("chunked", [True, False])
def test_body_cut_before_its_end_makes_no_job(caller: Caller, user_id: str, chunked: bool) -> None:
    form = usual_form(user_id).add("model", MODEL, "a.onnx")
    headers = caller.bearer("converter:job.write") | {"Content-Type": form.content_type}
    with Wire(caller.sandbox.urls.converter) as wire:
        if chunked:
            wire.request("POST", "/api/v1/jobs", headers | {"Transfer-Encoding": "chunked"})
            wire.send_chunk(form.body)
        else:
            wire.request("POST", "/api/v1/jobs", headers | {"Content-Length": str(len(form.body) + 1)}, form.body)
        wire.finish_sending()
        wire.rest()
    attempt = caller.attempts()[-1]
    assert attempt["outcome"] == "incomplete_body"
    assert not attempt["complete"]
    assert attempt["bytes_read"] == len(form.body)
    assert _is_empty(caller.sandbox.data.uploads)
    query = {"user_id": user_id}
    headers = caller.bearer("converter:job.read")
    assert caller.session.get(caller.jobs_url, params=query, headers=headers, timeout=10).json() == {"jobs": []}


def test_upload_over_the_limit_is_413(tmp_path: Path, user_id: str) -> None:
    with start(settings_for(tmp_path, max_upload_bytes=5000)) as sandbox:
        caller = Caller(sandbox)
        form = usual_form(user_id).add("model", b"x" * 5000, "a.onnx")
        for body in (form.body, iter([form.body])):
            assert caller.upload(body, form.content_type).json()["error"]["code"] == "payload_too_large"
        caller.close()


def test_second_upload_is_409_with_the_active_job_before_its_body_ends(caller: Caller, user_id: str) -> None:
    job = caller.start_job(user_id)
    with Wire(caller.sandbox.urls.converter) as wire:
        headers = caller.bearer("converter:job.write") | {"Content-Type": usual_form("").content_type}
        wire.request("POST", "/api/v1/jobs", headers | {"Content-Length": "1000000000"}, usual_form(user_id).body[:300])
        response = wire.read_response()
    assert response.status == 409
    assert response.header("Connection") == "close"
    assert b'"active_job_exists"' in response.body
    assert job["job_id"].encode() in response.body
    assert caller.attempts()[-1]["outcome"] == "active_job_exists"


def test_simultaneous_uploads_of_one_user_make_one_job(caller: Caller, user_id: str) -> None:
    form = usual_form(user_id).add("model", MODEL, "a.onnx")
    headers = caller.bearer("converter:job.write") | {"Content-Type": form.content_type}
    gate = threading.Barrier(8)

    def upload(_: int) -> int:
        with Wire(caller.sandbox.urls.converter) as wire:
            wire.request("POST", "/api/v1/jobs", headers | {"Content-Length": str(len(form.body))}, form.body[:-1])
            gate.wait(10)
            wire.send(form.body[-1:])
            return wire.read_response().status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(upload, range(8))) == [201] + [409] * 7


def test_new_upload_is_welcome_once_the_job_has_ended(caller: Caller, user_id: str) -> None:
    first = caller.completed_job(user_id)
    second = caller.start_job(user_id)
    headers = caller.bearer("converter:job.read")

    def listed(**query: str) -> list[str]:
        response = caller.session.get(caller.jobs_url, params={"user_id": user_id} | query, headers=headers, timeout=10)
        return [job["job_id"] for job in response.json()["jobs"]]

    assert listed() == [second["job_id"], first["job_id"]]
    assert listed(status="in_progress") == [second["job_id"]]
    assert listed(status="completed") == [first["job_id"]]


def test_scopes_and_tokens_are_checked(caller: Caller) -> None:
    url = caller.jobs_url + "/x"
    read, write, foreign = (
        caller.bearer(s) for s in ("converter:job.read", "converter:job.write", "files:download.read")
    )
    assert caller.session.get(url, headers=read, timeout=10).json()["error"]["code"] == "job_not_found"
    assert caller.session.get(url, headers=write, timeout=10).status_code == 403
    assert caller.session.get(url, headers=foreign, timeout=10).status_code == 401
    assert caller.session.get(url, timeout=10).status_code == 401
    token = read["Authorization"]
    forged = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
    response = caller.session.get(url, headers={"Authorization": forged}, timeout=10)
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


def test_expired_access_token_is_401(tmp_path: Path) -> None:
    with start(settings_for(tmp_path, access_token_seconds=1)) as sandbox:
        caller = Caller(sandbox)
        headers = caller.bearer("converter:job.read")

        def refusal() -> str | None:
            response = caller.session.get(caller.jobs_url + "/x", headers=headers, timeout=10)
            return str(response.json()["error"]["message"]) if response.status_code == 401 else None

        assert "expired" in wait_until(refusal, "the token is refused", every=0.05)
        caller.close()


def _job(elapsed: float, **changes: Any) -> tuple[Any, ...]:
    facts: dict[str, Any] = {
        "job_id": "j",
        "user_id": "u",
        "model_filename": "m.onnx",
        "parameters": {},
        "created_at": 1000.0,
        "duration_seconds": 10.0,
        "clock_at": 1000.0,
        "clock_elapsed": 0.0,
        "clock_speed": 1.0,
    }
    state = Job(**(facts | changes)).state_at(1000.0 + elapsed)
    return state.status, state.stage, state.progress


@pytest.mark.parametrize(
    ("elapsed", "expected"),
    [
        (0, ("queued", None, 0)),
        (0.99, ("queued", None, 0)),
        (1, ("running", "onnx", 0)),
        (3.5, ("running", "bie", 27)),
        (7, ("running", "nef", 66)),
        (9.99, ("running", "nef", 99)),
        (10, ("completed", "nef", 100)),
        (1e6, ("completed", "nef", 100)),
    ],
)
def test_state_follows_from_the_time_since_creation(elapsed: float, expected: tuple[Any, ...]) -> None:
    assert _job(elapsed) == expected


def test_progress_never_goes_back_and_neither_does_updated_at() -> None:
    facts = {"job_id": "j", "user_id": "u", "model_filename": "m", "parameters": {}, "created_at": 0.0}
    job = Job(**facts, duration_seconds=10.0, clock_at=0.0, clock_elapsed=0.0, clock_speed=1.0)  # type: ignore[arg-type]
    states = [job.state_at(step / 100) for step in range(1100)]
    assert [s.progress for s in states] == sorted(s.progress for s in states)
    assert [s.updated_at for s in states] == sorted(s.updated_at for s in states)
    assert all(s.updated_at <= step / 100 + 1e-6 for step, s in enumerate(states))


def test_model_named_fail_fails_in_stage_bie() -> None:
    assert _job(5.4, model_filename="fail-nonzero.onnx")[0] == "running"
    assert _job(5.5, model_filename="Fail-nonzero.onnx")[:2] == ("failed", "bie")


def test_failed_job_says_why_and_cannot_be_promoted(caller: Caller, user_id: str) -> None:
    job = caller.start_job(user_id, filename="fail.onnx")
    caller.force(job["job_id"], speed=1e9)
    failed = caller.get_job(job["job_id"]).json()
    assert failed["status"] == "failed"
    assert failed["error"] == {
        "code": "undefined_cpu_op",
        "message": "undefined CPU op [NonZero] of node [/nms/NonZero]",
    }
    assert caller.promote(job["job_id"], user_id).json()["error"]["code"] == "job_not_completed"


def test_forced_values_are_shown_until_taken_back(caller: Caller, user_id: str) -> None:
    job_id = caller.start_job(user_id)["job_id"]
    forced = caller.force(job_id, status="exploding", progress=3, stage="bie").json()
    assert (forced["status"], forced["stage"], forced["progress"]) == ("exploding", "bie", 3)
    assert caller.force(job_id, status=None).json()["status"] == "queued"
    assert caller.force(job_id, nonsense=1).status_code == 400
    assert caller.force("unknown", status="failed").status_code == 404


def test_job_can_be_stopped_in_time(caller: Caller, user_id: str) -> None:
    job_id = caller.start_job(user_id)["job_id"]
    first = caller.force(job_id, speed=0).json()
    assert caller.get_job(job_id).json() == first


def test_promoted_result_follows_from_the_model(caller: Caller, user_id: str) -> None:
    model = MODEL + b"tail"
    job = caller.completed_job(user_id, model, "my model.onnx")
    promoted = caller.promote(job["job_id"], user_id).json()
    assert promoted["object_key"] == f"{TENANT_ID}/{user_id}/{job['job_id']}/my model 已轉換 a+b 100%.nef"
    assert promoted["filename"] == "my model_kl720.nef"
    content = caller.get_file(promoted["object_key"]).content
    assert content == b"".join(expected_result(io.BytesIO(model), job["parameters"]))
    assert len(content) == promoted["size"]


def test_result_is_a_header_and_the_model_under_a_repeating_key() -> None:
    model = bytes(range(251)) * 1000
    parameters = {"platform": "520", "model_id": 40000, "version": "0001", "other": "ignored"}
    header, _, masked = b"".join(expected_result(io.BytesIO(model), parameters)).partition(b"\n")
    assert b'"platform":"520"' in header
    assert bytes(byte ^ KEY[i % len(KEY)] for i, byte in enumerate(masked)) == model


def test_promote_is_repeatable_and_made_once_under_concurrency(caller: Caller, user_id: str) -> None:
    job = caller.completed_job(user_id, MODEL)
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: caller.promote(job["job_id"], user_id).json(), range(16)))
    assert all(response == responses[0] for response in responses)
    directory = caller.sandbox.data.jobs / job["job_id"]
    assert sorted(path.name for path in directory.iterdir()) == ["model", "result"]


def test_promote_refuses_strangers_and_unfinished_jobs(caller: Caller, user_id: str) -> None:
    job_id = caller.start_job(user_id)["job_id"]
    assert caller.promote(job_id, user_id).status_code == 409
    assert caller.promote(job_id, "somebody-else").json()["error"]["code"] == "job_not_found"
    assert caller.promote("unknown", user_id).status_code == 404
    headers = caller.bearer("converter:job.write")
    malformed = caller.session.post(f"{caller.jobs_url}/{job_id}/promote", json=[], headers=headers, timeout=10)
    assert malformed.status_code == 400


def test_restarted_converter_still_has_its_jobs(tmp_path: Path, user_id: str) -> None:
    with start(settings_for(tmp_path)) as sandbox:
        caller = Caller(sandbox)
        job = caller.start_job(user_id, MODEL)
        (sandbox.data.uploads / "left-by-a-crash").mkdir()
        sandbox.stop(CONVERTER)
        parts = urlsplit(sandbox.urls.converter)
        with pytest.raises(ConnectionRefusedError):
            Wire(parts.geturl())
        sandbox.resume(CONVERTER)
        assert caller.get_job(job["job_id"]).json()["job_id"] == job["job_id"]
        caller.force(job["job_id"], status="completed")
        caller.close()
    with start(settings_for(tmp_path)) as sandbox:
        caller = Caller(sandbox)
        assert _is_empty(sandbox.data.uploads)
        assert caller.promote(job["job_id"], user_id).status_code == 200
        caller.close()


def test_forgetting_jobs_forgets_their_results(tmp_path: Path, user_id: str) -> None:
    with start(settings_for(tmp_path)) as sandbox:
        caller = Caller(sandbox)
        job_id = caller.completed_job(user_id)["job_id"]
        object_key = caller.promote(job_id, user_id).json()["object_key"]
        assert caller.session.delete(f"{sandbox.urls.converter}/_sandbox/jobs", timeout=10).status_code == 204
        assert caller.get_job(job_id).status_code == 404
        assert caller.get_file(object_key).status_code == 404
        assert _is_empty(sandbox.data.jobs)
        caller.close()
