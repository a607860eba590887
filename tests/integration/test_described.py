"""The OpenAPI document is true: schemathesis sends a live gateway the requests that it derives from the document.

Valid and invalid requests for every operation, the values at the edges of every schema, and methods that are not
described. Each response must be described: its status, its media type, its headers, its document. Where the
description shows an example of an id, that of a real job or model is asked for.

Deliberately not checked: that all invalid input is refused. Unknown fields and parameters are let through by design,
and what `next` says is never an error.
"""

import time
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.api.openapi import build_document
from app.api.openapi.schemas import JOB_ID, MODEL_ID
from app.config import load_settings
from app.services.polls import FRESH_SECONDS
from tests.api.edge import ENVIRON
from tests.support.clients import Client
from tests.support.models import model_with
from tests.support.multipart_bodies import Multipart, model_upload
from tests.support.stack import Stack

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
#: The same requests in every run: a failure here must be one that a change has made.
CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 20261125,
        # A machine that is busy with other tests is no failure.
        "suppress-health-check": ["all"],
        "generation": {"deterministic": True, "max-examples": 25, "no-shrink": True, "with-security-parameters": False},
    }
)
schema = schemathesis.openapi.from_dict(build_document(load_settings(ENVIRON)), config=CONFIG)


@dataclass
class World:
    """A gateway, a signed-in user, and the user's job and model."""

    stack: Stack
    alice: Client
    real: dict[str, str]


@pytest.fixture(scope="module")
def world(shared_stack: Stack) -> World:
    shared_stack.reset()
    alice = shared_stack.signed_in("alice")
    job_id = shared_stack.completed_job(alice)
    model = alice.promote(job_id).json()
    return World(shared_stack, alice, {JOB_ID: job_id, MODEL_ID: model["id"]})


@schema.parametrize()
def test_every_response_is_described(case: Any, world: World) -> None:
    client = world.alice.clone()
    if case.operation.definition.raw["operationId"] == "signOut":
        # Alice's session is needed for the rest.
        client = world.stack.client()
    elif case.method != "DELETE":
        for name, value in dict(case.path_parameters or {}).items():
            case.path_parameters[name] = world.real.get(value, value)
    with client:
        case.call_and_validate(base_url=world.stack.url, session=client, checks=CHECKS, timeout=30)


def test_a_conversion_from_its_upload_to_its_end_is_described(stack: Stack) -> None:
    """Requests that random data does not produce: a job from its upload to its model."""
    bob = stack.client().sign_in("bob")
    checks = [check for check in CHECKS if check is not unsupported_method]
    ids: dict[str, str] = {}

    def ask(method: str, path: str, status: int, **options: Any) -> requests.Response:
        response = bob.request(method, path.format(**ids), **options)
        assert response.status_code == status, (method, path, response.text)
        schema[path][method].Case(path_parameters=ids).validate_response(response, checks=checks)
        return response

    model = model_with("Relu", "Einsum")
    for name in ("model", "skeleton"):
        form = Multipart().file(name, model, "net.onnx")
        assert ask("POST", "/api/conversion/inspect", 200, data=form, headers=form.headers).json()["chips"]
    ask("GET", "/api/conversion/capabilities", 200)
    upload = model_upload(model, "net.onnx")
    started = ask("POST", "/api/conversion/init", 201, data=upload, headers=upload.headers)
    ids["job_id"] = started.json()["job_id"]
    assert started.headers["Location"] == f"/api/conversion/{ids['job_id']}"
    assert ask("GET", "/api/conversion/active", 200).json()["active_job"]["job_id"] == ids["job_id"]
    conflict = ask("POST", "/api/conversion/check", 409, data={"size": "7"})
    assert (conflict.json()["active_job"]["job_id"], conflict.headers["Retry-After"]) == (ids["job_id"], "5")
    early = ask("GET", "/api/conversion/{job_id}/download", 409)
    assert (early.json()["code"], early.headers["Retry-After"]) == ("job_not_completed", "5")

    stack.sandbox.complete(ids["job_id"])
    stack.wait_for_status(bob, ids["job_id"], "completed")
    ids["library_model_id"] = ask("POST", "/api/conversion/{job_id}/promote-to-models", 201).json()["id"]
    ask("POST", "/api/conversion/{job_id}/promote-to-models", 200)
    # The worker that was not asked last may show for so long what it was before.
    time.sleep(FRESH_SECONDS)
    poll = ask("GET", "/api/conversion/{job_id}", 200)
    ask("GET", "/api/conversion/{job_id}", 304, headers={"If-None-Match": poll.headers["ETag"]})
    ask("GET", "/api/conversion/{job_id}", 412, headers={"If-Match": '"another"'})
    assert ask("GET", "/api/conversion/{job_id}/receipt", 200).json()["result"]["verified"]
    form = Multipart().fields(platform="720").file("skeleton", model, "net.onnx")
    assert ask("POST", "/api/conversion/check", 200, data=form, headers=form.headers).json()["advice"]["chips"]
    assert ask("GET", "/api/conversion/jobs", 200).json()["jobs"] != []
    assert ask("GET", "/api/models", 200).json()["models"] != []

    whole = ask("GET", "/api/models/{library_model_id}/file", 200)
    ask("GET", "/api/models/{library_model_id}/file", 206, headers={"Range": "bytes=0-0"})
    ask("GET", "/api/models/{library_model_id}/file", 304, headers={"If-None-Match": whole.headers["ETag"]})
    ask("GET", "/api/models/{library_model_id}/file", 412, headers={"If-Match": '"another"'})
    beyond = ask("GET", "/api/models/{library_model_id}/file", 416, headers={"Range": "bytes=999999999-"})
    assert beyond.headers["Content-Range"] == f"bytes */{len(whole.content)}"
    ask("PATCH", "/api/models/{library_model_id}", 200, json={"name": "another"})
    ask("DELETE", "/api/models/{library_model_id}", 204)
    ask("GET", "/api/models/{library_model_id}", 404)
    failed = ask("POST", "/api/conversion/init", 201, data=upload, headers=upload.headers).json()["job_id"]
    stack.sandbox.fail(failed, message="undefined CPU op [Einsum] of node [einsum_1]")
    ids["job_id"] = failed
    stack.wait_for_status(bob, failed, "failed")
    time.sleep(FRESH_SECONDS)
    assert ask("GET", "/api/conversion/{job_id}", 200).json()["explanation"]["nodes"] == ["einsum_1"]
    ask("GET", "/api/conversion/{job_id}/receipt", 200)
    ask("POST", "/auth/logout", 200)
    ask("GET", "/api/me", 401)
