"""The description of the API: valid, complete in both directions, and true for every refusal of the guard."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.test import TestResponse

from app.api.documents import job_document, model_document, past_job_document
from app.api.fair_share import MAX_REQUESTS_PER_USER
from app.api.guard import HOSTLESS_PATHS, SAFE_METHODS
from app.api.openapi import build_document, documented_statuses
from app.api.openapi.operation import Operation
from app.api.openapi.operations import OPERATIONS
from app.api.requests import MAX_HEADER_BYTES
from app.domain.job import JobError, JobStatus
from app.domain.model import Model
from app.errors import LANGUAGES, catalogue
from app.services.conversions import JobView
from app.version import VERSION
from tests.api.edge import NOW, Edge, a_job, make_edge

#: Flask adds these to every route. The description covers them once.
GENERIC = {"HEAD", "OPTIONS"}


@pytest.fixture
def document(edge: Edge) -> dict[str, Any]:
    return build_document(edge.settings)


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of every operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method.upper(), path, operation


def address(operation: Operation) -> str:
    """Return an address that matches the operation's route."""
    given = operation.rule.replace("<path:name>", "css/base.css")
    for placeholder in ("<job_id>", "<model_id>", "<version>"):
        given = given.replace(placeholder, "some-id")
    return given


def routes(app: Flask) -> set[tuple[str, str]]:
    return {(method, rule.rule) for rule in app.url_map.iter_rules() for method in (rule.methods or set()) - GENERIC}


def test_it_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_routes_and_the_described_operations_are_the_same(edge: Edge) -> None:
    described = {(operation.method, operation.rule) for operation in OPERATIONS if operation.method not in GENERIC}
    assert described == routes(edge.app)
    assert len(OPERATIONS) == len({(operation.method, operation.rule) for operation in OPERATIONS})
    assert set(documented_statuses()) == {(operation.method, operation.rule) for operation in OPERATIONS}


def test_head_is_described_where_it_is_refused(edge: Edge) -> None:
    described = {operation.rule for operation in OPERATIONS if operation.method == "HEAD"}
    refused = set()
    for operation in OPERATIONS:
        if operation.method == "GET":
            response = edge.client().head(address(operation))
            if response.status_code == 405:
                assert response.headers["Allow"] == "GET, OPTIONS"
                refused.add(operation.rule)
    assert refused == described


def test_every_code_of_the_catalog_belongs_to_an_operation(document: dict[str, Any]) -> None:
    """Each code is described by some operation, with its status and in every language."""
    told: dict[str, set[str]] = {}
    for _, _, operation in operations_of(document):
        for status, response in operation["responses"].items():
            examples = response.get("content", {}).get("application/problem+json", {}).get("examples", {})
            for name, example in examples.items():
                code, _, language = name.partition(".")
                told.setdefault(code, set()).add(language)
                assert str(catalogue()[code].status) == status
                assert example["value"]["title"] == catalogue()[code].title[language]
                assert "{" not in example["value"]["detail"]
    # `method_not_allowed` comes from routing, or from HEAD, whose response has no body.
    assert set(catalogue()) - set(told) == {"method_not_allowed"}
    assert set().union(*told.values()) == set(LANGUAGES)


def test_every_example_is_what_its_schema_says(document: dict[str, Any]) -> None:
    checked = 0
    for _, path, operation in operations_of(document):
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media_type in (media for content in contents for media in content.get("content", {}).values()):
            examples = [example["value"] for example in media_type.get("examples", {}).values()]
            examples += [media_type["example"]] if "example" in media_type else []
            for example in examples:
                schema = {**media_type["schema"], "components": document["components"]}
                jsonschema.validate(example, schema, jsonschema.Draft202012Validator)
                checked += 1
        assert operation["x-summary"].keys() == set(LANGUAGES), path
    assert checked > 100


