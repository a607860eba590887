"""The conversion routes: what they pass to the service, and their responses."""

import json
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from urllib.parse import quote, unquote

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from app.api.requests import MAX_SMALL_BODY_BYTES
from app.domain.filters import JobFilter
from app.domain.job import Job, JobError, JobStatus
from app.domain.job_record import JobRecord
from app.domain.model import Model
from app.domain.stages import StageTime
from app.services.conversions import JobView, Receipt
from app.streaming.part_headers import MAX_NAME_BYTES, MAX_PART_HEADER_BYTES
from tests.api.edge import NOW, SECRET_URL, Edge, a_job

JOB_MEMBERS = {
    "job_id", "status", "stage", "stage_index", "stage_count", "progress", "terminal", "created_at", "updated_at",
    "parameters", "filename", "size", "reference_images", "stages", "usual_time", "advice",
}  # fmt: skip
MODEL = Model("m1", "alice", "job-1", "net", "720", "net.nef", 9, "ab" * 32, "application/octet-stream", "k/m1", NOW)


def test_init_passes_the_body_on_and_returns_201_with_the_job(edge: Edge) -> None:
    body = b"--b\r\n\r\n--b--\r\n"
    response = edge.client("bob").post(
        "/api/conversion/init", data=body, content_type='multipart/form-data; boundary="b"'
    )
    assert response.status_code == 201
    assert edge.conversions.calls == [("init", "bob", "b")]
    assert (edge.conversions.body, edge.conversions.announced_bytes) == (body, len(body))
    assert set(response.get_json()) == JOB_MEMBERS
    assert response.headers["Location"] == "/api/conversion/job-1"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("upload_id", ["", "a" * 65, "a b", "a\u00e9"])
def test_the_id_of_an_upload_is_passed_on_if_it_is_well_formed(edge: Edge, upload_id: str) -> None:
    body = {"data": b"--b\r\n\r\n--b--\r\n", "content_type": "multipart/form-data; boundary=b"}
    malformed = edge.client().post("/api/conversion/init", headers={"X-Upload-ID": upload_id}, **body)
    assert (malformed.status_code, malformed.get_json()["code"]) == (400, "invalid_request")
    ended = edge.client().delete("/api/conversion/upload", query_string={"upload_id": upload_id})
    assert (ended.status_code, ended.get_json()["code"]) == (404, "upload_not_found")
    assert edge.conversions.calls == []
    assert edge.client().post("/api/conversion/init", headers={"X-Upload-ID": "aZ-_9"}, **body).status_code == 201
    assert edge.conversions.calls == [("init", "alice", "b", "aZ-_9")]


def test_an_upload_is_ended_by_our_own_pages_only(edge: Edge) -> None:
    client = edge.client("bob")
    path = "/api/conversion/upload?upload_id=u1"
    assert client.delete(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert edge.conversions.calls == []
    assert client.delete(path).status_code == 204
    edge.conversions.has_ended = False
    unconfirmed = client.delete(path)
    assert (unconfirmed.status_code, unconfirmed.data, unconfirmed.headers["Retry-After"]) == (202, b"", "5")
    assert edge.conversions.calls == [("end", "bob", "u1")] * 2


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        (None, "unsupported_media_type"),
        ("application/json", "unsupported_media_type"),
        ("multipart/mixed; boundary=b", "unsupported_media_type"),
        ("multipart/form-data", "invalid_request"),
        ("multipart/form-data; boundary=", "invalid_request"),
        ('multipart/form-data; boundary="a\\"b"', "invalid_request"),
        ("multipart/form-data; boundary=" + "b" * 201, "invalid_request"),
    ],
)
def test_init_accepts_only_multipart_with_a_boundary(edge: Edge, content_type: str | None, code: str) -> None:
    response = edge.client().post("/api/conversion/init", data=b"x", content_type=content_type)
    assert response.get_json()["code"] == code
    assert edge.conversions.calls == []


def test_check_is_made_for_the_sessions_user_and_returns_the_limit(edge: Edge) -> None:
    announced = {"size": "123", "parts": "4", "filename": "a.onnx", "user_id": "bob", "model_id": "32768"}
    response = edge.client().post("/api/conversion/check", data=announced)
    assert response.status_code == 200
    assert response.get_json() == {
        "ok": True,
        "max_upload_bytes": edge.settings.max_upload_bytes,
        "session_expires_at": "2026-11-23T13:00:00.000Z",
    }
    assert edge.conversions.calls == [("check", "alice")]


