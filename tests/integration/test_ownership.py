"""A job or a model of another user does not exist: the responses differ in nothing."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from tests.support.clients import Client
from tests.support.multipart_bodies import model_upload
from tests.support.sandbox_processes import CONVERTER
from tests.support.stack import Stack

VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
JOB_PATHS = ["", "/download", "/download?check=1", "/promote-to-models", "/receipt"]
MODEL_PATHS = ["", "/file"]
ABSENT = "0123456789abcdef0123456789abcdef"
#: The same for all, so that the bytes of responses can be compared as they are.
REQUEST_ID = "the-same"
#: One path segment each, sent as it is in the request line.
MALFORMED = ["x" * 129, "a%20b", "a.b", ".", "..", "%2e%2e", "a%00b", "a%0D%0AX-Injected:1", "a;b", "'--", "a%25b"]
MALFORMED += ["%E6%A8%A1%E5%9E%8B", "%FF%FE", "a*b"]


Facts = tuple[int, list[tuple[str, str]], bytes]


@pytest.fixture
def ask(stack: Stack, bob: Client) -> Iterator[Callable[..., Facts]]:
    """Send a request as bob and return status, headers without the date, and body."""
    with stack.connect() as connection:

        def ask_raw(verb: str, path: str, **headers: str) -> Facts:
            body = b'{"name":"taken over"}' if verb in {"POST", "PUT", "PATCH"} else b""
            headers = {"Cookie": bob.cookie_header, "X-Request-ID": REQUEST_ID, **headers}
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))} if body else {}
            response = connection.send_head(verb, path, headers).send(body).read_response(verb)
            return response.status, [header for header in response.headers if header[0] != "Date"], response.body

        yield ask_raw


def test_second_upload_meets_the_running_job(stack: Stack, alice: Client, bob: Client) -> None:
    """409 with the running job as `active_job`, as in a poll; other users can upload."""
    job_id = stack.upload(alice)

    refused = stack.send(alice, model_upload(b"another"))

    assert (refused.status_code, refused.json()["code"]) == (409, "active_job_conflict")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["active_job"] == alice.get(f"/api/conversion/{job_id}").json()
    assert not any(word in refused.text for word in ("user_id", "u-alice", "object_key", "localhost"))
    assert len(stack.sandbox.uploads()) == 1
    check = alice.post("/api/conversion/check", data={"size": "5"})
    assert (check.status_code, check.json()["active_job"]["job_id"]) == (409, job_id)
    assert stack.send(bob, model_upload()).status_code == 201
    stack.sandbox.complete(job_id)
    assert stack.send(alice, model_upload(b"another")).status_code == 201


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("tail", JOB_PATHS)
@pytest.mark.parametrize("state", ["running", "completed"])
def test_foreign_job_is_an_absent_one(
    stack: Stack, alice: Client, ask: Callable[..., Facts], verb: str, tail: str, state: str
) -> None:
    job_id = stack.upload(alice)
    if state == "completed":
        stack.sandbox.complete(job_id)
    etag = alice.get(f"/api/conversion/{job_id}").headers["ETag"]

    foreign = ask(verb, f"/api/conversion/{job_id}{tail}", **{"If-None-Match": etag})
    absent = ask(verb, f"/api/conversion/{ABSENT}{tail}", **{"If-None-Match": etag})

    assert foreign == absent
    assert foreign[0] in ({404, 405} if verb != "OPTIONS" else {200, 204, 404})
    assert not {"ETag", "Retry-After", "Location"} & {name for name, _ in foreign[1]}
    assert stack.sandbox.calls(CONVERTER, "promote") == []
    assert stack.sandbox.minted() == 0


def calls_for_requests(stack: Stack) -> list[dict[str, Any]]:
    """Return the calls made for requests of `ask`. The sweep of a restarted gateway makes calls of its own."""
    return [call for call in stack.sandbox.calls(CONVERTER) if call["headers"].get("X-Request-Id") == REQUEST_ID]


@pytest.mark.parametrize("malformed", MALFORMED)
def test_malformed_job_id_is_an_absent_one_and_reaches_nobody(
    stack: Stack, ask: Callable[..., Facts], malformed: str
) -> None:
    stack.sandbox.reset()
    pairs = [(verb, tail) for verb in VERBS for tail in JOB_PATHS]

    responses = {pair: ask(pair[0], f"/api/conversion/{malformed}{pair[1]}") for pair in pairs}

    assert calls_for_requests(stack) == []
    assert responses == {pair: ask(pair[0], f"/api/conversion/{ABSENT}{pair[1]}") for pair in pairs}
    assert ask("GET", "/api/conversion/active")[0] == 200
    assert calls_for_requests(stack), "the converter's calls have the id of the request"


def test_id_with_an_encoded_slash_is_an_absent_one(ask: Callable[..., Facts]) -> None:
    """A slash in an id makes it another path, with the same 404."""
    for folder in ("conversion", "models"):
        status, headers, body = ask("GET", f"/api/{folder}/{ABSENT}")
        assert status == 404
        assert ask("GET", f"/api/{folder}/a%2Fb%2Fc") == (status, headers, body)
        for verb in ("POST", "DELETE"):  # Vary is another one, because only a GET may get a page
            assert ask(verb, f"/api/{folder}/a%2Fb%2Fc")[::2] == (status, body)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("tail", MODEL_PATHS)
def test_foreign_and_malformed_models_are_absent_ones(
    stack: Stack, alice: Client, ask: Callable[..., Facts], verb: str, tail: str
) -> None:
    job_id = stack.completed_job(alice)
    model = alice.promote(job_id).json()
    etag = f'"{model["sha256"]}"'

    absent = ask(verb, f"/api/models/{ABSENT}{tail}", Range="bytes=0-3", **{"If-None-Match": etag})

    for other in (model["id"], *MALFORMED):
        response = ask(verb, f"/api/models/{other}{tail}", Range="bytes=0-3", **{"If-None-Match": etag})
        assert response == absent, other
    assert alice.get(f"/api/models/{model['id']}").json() == model
    assert alice.get(f"/api/models/{model['id']}/file").status_code == 200


def test_foreign_job_is_an_absent_one_while_the_converter_is_down(stack: Stack, alice: Client, bob: Client) -> None:
    job_id = stack.upload(alice)
    stack.restart_gateway()
    stack.sandbox.stop(CONVERTER)

    headers = {"X-Request-ID": REQUEST_ID}
    with ThreadPoolExecutor(2) as threads, bob.clone() as first, bob.clone() as second:
        # Each takes the seconds of its retries, so both at once.
        asked = [
            threads.submit(client.get, f"/api/conversion/{wanted}", headers=headers)
            for client, wanted in ((first, job_id), (second, ABSENT))
        ]
        foreign, absent = (response.result() for response in asked)

    assert (foreign.status_code, foreign.json()["code"]) == (502, "converter_unavailable")
    assert (foreign.status_code, foreign.content) == (absent.status_code, absent.content)


def test_lists_show_the_callers_own(stack: Stack, alice: Client, bob: Client) -> None:
    job_id = stack.completed_job(alice)
    model_id = alice.promote(job_id).json()["id"]
    running = stack.upload(alice)

    paths = ("/api/conversion/jobs", "/api/models", "/api/conversion/active")
    searches = ("/api/conversion/jobs?q=onnx&platform=720", "/api/conversion/jobs?model_id=32769", "/api/models?q=nef")
    assert all(job_id in alice.get(path).text for path in searches)
    shown = [bob.get(path).text for path in (*paths, *searches)]

    assert not any(secret in text for text in shown for secret in (job_id, model_id, running))


def test_owner_that_the_converter_names_decides(stack: Stack, alice: Client, bob: Client) -> None:
    job_id = stack.upload(alice)
    assert alice.get(f"/api/conversion/{job_id}").status_code == 200
    stack.restart_gateway()
    theirs = {"job_id": job_id, "user_id": "u-bob-c81e", "status": "completed", "stage": "nef", "progress": 100}
    stack.sandbox.fault(CONVERTER, call="get_job", status=200, body_json=theirs)

    responses = [alice.get(f"/api/conversion/{job_id}{tail}") for tail in ("", "/download", "/download?check=1")]

    assert [(response.status_code, response.json()["code"]) for response in responses] == [(404, "job_not_found")] * 3
    assert stack.sandbox.minted() == 0


# A converter that doesn't name owners, and mixes up users. `/active` and polls by id take different ways.


def unnamed(job_id: str, status: str = "running") -> dict[str, str]:
    return {"job_id": job_id, "status": status, "stage": "onnx", "created_at": datetime.now(UTC).isoformat()}


def refused(response: requests.Response) -> tuple[int, object]:
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize("has_pending_upload", [False, True])
def test_job_that_the_converter_lists_for_somebody_else_stays_its_owners(
    stack: Stack, alice: Client, bob: Client, has_pending_upload: bool
) -> None:
    """The ledger has it as alice's: bob does not see it, and it does not block his uploads."""
    job_id = stack.upload(alice)
    if has_pending_upload:
        stack.sandbox.fault(CONVERTER, call="create_job", status=503, times=1)
        assert refused(stack.send(bob, model_upload())) == (502, "upload_outcome_unknown")
    stack.sandbox.fault(CONVERTER, call="list_jobs", status=200, body_json={"jobs": [unnamed(job_id)]})
    stack.sandbox.fault(CONVERTER, call="get_job", status=200, body_json=unnamed(job_id, "completed"))

    assert bob.get("/api/conversion/active").json() == {"active_job": None}
    tails = ["", "/download", "/download?check=1"]
    assert [refused(bob.get(f"/api/conversion/{job_id}{tail}")) for tail in tails] == [(404, "job_not_found")] * 3
    assert refused(bob.promote(job_id)) == (404, "job_not_found")
    assert job_id not in bob.get("/api/conversion/jobs").text
    assert bob.post("/api/conversion/check", data={"size": "5"}).status_code == 200
    assert stack.sandbox.minted() == 0

    stack.sandbox.clear_faults()
    stack.sandbox.complete(job_id)
    assert alice.promote(job_id).status_code == 201


