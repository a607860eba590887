"""The session says who sends an upload; claims in the request are dropped."""

import hashlib
import json

from sandbox.converter.uploads import looks_like_user_id
from tests.corpus.claims import DISGUISES
from tests.support.clients import Client
from tests.support.multipart_bodies import PARAMETERS, LazyBytes, Multipart, sha256_of
from tests.support.sandbox_processes import CONVERTER
from tests.support.stack import Stack

ALICE, BOB = "u-alice-7f3a", "u-bob-c81e"
MODEL_BYTES = 10 * 1024 * 1024

CLAIMING_HEADERS = {
    "X-User-Id": BOB,
    "X-User": BOB,
    "X-Forwarded-User": BOB,
    "X-Remote-User": BOB,
    "Remote-User": BOB,
    "X-Auth-Request-User": BOB,
    "X-Tenant-Id": "another-tenant",
    "User-Id": BOB,
}


def the_one_user_id(upload: dict[str, object]) -> dict[str, object]:
    """Return the user_id part that the converter got; fail unless there is exactly one and it is the first part."""
    parts: list[dict[str, object]] = upload["parts"]  # type: ignore[assignment]
    alike = [part for part in parts if looks_like_user_id(str(part["name"])) or "tenant" in str(part["name"]).lower()]
    assert alike == parts[:1]
    assert parts[0]["name"] == "user_id"
    assert parts[0]["filename"] is None
    return parts[0]


def test_converter_sees_one_user_id_the_sessions_whatever_an_upload_of_10_mb_claims(
    stack: Stack, alice: Client
) -> None:
    model = LazyBytes(MODEL_BYTES, seed=1)
    body = Multipart()
    for name in DISGUISES.values():
        body.field(name, BOB)
    body.file("user_id", BOB.encode(), "user_id.txt").field("note", "kept")
    body.fields(**PARAMETERS).file("model", model, "model.onnx")
    for name in DISGUISES.values():
        body.field(name, BOB).file(name, BOB.encode(), "claim.txt")
    body.field("last", "kept too")
    claims = {"user_id": BOB, "userId": BOB, "user_id[]": BOB, "tenant_id": "another-tenant"}
    headers = {**body.headers, **CLAIMING_HEADERS}

    response = alice.post("/api/conversion/init", data=body, headers=headers, params=claims)

    assert response.status_code == 201, response.text
    upload = stack.sandbox.last_upload()
    assert upload["complete"]
    assert upload["user_id"] == ALICE
    assert the_one_user_id(upload)["sha256"] == hashlib.sha256(ALICE.encode()).hexdigest()
    assert [part["name"] for part in upload["parts"]] == ["user_id", "note", *PARAMETERS, "model", "last"]
    received = next(part for part in upload["parts"] if part["name"] == "model")
    assert (received["size"], received["sha256"]) == (MODEL_BYTES, sha256_of(model))
    call = stack.sandbox.calls(CONVERTER, "create_job")[-1]
    assert BOB not in json.dumps(call)
    assert "another-tenant" not in json.dumps(call)


def test_multipart_hidden_in_a_field_stays_a_fields_content(stack: Stack, alice: Client) -> None:
    """A message inside a part arrives as that part's bytes, because the outer boundary is new."""
    outer = Multipart(boundary="guessed")
    inner = Multipart(boundary="inner").field("user_id", BOB).as_bytes()
    outer.field("note", inner).fields(**PARAMETERS).file("model", b"a model", "model.onnx")

    assert stack.send(alice, outer).status_code == 201

    upload = stack.sandbox.last_upload()
    the_one_user_id(upload)
    assert upload["parts"][1]["sha256"] == hashlib.sha256(inner).hexdigest()
    assert "guessed" not in upload["content_type"]


def test_claims_in_json_query_and_headers_change_nobodys_promotion(stack: Stack, alice: Client, bob: Client) -> None:
    job_id = stack.completed_job(alice)
    claim = {"user_id": ALICE, "tenant_id": "another-tenant"}
    path = f"/api/conversion/{job_id}/promote-to-models"

    refused = bob.post(path, json=claim, params=claim, headers=dict.fromkeys(CLAIMING_HEADERS, ALICE))
    promoted = alice.post(path, json={"user_id": BOB}, params={"user_id": BOB}, headers=CLAIMING_HEADERS)

    assert (refused.status_code, promoted.status_code) == (404, 201)
    assert [call["user_id"] for call in stack.sandbox.calls(CONVERTER, "promote")] == [ALICE]


def test_claims_in_query_and_headers_show_nobody_elses_running_job(stack: Stack, alice: Client, bob: Client) -> None:
    job_id = stack.upload(alice)
    headers = dict.fromkeys(CLAIMING_HEADERS, ALICE)

    active = bob.get("/api/conversion/active", params={"user_id": ALICE}, headers=headers)
    history = bob.get("/api/conversion/jobs", params={"user_id": ALICE}, headers=headers)
    me = bob.get("/api/me", params={"user_id": ALICE}, headers=headers)

    assert active.json() == {"active_job": None}
    assert job_id not in history.text
    assert me.json()["user_id"] == BOB
    listed = [call["path"] for call in stack.sandbox.calls(CONVERTER, "list_jobs")]
    assert f"user_id={BOB}" in listed[-1]
    assert ALICE not in listed[-1]


def test_json_body_is_no_upload(stack: Stack, alice: Client) -> None:
    response = alice.post("/api/conversion/init", json={"user_id": BOB, "model": "x"})

    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert stack.sandbox.uploads() == []
