"""Failures as problem documents."""

import json
from typing import Any

import pytest
from werkzeug.exceptions import BadGateway

from app.api.problem import from_http_exception
from app.errors import (
    ActiveJobConflictError,
    ConverterRejectedError,
    GatewayError,
    InternalError,
    JobFailedError,
    JobNotFoundError,
    OwnershipMismatchError,
    UploadCapacityError,
    catalogue,
)
from app.services.conversions import JobView
from tests.api.edge import Edge, a_job


def problem(edge: Edge, failure: Exception, **headers: str) -> Any:
    edge.conversions.failure = failure
    return edge.client().get("/api/conversion/job-1", headers=headers)


@pytest.mark.parametrize("code", sorted(catalogue()))
@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_every_code_leaves_as_the_catalogue_describes_it(edge: Edge, code: str, language: str) -> None:
    entry = catalogue()[code]
    failure = GatewayError("the reason is for the log", texts=dict.fromkeys(entry.placeholders, "FILLED"))
    failure.code = code  # type: ignore[misc]
    response = problem(edge, failure, **{"Accept-Language": language})
    document = response.get_json()
    assert response.status_code == document["status"] == entry.status
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Language"] == language
    assert document["title"] == entry.title[language]
    assert "{" not in document["detail"]
    assert ("FILLED" in document["detail"]) == bool(entry.placeholders)
    assert document["type"] == f"urn:visiona:problem:{code}"
    assert (document["code"], document["i18n_key"]) == (code, entry.i18n_key)
    assert (document["retryable"], document["blame"]) == (entry.retryable, entry.blame.value)
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert "for the log" not in response.get_data(as_text=True)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("zh-TW", "zh-TW"),
        ("zh", "zh-TW"),
        ("zh-Hant-TW,zh;q=0.9", "zh-TW"),
        ("zh-CN,en;q=0.8", "zh-TW"),
        ("en-GB,zh-TW;q=0.9", "en"),
        ("fr,zh-TW;q=0.5,en;q=0.4", "zh-TW"),
        ("zh;q=0,en", "en"),
        ("zh;q=0", "en"),
        ("*", "en"),
        ("\x00,;;==", "en"),
    ],
)
def test_the_language_follows_the_reader(edge: Edge, accepted: str, language: str) -> None:
    response = problem(edge, JobNotFoundError(), **{"Accept-Language": accepted})
    assert response.headers["Content-Language"] == language


def test_a_foreign_job_and_an_absent_one_look_the_same(edge: Edge) -> None:
    responses = []
    for failure in (JobNotFoundError("absent"), OwnershipMismatchError("foreign")):
        response = problem(edge, failure, **{"X-Request-ID": "same"})
        responses.append((response.status_code, response.get_data(), sorted(response.headers.items())))
    assert responses[0] == responses[1]


def test_a_bug_is_an_internal_error_without_details(edge: Edge) -> None:
    response = problem(edge, ValueError("secret in a message"))
    assert (response.status_code, response.get_json()["code"]) == (500, InternalError.code)
    assert "secret" not in response.get_data(as_text=True)


def test_retry_after_is_in_whole_seconds_and_never_zero(edge: Edge) -> None:
    assert problem(edge, UploadCapacityError(retry_after_seconds=0.2)).headers["Retry-After"] == "1"
    assert problem(edge, UploadCapacityError(retry_after_seconds=7.1)).headers["Retry-After"] == "8"
    assert problem(edge, UploadCapacityError()).headers["Retry-After"] == "5"
    assert "Retry-After" not in problem(edge, JobNotFoundError()).headers


def test_the_conflict_carries_the_running_job_as_its_owner_sees_it(edge: Edge) -> None:
    view = JobView(a_job(user_id="alice"), "net.onnx", 5, None)
    document = problem(edge, ActiveJobConflictError(extensions={"active_job": view})).get_json()
    assert document["active_job"]["job_id"] == "job-1"
    assert "user_id" not in document["active_job"]


def test_a_failed_job_carries_its_error(edge: Edge) -> None:
    error = {"code": "x", "message": "<b>why</b>"}
    assert problem(edge, JobFailedError(extensions={"job_error": error})).get_json()["job_error"] == error


def test_the_converters_error_message_passes_as_text(edge: Edge) -> None:
    document = problem(edge, ConverterRejectedError("bad_model", "opset {0} %s <i>")).get_json()
    assert document["upstream_code"] == "bad_model"
    assert "opset {0} %s <i>" in document["detail"]


def test_a_wrong_method_gets_the_allowed_ones(edge: Edge) -> None:
    response = edge.client().put("/api/me")
    assert (response.status_code, response.get_json()["code"]) == (405, "method_not_allowed")
    assert "GET" in response.headers["Allow"]


def test_a_path_without_a_route_is_a_problem_document_too(edge: Edge) -> None:
    for path in ("/nothing", "/auth/nothing", "/api/nothing"):
        response = edge.client().get(path)
        assert (response.status_code, response.get_json()["code"]) == (404, "not_found"), path


@pytest.mark.parametrize("tail", ["../x", "a/b", "a%2Fb", "a/download/x", ""])
def test_paths_below_a_job_without_a_route_are_an_absent_job(edge: Edge, tail: str) -> None:
    response = edge.client().get(f"/api/conversion/{tail}")
    assert (response.status_code, json.loads(response.data)["code"]) == (404, "job_not_found")


def test_an_unexpected_http_exception_is_an_internal_error() -> None:
    assert from_http_exception(BadGateway()).code == "internal_error"