@pytest.mark.parametrize("number", ["-1", "1e3", "²", "9" * 30, "a"])
@pytest.mark.parametrize("name", ["size", "parts"])
def test_check_refuses_an_invalid_number(edge: Edge, name: str, number: str) -> None:
    response = edge.client().post("/api/conversion/check", data={name: number})
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid_request")


def _announced_at(limit: str, edge: Edge, excess: int) -> dict[str, str]:
    """Return the announcement of an upload that reaches one of init's limits, or exceeds it by `excess`."""
    header = 'Content-Disposition: form-data; name="model"; filename=""'
    return {
        "size": {"size": str(edge.settings.max_upload_bytes + excess)},
        "parts": {"parts": str(edge.settings.max_parts + excess)},
        "filename": {"filename": "x" * (MAX_PART_HEADER_BYTES - len(header) + excess)},
        "field": {"version": "x" * (MAX_SMALL_BODY_BYTES - len("version=") + excess)},
        "name": {"x" * (MAX_NAME_BYTES + excess): "1"},
    }[limit]


@pytest.mark.parametrize("limit", ["size", "parts", "filename", "field", "name"])
def test_check_refuses_what_exceeds_a_limit_of_init_and_nothing_at_the_limit(edge: Edge, limit: str) -> None:
    """It is accepted up to the last byte or part. One more is refused like by init, before any call."""
    client = edge.client()
    assert client.post("/api/conversion/check", data=_announced_at(limit, edge, 0)).status_code == 200
    edge.conversions.calls.clear()
    response = client.post("/api/conversion/check", data=_announced_at(limit, edge, 1))
    assert (response.status_code, response.get_json()["code"]) == (413, "payload_too_large")
    assert edge.conversions.calls == []


def test_check_ignores_identity_claims_and_refuses_other_names_that_init_refuses(edge: Edge) -> None:
    """A name that init drops is not refused; one that init cannot send is."""
    client = edge.client()
    claim = {"user_id": "x" * 60_000}
    assert client.post("/api/conversion/check", data=claim).status_code == 200
    response = client.post("/api/conversion/check", data={'a"b': "1"})
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("name", ["size", "parts"])
def test_the_limits_that_users_of_the_console_meet_are_explained_in_their_language(edge: Edge, name: str) -> None:
    form = {name: str(10**17)}
    response = edge.client().post("/api/conversion/check", data=form, headers={"Accept-Language": "zh-TW"})
    assert "at most" not in response.get_json()["detail"]
    assert "最多" in response.get_json()["detail"]


def test_check_accepts_the_models_first_bytes_without_spooling_them(edge: Edge) -> None:
    def check(head_bytes: int) -> TestResponse:
        head = FileStorage(BytesIO(b"x" * head_bytes), "head.bin", "head")
        boundary, body = encode_multipart({"size": "1", "head": head})
        return edge.client().post(
            "/api/conversion/check", data=body, content_type=f"multipart/form-data; boundary={boundary}"
        )

    assert check(4 * 1024 * 1024).status_code == 200
    assert check(4 * 1024 * 1024 + 1).get_json()["code"] == "payload_too_large"
    assert check(5 * 1024 * 1024).get_json()["code"] == "payload_too_large"


