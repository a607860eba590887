"""The API's description: valid, whole, and true as far as one process can tell; the rest is tests/integration's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from app.api.openapi import documented_statuses, openapi_document, path_of
from app.api.openapi.operations import OPERATIONS, PARAMETERS
from app.errors import ConverterRejectedError, GatewayError
from app.errors.catalogue import catalogue
from tests.api.edge import Edge, make_edge

#: Codes that belong to no operation, and why.
ELSEWHERE = {
    "method_not_allowed": "another method than those that are described",
}
#: Methods that Flask adds by itself.
ADDED = {"HEAD", "OPTIONS"}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with make_edge(tmp_path) as made:
        yield made


@pytest.fixture
def document(edge: Edge) -> dict[str, Any]:
    answer = edge.client(None).get("/openapi.json")
    assert answer.status_code == 200
    return dict(answer.get_json())


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1.")


def test_every_route_is_described_and_nothing_else(edge: Edge) -> None:
    routes = {
        (method, rule.rule) for rule in edge.app.url_map.iter_rules() for method in (rule.methods or set()) - ADDED
    }
    assert set(documented_statuses()) == routes


def test_every_code_of_the_catalogue_belongs_to_an_operation() -> None:
    told = {code for operation in OPERATIONS for code in operation.codes}
    assert set(catalogue()) - told == set(ELSEWHERE)
    assert told <= set(catalogue())


def test_every_parameter_that_is_defined_is_taken_somewhere() -> None:
    in_paths = {name for operation in OPERATIONS for name in PARAMETERS if f"{name}>" in operation.rule}
    assert {name for operation in OPERATIONS for name in operation.parameters} | in_paths == set(PARAMETERS)


def test_names_of_operations_are_different() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_examples_are_what_their_schemas_say(document: dict[str, Any]) -> None:
    validator = Validator(document)
    checked = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    for example in content.get("examples", {}).values():
                        validator.check(example["value"], content["schema"])
                        checked += 1
    assert checked > 100


def test_it_needs_no_session_and_may_be_kept(edge: Edge) -> None:
    answer = edge.client(None).get("/openapi.json")
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    again = edge.client(None).get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_it_names_the_cookie_and_the_address_of_this_gateway(tmp_path: Path) -> None:
    with make_edge(tmp_path, VISIONA_PUBLIC_BASE_URL="https://visiona.example") as edge:
        document = edge.client(None).get("/openapi.json", headers={"Host": "visiona.example"}).get_json()
    assert document["servers"] == [{"url": "https://visiona.example"}]
    assert document["components"]["securitySchemes"]["session"]["name"] == "__Host-visiona_session"


def test_the_page_shows_every_operation_and_every_schema(edge: Edge, document: dict[str, Any]) -> None:
    page = edge.client(None).get("/docs").get_data(as_text=True)
    for operation in OPERATIONS:
        assert f'id="{operation.name}"' in page
        assert f"<code>{path_of(operation.rule)}</code>" in page
    for name in ("Job", "Model", "Problem"):
        assert f'id="schema-{name}"' in page
    assert "<script>" not in page
    assert " style=" not in page


class Validator:
    """Holds values against schemas of a document, whose references lead into it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = document["components"]

    def check(self, value: object, schema: dict[str, Any]) -> None:
        Draft202012Validator({**schema, "components": self._components}).validate(value)


# --- what the conversion service fails with is answered as described

_CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "start_conversion": (
        "POST",
        "/api/conversion/init",
        {"data": b"--b--\r\n", "content_type": "multipart/form-data; boundary=b"},
    ),
    "check_upload": ("POST", "/api/conversion/check", {"data": {"size": "1"}}),
    "active_job": ("GET", "/api/conversion/active", {}),
    "job_history": ("GET", "/api/conversion/jobs", {}),
    "get_job": ("GET", "/api/conversion/job-1", {}),
    "keep_result": ("POST", "/api/conversion/job-1/promote-to-models", {}),
    "download_result": ("GET", "/api/conversion/job-1/download", {}),
}
#: Told by the edge itself, before the service is asked.
_OF_THE_EDGE = {"bad_host", "unauthenticated", "cross_site_request", "conversion_disabled", "navigation_required"}
_FAILURES = [
    pytest.param(operation.name, code, id=f"{operation.name}-{code}")
    for operation in OPERATIONS
    if operation.name in _CALLS
    for code in operation.codes
    if code not in _OF_THE_EDGE
]


def failure_of(code: str) -> Exception:
    """What has that code; a bug is any exception of nobody's."""
    if code == "internal_error":
        return ZeroDivisionError("a bug")
    if code == "converter_rejected":
        return ConverterRejectedError("bad_model", "the converter's words")
    by_code = {one.code: one for one in _subclasses(GatewayError)}
    return by_code[code]("for a test")


def _subclasses(root: type[GatewayError]) -> list[type[GatewayError]]:
    return [one for child in root.__subclasses__() for one in [*_subclasses(child), child]]


def ask(client: FlaskClient, name: str) -> Any:
    method, path, how = _CALLS[name]
    return client.open(path, method=method, **how)


@pytest.mark.parametrize(("name", "code"), _FAILURES)
def test_a_failure_of_the_service_is_answered_as_described(edge: Edge, name: str, code: str) -> None:
    document = openapi_document(edge.settings.public_base_url, "visiona_session")
    edge.conversions.failure = failure_of(code)
    answer = ask(edge.client(), name)
    entry = catalogue()[code]
    method, path, _ = _CALLS[name]
    [described] = [
        methods[method.lower()]["responses"][str(entry.status)]
        for methods in document["paths"].values()
        if methods.get(method.lower(), {}).get("operationId") == name
    ]
    assert (answer.status_code, answer.mimetype) == (entry.status, "application/problem+json"), path
    problem = json.loads(answer.data)
    assert problem["code"] == code
    Validator(document).check(problem, described["content"]["application/problem+json"]["schema"])