def test_conflict_with_somebody_elses_job_shows_nothing_of_it(stack: Stack, alice: Client, bob: Client) -> None:
    """The converter refuses bob's upload because of a job that the ledger has as alice's."""
    job_id = stack.upload(alice)
    conflict = {"error": {"code": "busy", "message": "one at a time"}, "active_job": unnamed(job_id)}
    stack.sandbox.fault(CONVERTER, call="create_job", status=409, body_json=conflict)

    response = stack.send(bob, model_upload())

    assert refused(response) == (409, "active_job_conflict")
    assert response.json()["active_job"] is None
    assert job_id not in response.text


def test_upload_that_is_answered_with_somebody_elses_job_does_not_get_it(
    stack: Stack, alice: Client, bob: Client
) -> None:
    """201 with the id of alice's job: the outcome of bob's upload is unknown, and the job stays hers."""
    job_id = stack.upload(alice)
    stack.sandbox.fault(CONVERTER, call="create_job", status=201, body_json=unnamed(job_id))

    assert refused(stack.send(bob, model_upload())) == (502, "upload_outcome_unknown")

    stack.sandbox.clear_faults()
    assert refused(bob.get(f"/api/conversion/{job_id}")) == (404, "job_not_found")
    assert alice.get(f"/api/conversion/{job_id}").status_code == 200
    assert job_id in alice.get("/api/conversion/jobs").text
    assert job_id not in bob.get("/api/conversion/jobs").text
