"""The description against the real thing: schemathesis asks a live gateway whatever the description lets it think of.

Valid and invalid requests for every operation, the values at the edges of every schema, and methods that are not
described. Whatever comes back must be described: its status, its media type, its headers, its document. Where the
description shows an example of an id, that of a real job or model is asked for.

Deliberately not checked: that all invalid input is refused. Unknown fields and parameters are let through by design,
and what `next` says is never an error.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.api.openapi import build_document
from app.api.openapi.schemas import JOB_ID, MODEL_ID
from app.config import load_settings
from tests.api.edge import ENVIRON
from tests.support.clients import Client
from tests.support.stack import Stack

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
]
#: Described before the change that brings them is merged.
NOT_YET = {"/metrics"}

#: The same requests in every run: a failure here must be one that a change has made.
CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 20261125,
        "generation": {"deterministic": True, "max-examples": 10, "no-shrink": True, "with-security-parameters": False},
    }
)
schema = schemathesis.openapi.from_dict(build_document(load_settings(ENVIRON)), config=CONFIG).exclude(
    path=list(NOT_YET)
)


@dataclass
class World:
    """A gateway, somebody who is signed in there, and what is theirs."""

    stack: Stack
    alice: Client
    real: dict[str, str]


@pytest.fixture(scope="module")
def world(shared_stack: Stack) -> World:
    shared_stack.reset()
    alice = shared_stack.signed_in("alice")
    job_id = shared_stack.completed_job(alice)
    model = alice.post(f"/api/conversion/{job_id}/promote-to-models").json()
    return World(shared_stack, alice, {JOB_ID: job_id, MODEL_ID: model["id"]})


@schema.parametrize()
def test_whatever_comes_back_is_described(case: Any, world: World) -> None:
    """No server error, and nothing that the description does not name."""
    client = world.alice.clone()
    if case.operation.definition.raw["operationId"] == "signOut":
        # Alice's session is needed for the rest.
        client = world.stack.client()
    elif case.method != "DELETE":
        for name, value in dict(case.path_parameters or {}).items():
            case.path_parameters[name] = world.real.get(value, value)
    with client:
        case.call_and_validate(base_url=world.stack.url, session=client, checks=CHECKS, timeout=30)
