"""The API is as its description says, whatever it is asked: schemathesis against a gateway and its sandbox."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.api.openapi import build_document
from app.config import load_settings
from tests.api.edge import CONVERSION, ENVIRON
from tests.support.clients import Client
from tests.support.stack import Stack

#: Not among them: that whatever the description does not allow is refused. Unknown parameters are ignored here.
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
#: Would end the session that all the others need.
SIGNS_OUT = "/auth/logout"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("described"), job_seconds=0) as started:
        yield started


@pytest.fixture(scope="module")
def caller(stack: Stack) -> Client:
    """Somebody with a job, and a model in the library: ids that exist are found by the fuzzer's own links only."""
    alice = stack.signed_in("alice")
    stack.upload(alice, b"a model")
    return alice


#: Of this code; that it is what `/openapi.json` gives, tests/api/test_openapi.py says.
schema = schemathesis.openapi.from_dict(build_document(load_settings(ENVIRON | CONVERSION)))


@schema.exclude(path=SIGNS_OUT).parametrize()
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
def test_every_answer_is_one_that_is_described(case: Any, caller: Client) -> None:
    """Signed in: no server error, and status, type, headers and body are what the description says."""
    case.call_and_validate(
        base_url=caller.base_url,
        headers={"Cookie": caller.cookie_header},
        checks=CHECKS,
        allow_redirects=False,
        timeout=30,
    )


@schema.parametrize()
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
def test_every_answer_to_a_stranger_is_described_too(case: Any, caller: Client) -> None:
    case.call_and_validate(base_url=caller.base_url, checks=CHECKS, allow_redirects=False, timeout=30)