def test_every_component_is_used_and_every_reference_resolves(document: dict[str, Any]) -> None:
    written = json.dumps(document)
    for kind in ("schemas", "headers", "parameters"):
        for name in document["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in written, (kind, name)
    for part in written.split('"$ref": "#/components/')[1:]:
        kind, name = part.split('"', 1)[0].split("/")
        assert name in document["components"][kind]
    used = {tag for _, _, operation in operations_of(document) for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}


def test_jobs_and_models_have_exactly_the_described_members(document: dict[str, Any]) -> None:
    """Documents with all and with the fewest possible members have exactly the described members."""
    schemas = document["components"]["schemas"]
    full = JobView(
        a_job(status=JobStatus.FAILED, error=JobError("code", "undefined CPU op Einsum of node attention")),
        "net.onnx",
        5,
        "model",
        NOW,
        model_sha256="0" * 64,
    )
    assert past_job_document(full, "en").keys() == job_document(full, "en").keys()
    # Older clients read `model_id`. The description has only the unambiguous name.
    assert job_document(full, "en").keys() - {"model_id"} == schemas["Job"]["properties"].keys()
    assert job_document(JobView(a_job(), "net.onnx", None, None), "en").keys() == set(schemas["Job"]["required"])
    model = Model("id", "alice", "job", "name", "720", "net.nef", 1, "0" * 64, "application/x", "key", NOW)
    assert model_document(model).keys() == schemas["Model"]["properties"].keys()


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (
            {"model_id": 32769, "version": "0001", "platform": "720"},
            {"model_id": 32769, "version": "0001", "platform": "720"},
        ),
        ({"model_id": "32769", "version": 1, "platform": 720}, {"model_id": 32769, "version": "1", "platform": "720"}),
        ({"model_id": "none", "quantize": True}, {"quantize": True}),
        ({}, {}),
    ],
)
def test_parameters_have_the_described_types_whatever_types_the_converter_sends(
    document: dict[str, Any], told: dict[str, object], shown: dict[str, object]
) -> None:
    parameters = job_document(JobView(a_job(parameters=told), "net.onnx", None, None), "en")["parameters"]
    assert parameters == shown
    jsonschema.validate(parameters, document["components"]["schemas"]["JobParameters"])


def test_the_version_is_that_of_the_package(document: dict[str, Any]) -> None:
    assert document["info"]["version"] == VERSION


