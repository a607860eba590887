"""The advice about uploaded models, through gunicorn: it comes with the job, and never delays or fails an upload."""

import json
import random

import pytest

from tests.support.clients import Client
from tests.support.models import model_with
from tests.support.multipart_bodies import PARAMETERS, Multipart, model_upload
from tests.support.stack import Stack

MODEL = model_with("Relu", "Einsum", weight_bytes=3_000_000)
INIT = "/api/conversion/init"


def advice_of(client: Client, job_id: str) -> dict[str, object]:
    return dict(client.get(f"/api/conversion/{job_id}").json()["advice"])


def test_an_upload_is_answered_with_the_advice_that_an_inspection_gives(stack: Stack, alice: Client) -> None:
    started = stack.send(alice, model_upload(MODEL)).json()
    inspected = Multipart().file("model", MODEL, "net.onnx")
    told = alice.post("/api/conversion/inspect", data=inspected, headers=inspected.headers).json()

    chip = PARAMETERS["platform"]
    assert started["advice"]["chip"] == chip
    del told["chips"][chip]["usual_time"]
    assert started["advice"]["chips"][chip] == told["chips"][chip]
    assert started["advice"]["recommended"] == told["recommended"]
    assert told["parameters"] == 750_000
    assert advice_of(alice, started["job_id"]) == started["advice"]
    past = alice.get("/api/conversion/jobs").json()["jobs"][0]
    assert past["job_id"] == started["job_id"]
    assert past["advice"]["verdict"] == told["chips"][chip]["verdict"]
    # The converter got all of it.
    (received,) = [part for part in stack.sandbox.last_upload()["parts"] if part["name"] == "model"]
    assert received["size"] == len(MODEL)


@pytest.mark.parametrize("way", ["chunked", "in many packets", "after 100 Continue"])
def test_the_advice_is_the_same_however_the_upload_arrives(stack: Stack, alice: Client, way: str) -> None:
    body = model_upload(MODEL)
    head = {"Host": stack.public_host, "Cookie": alice.cookie_header, **body.headers}
    with stack.connect() as connection:
        if way == "chunked":
            connection.send_head("POST", INIT, {**head, "Transfer-Encoding": "chunked"})
            for piece in body:
                connection.send_chunk(piece)
            connection.send_chunk(b"")
        else:
            expects = {"Expect": "100-continue"} if way == "after 100 Continue" else {}
            connection.send_head("POST", INIT, {**head, "Content-Length": str(len(body)), **expects})
            left, pieces = body.as_bytes(), random.Random(3)
            while left:
                size = pieces.randint(1, 60_000)
                connection.send(left[:size])
                left = left[size:]
        response = connection.read_response("POST")
    assert response.status == 201, response.body
    assert response.json()["advice"]["chips"]["720"]["findings"][0]["nodes"] == ["einsum_1"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (MODEL[:-1], "truncated"),
        (b"\x3a\x04" * 500_000, None),
        (b"\x0a\xff\xff\xff\xff\x07" + b"x" * 100_000, None),
        (b"\x3a\x80\x80\x80\x01" * 200_000, None),
        (b"a model", None),
    ],
    ids=["cut off", "two bytes each", "a huge length", "nested", "text"],
)
def test_a_hostile_model_starts_its_job_and_has_a_reason_instead_of_advice(
    stack: Stack, alice: Client, model: bytes, reason: str | None
) -> None:
    response = stack.send(alice, model_upload(model))
    assert response.status_code == 201
    advice = response.json()["advice"]
    assert advice.keys() == {"format", "reason", "text"}
    assert reason in {None, advice["reason"]}
    assert advice_of(alice, response.json()["job_id"]) == advice


def test_the_advice_of_another_users_job_is_not_found(stack: Stack, alice: Client, bob: Client) -> None:
    job_id = stack.upload(alice, MODEL)
    foreign, absent = bob.get(f"/api/conversion/{job_id}"), bob.get("/api/conversion/absent")
    assert (foreign.status_code, absent.status_code) == (404, 404)
    assert "einsum" not in foreign.text
    assert job_id not in bob.get("/api/conversion/jobs").text


def test_a_worker_that_did_not_take_the_upload_shows_its_advice(stack: Stack, alice: Client) -> None:
    job_id = stack.upload(alice, MODEL)
    connections = stack.connect_to_all_workers()
    head = {"Host": stack.public_host, "Cookie": alice.cookie_header}
    bodies = set()
    for connection in connections.values():
        with connection:
            bodies.add(connection.send_head("GET", f"/api/conversion/{job_id}", head).read_response().body)
    assert len(connections) > 1
    (body,) = bodies
    assert json.loads(body)["advice"]["chip"] == "720"
