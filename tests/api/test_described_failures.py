"""Every failure of the conversion service has the response that the description promises."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.api.openapi import build_document
from app.api.openapi.operations import OPERATIONS
from app.errors import ConverterRejectedError, GatewayError, LibraryFullError
from app.errors.catalogue import catalogue
from tests.api.edge import Edge, make_edge

#: A request for each operation that reaches the service.
CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "startConversion": (
        "POST",
        "/api/conversion/init",
        {"data": b"--b--\r\n", "content_type": "multipart/form-data; boundary=b"},
    ),
    "endUpload": ("DELETE", "/api/conversion/upload?upload_id=u1", {}),
    "checkUpload": ("POST", "/api/conversion/check", {"data": {"size": "1"}}),
    "getActiveJob": ("GET", "/api/conversion/active", {}),
    "listJobs": ("GET", "/api/conversion/jobs", {}),
    "getJob": ("GET", "/api/conversion/job-1", {}),
    "getReceipt": ("GET", "/api/conversion/job-1/receipt", {}),
    "promoteToModels": ("POST", "/api/conversion/job-1/promote-to-models", {}),
    "downloadResult": ("GET", "/api/conversion/job-1/download", {}),
}
#: The edge refuses these before the service is called (tests/api/test_openapi.py).
OF_THE_EDGE = {"bad_host", "unauthenticated", "cross_site_request", "conversion_disabled", "navigation_required"}
FAILURES = [
    pytest.param(operation.operation_id, code, id=f"{operation.operation_id}-{code}")
    for operation in OPERATIONS
    if operation.operation_id in CALLS
    for code in sorted(operation.codes - OF_THE_EDGE)
]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One edge for all tests, because a failure leaves no state behind."""
    with make_edge(tmp_path_factory.mktemp("edge")) as made:
        yield made


def failure_of(code: str) -> Exception:
    """Return an exception with that code. `internal_error` stands for a bug."""
    if code == "internal_error":
        return ZeroDivisionError("a bug")
    if code == "converter_rejected":
        return ConverterRejectedError("bad_model", "the converter's words")
    if code == "library_full":
        return LibraryFullError(1_000)
    by_code = {one.code: one for one in _subclasses(GatewayError)}
    return by_code[code]("for a test")


def _subclasses(root: type[GatewayError]) -> list[type[GatewayError]]:
    return [one for child in root.__subclasses__() for one in [*_subclasses(child), child]]


@pytest.mark.parametrize(("operation_id", "code"), FAILURES)
def test_each_failure_of_the_service_has_the_described_response(edge: Edge, operation_id: str, code: str) -> None:
    method, path, how = CALLS[operation_id]
    edge.conversions.failure = failure_of(code)
    response = edge.client().open(path, method=method, **how)
    document, status = build_document(edge.settings), catalogue()[code].status
    [described] = [
        item[method.lower()]["responses"][str(status)]
        for item in document["paths"].values()
        if item.get(method.lower(), {}).get("operationId") == operation_id
    ]
    assert (response.status_code, response.mimetype) == (status, "application/problem+json"), path
    problem = json.loads(response.data)
    assert problem["code"] == code
    schema = described["content"]["application/problem+json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(problem)