def test_the_document_is_public_and_cacheable_for_an_hour(edge: Edge) -> None:
    """No session is needed, the response is cacheable, and its ETag avoids a second body."""
    response = edge.client(None).get("/openapi.json")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.get_json() == build_document(edge.settings)
    assert response.headers["Cache-Control"] == "public, max-age=3600"
    assert "Set-Cookie" not in response.headers
    again = edge.client(None).get("/openapi.json", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_the_document_has_the_configured_server_and_cookie(tmp_path: Path) -> None:
    """The server is the public address, and under https the session cookie has another name."""
    with make_edge(tmp_path, VISIONA_PUBLIC_BASE_URL="https://visiona.example") as edge:
        document = build_document(edge.settings)
    assert document["servers"] == [{"url": "https://visiona.example"}]
    assert document["components"]["securitySchemes"]["session"]["name"] == "__Host-visiona_session"


def ask(edge: Edge, operation: Operation, user_id: str | None = "alice", **headers: str) -> TestResponse:
    return edge.client(user_id).open(address(operation), method=operation.method, headers=headers)


def code_of(response: TestResponse, operation: Operation) -> str | None:
    """Return the failure's code; None for HEAD, whose response has no body."""
    return None if operation.method == "HEAD" else response.get_json()["code"]


each_operation = pytest.mark.parametrize(
    "operation", OPERATIONS, ids=[f"{operation.method} {operation.rule}" for operation in OPERATIONS]
)


@pytest.fixture(scope="module")
def shared_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One edge for requests that change nothing."""
    with make_edge(tmp_path_factory.mktemp("edge")) as made:
        yield made


@pytest.fixture(scope="module")
def disabled_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge without converter and FAA."""
    with make_edge(tmp_path_factory.mktemp("disabled"), is_enabled=False) as made:
        yield made


@pytest.fixture(scope="module")
def busy_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge on which a user has reached the limit of concurrent requests."""
    folder = tmp_path_factory.mktemp("busy")
    with make_edge(folder) as made, made.requests_in_progress("alice", MAX_REQUESTS_PER_USER):
        yield made


@pytest.fixture(scope="module")
def forgetful_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge whose database cannot tell whether a session was signed out."""
    folder = tmp_path_factory.mktemp("forgetful")
    with make_edge(folder) as made:
        with closing(sqlite3.connect(folder / "gateway.db")) as database:
            database.execute("DROP TABLE revoked_sessions")
        yield made


@each_operation
def test_the_guard_refuses_requests_as_described(shared_edge: Edge, operation: Operation) -> None:
    """A wrong host, a missing session and another site are refused exactly where this is described."""
    statuses = documented_statuses()[operation.method, operation.rule]
    if operation.rule not in HOSTLESS_PATHS:
        refused = ask(shared_edge, operation, Host="elsewhere.example")
        assert refused.status_code == 400
        assert code_of(refused, operation) in {"bad_host", None}
        assert 400 in statuses
    without_session = ask(shared_edge, operation, None, Accept="application/json")
    assert (without_session.status_code == 401) == (401 in statuses)
    if operation.method not in SAFE_METHODS:
        cross_site = ask(shared_edge, operation, **{"Sec-Fetch-Site": "cross-site"})
        assert (cross_site.status_code, code_of(cross_site, operation)) == (403, "cross_site_request")
        assert 403 in statuses


@each_operation
def test_a_content_encoding_is_refused_as_described(shared_edge: Edge, operation: Operation) -> None:
    response = ask(shared_edge, operation, **{"Content-Encoding": "gzip"})
    assert (response.status_code, code_of(response, operation)) in {(415, "unsupported_media_type"), (415, None)}
    assert 415 in documented_statuses()[operation.method, operation.rule]


@each_operation
def test_a_header_that_is_too_long_is_refused_as_described(shared_edge: Edge, operation: Operation) -> None:
    for name in ("Accept", "Accept-Language", "If-None-Match", "Range"):
        refused = ask(shared_edge, operation, **{name: "a" * (MAX_HEADER_BYTES + 1)})
        assert (refused.status_code, code_of(refused, operation)) in {(400, "invalid_request"), (400, None)}
    assert 400 in documented_statuses()[operation.method, operation.rule]


@each_operation
def test_too_many_requests_are_refused_as_described(busy_edge: Edge, operation: Operation) -> None:
    """If a session is required, a request beyond the user's limit of concurrent requests gets 429."""
    assert operation.needs_session == (429 in documented_statuses()[operation.method, operation.rule])
    if operation.needs_session:
        response = ask(busy_edge, operation)
        assert (response.status_code, code_of(response, operation)) in {(429, "too_many_requests"), (429, None)}


@each_operation
def test_operations_that_are_not_configured_respond_as_described(disabled_edge: Edge, operation: Operation) -> None:
    # A different user each time, because one of the operations signs out.
    response = ask(disabled_edge, operation, operation.operation_id)
    assert (response.status_code == 501) == (501 in documented_statuses()[operation.method, operation.rule])


@each_operation
def test_a_failing_database_is_reported_as_described(forgetful_edge: Edge, operation: Operation) -> None:
    """Operations that require a session return 500 if it cannot be looked up. The others still work."""
    response = ask(forgetful_edge, operation, operation.operation_id)
    assert (response.status_code == 500) == ("model_store_unavailable" in operation.codes)
    if response.status_code == 500:
        assert code_of(response, operation) in {"model_store_unavailable", None}