def test_a_poll_returns_the_job_an_etag_and_retry_after(edge: Edge) -> None:
    response = edge.client().get("/api/conversion/job-1")
    assert response.status_code == 200
    assert set(response.get_json()) == JOB_MEMBERS
    assert response.get_json()["stage_index"] == 1
    assert response.headers["Retry-After"] == "2"
    assert response.headers["Cache-Control"] == "private, no-cache"

    again = edge.client().get("/api/conversion/job-1", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == response.headers["ETag"]
    assert again.headers["Retry-After"] == "2"


def test_stages_have_the_times_at_which_they_were_seen(edge: Edge) -> None:
    stages = (StageTime("onnx", NOW, NOW + timedelta(seconds=4)), StageTime("bie", NOW, is_approximate=True))
    edge.conversions.view = JobView(a_job(), "", None, None, stages=stages)
    began, ended = "2026-11-23T12:00:00.000Z", "2026-11-23T12:00:04.000Z"
    assert edge.client().get("/api/conversion/job-1").get_json()["stages"] == [
        {"stage": "onnx", "started_at": began, "ended_at": ended, "approximate": False},
        {"stage": "bie", "started_at": began, "ended_at": None, "approximate": True},
    ]


def test_after_a_minute_retry_after_is_longer(edge: Edge) -> None:
    edge.conversions.view = JobView(a_job(created_at=NOW - timedelta(seconds=61)), "", None, None)
    assert edge.client().get("/api/conversion/job-1").headers["Retry-After"] == "5"


def test_a_job_that_has_ended_has_no_retry_after(edge: Edge) -> None:
    ended = a_job(status=JobStatus.FAILED, error=JobError("x", "why"))
    edge.conversions.view = JobView(ended, "net.onnx", 5, None)
    response = edge.client().get("/api/conversion/job-1")
    assert "Retry-After" not in response.headers
    assert response.get_json()["terminal"] is True
    assert response.get_json()["error"] == {"code": "x", "message": "why"}


def test_a_promoted_job_shows_its_model(edge: Edge) -> None:
    edge.conversions.view = JobView(a_job(status=JobStatus.COMPLETED), "net.onnx", 5, "m1")
    job = edge.client().get("/api/conversion/job-1").get_json()
    assert job["library_model_id"] == job["model_id"] == "m1"


def test_a_job_of_which_nothing_is_known_still_has_every_member(edge: Edge) -> None:
    edge.conversions.view = JobView(Job("job-1", JobStatus.RUNNING), "", None, None)
    document = edge.client().get("/api/conversion/job-1").get_json()
    assert set(document) == JOB_MEMBERS
    assert document["created_at"] is None
    assert document["stage_count"] == 3


def test_active_is_the_job_or_null(edge: Edge) -> None:
    response = edge.client().get("/api/conversion/active")
    assert response.get_json()["active_job"]["job_id"] == "job-1"
    assert response.headers["Retry-After"] == "2"
    edge.conversions.view = None  # type: ignore[assignment]
    response = edge.client().get("/api/conversion/active")
    assert response.get_json() == {"active_job": None}
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize(("query", "limit"), [("", 20), ("?limit=1", 1), ("?limit=100", 100), ("?limit=007", 7)])
def test_history_takes_a_limit_from_1_to_100(edge: Edge, query: str, limit: int) -> None:
    response = edge.client().get(f"/api/conversion/jobs{query}")
    assert response.get_json()["next_cursor"] == "next"
    assert edge.conversions.calls == [("history", "alice", limit, None)]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1.5", "9" * 40])
def test_history_refuses_another_limit(edge: Edge, limit: str) -> None:
    response = edge.client().get(f"/api/conversion/jobs?limit={limit}")
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", JobFilter()),
        ("?q=&platform=&status=&filename=&model_id=", JobFilter()),
        ("?q=%20YOLO%20%20e%CC%81%20", JobFilter(words=("YOLO", "é"))),
        ("?q=1+2+3+4+5+6+7+8+9++10", JobFilter(words=("1", "2", "3", "4", "5", "6", "7", "8 9  10"))),
        ("?platform=630&status=failed", JobFilter(chip="630", statuses=frozenset({JobStatus.FAILED}))),
        ("?status=active", JobFilter(statuses=frozenset({JobStatus.QUEUED, JobStatus.RUNNING}))),
        ("?filename=a%20b%25.onnx&model_id=32769", JobFilter(filename="a b%.onnx", model_id=32769)),
        (f"?q={'x' * 255}", JobFilter(words=("x" * 255,))),
        ("?unknown=1", JobFilter()),
    ],
)
def test_the_query_of_the_history_says_which_jobs_are_wanted(edge: Edge, query: str, wanted: JobFilter) -> None:
    assert edge.client().get(f"/api/conversion/jobs{query}").status_code == 200
    assert edge.conversions.wanted == wanted


@pytest.mark.parametrize(
    "query",
    [
        "platform=721", "platform=KL720", "status=done", "status=Failed", "model_id=x", "model_id=-1", "q=a%00b",
        f"q={'x' * 256}", "filename=a%0Ab", f"filename={'x' * 256}",
    ],
)  # fmt: skip
def test_the_history_refuses_a_filter_that_is_not_allowed(edge: Edge, query: str) -> None:
    response = edge.client().get(f"/api/conversion/jobs?{query}")
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid_request")
    assert edge.conversions.calls == []


def test_promote_returns_201_and_then_200_with_the_same_model(edge: Edge) -> None:
    edge.conversions.model = MODEL
    client = edge.client()
    first, second = (client.post("/api/conversion/job-1/promote-to-models") for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.get_json() == second.get_json()
    assert set(first.get_json()) == {
        "id", "name", "source_job_id", "platform", "model_id", "version", "filename", "size", "sha256", "created_at",
    }  # fmt: skip
    assert first.headers["Location"] == "/api/models/m1"


def test_a_download_is_a_redirect_without_body_that_is_not_cached(edge: Edge) -> None:
    response = edge.client().get("/api/conversion/job-1/download")
    assert (response.status_code, response.data) == (302, b"")
    assert response.headers["Location"] == SECRET_URL
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert [name for name, value in response.headers.items() if "t0k3n" in value] == ["Location"]


def test_scripts_may_check_whether_a_download_would_work(edge: Edge) -> None:
    response = edge.client().get("/api/conversion/job-1/download?check=1", headers={"Sec-Fetch-Mode": "cors"})
    assert response.get_json() == {"ready": True, "filename": "net.nef", "size": 9}
    assert edge.conversions.calls == [("check_download", "alice", "job-1")]


def test_identity_comes_from_the_session_whatever_the_client_sends(edge: Edge) -> None:
    client = edge.client("alice")
    claims = {"X-User-Id": "bob", "X-Forwarded-User": "bob", "Authorization": "Bearer bob", "Remote-User": "bob"}
    client.get("/api/conversion/job-1?user_id=bob&sub=bob", headers=claims)
    client.post("/api/conversion/check?user_id=bob", data={"user_id": "bob", "sub": "bob"}, headers=claims)
    client.post(
        "/api/conversion/job-1/promote-to-models", data=json.dumps({"user_id": "bob"}), content_type="application/json"
    )
    assert {call[1] for call in edge.conversions.calls} == {"alice"}


def test_a_receipt_is_a_file_with_everything_that_is_known(edge: Edge) -> None:
    job = a_job(status=JobStatus.COMPLETED, parameters={"platform": 720}, created_at=NOW, updated_at=NOW)
    facts = {
        "ended_at": NOW.isoformat(),
        "model_sha256": "cd" * 32,
        "ref_images": 2,
        "ref_image_bytes": 10,
        "ref_image_names": ["貓.png", "dog.png"],
        "gateway_version": "1.2.3",
    }
    advice = {"format": "unknown", "reason": "not_a_model"}
    record = JobRecord("u", "alice", "job-1", "貓.onnx", 5, NOW, job, upload_facts=facts, advice=advice)
    edge.conversions.receipt = Receipt(record, job, replace(MODEL, is_verified=True))
    response = edge.client().get("/api/conversion/job-1/receipt")
    assert response.status_code == 200
    assert quote("貓-job-1-receipt.json") in response.headers["Content-Disposition"]
    assert edge.conversions.calls == [("receipt", "alice", "job-1")]
    now = "2026-11-23T12:00:00.000Z"
    receipt = response.get_json()
    assert receipt["advice"].pop("text")
    assert receipt == {
        "schema": "visiona-receipt/1",
        "gateway_version": "1.2.3",
        "job_id": "job-1",
        "status": "completed",
        "error": None,
        "upload": {
            "started_at": now,
            "ended_at": now,
            "reference_images": {"count": 2, "size": 10, "first_filenames": ["貓.png", "dog.png"]},
        },
        "model": {"filename": "貓.onnx", "size": 5, "sha256": "cd" * 32},
        "parameters": {"platform": "720"},
        "created_at": now,
        "ended_at": now,
        "stages": [],
        "usual_time": None,
        "advice": advice,
        "result": {
            "library_model_id": "m1",
            "filename": "net.nef",
            "size": 9,
            "sha256": "ab" * 32,
            "verified": True,
            "stored_at": now,
        },
    }


def test_receipts_of_models_with_a_long_name_differ_in_their_names(edge: Edge) -> None:
    job_id = "j" * 128
    job = Job(job_id, JobStatus.QUEUED, "alice")
    edge.conversions.receipt = Receipt(JobRecord("u", "alice", job_id, "貓" * 80 + ".onnx", 5, NOW, job), job, None)
    response = edge.client().get(f"/api/conversion/{job_id}/receipt")
    name = unquote(response.headers["Content-Disposition"].partition("UTF-8''")[2])
    assert name == "貓" * 33 + f"-{job_id}-receipt.json"


def test_a_receipt_of_a_job_without_known_upload_says_so(edge: Edge) -> None:
    job = a_job()
    edge.conversions.receipt = Receipt(JobRecord("u", "alice", "job-1", "", None, NOW, job), job, None)
    response = edge.client().get("/api/conversion/job-1/receipt")
    receipt = response.get_json()
    assert (receipt["gateway_version"], receipt["upload"], receipt["result"]) == (None, None, None)
    assert receipt["model"] == {"filename": "", "size": None, "sha256": None}
    assert 'filename="model-job-1-receipt.json"' in response.headers["Content-Disposition"]
