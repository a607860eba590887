"""Fault rules: every form, as a client sees it."""

import base64
import gzip
import json
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from sandbox.settings import CONVERTER, FILE_ACCESS, MEMBER_CENTER, SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET
from tests.sandbox.callers import Caller, Wire, usual_form
from tests.support.processes import wait_until

CONTENT = bytes(range(256)) * 1000
PAGE = "/api/v1/jobs/x"


def _order(caller: Caller, service: str = CONVERTER, **rule: Any) -> dict[str, Any]:
    response = caller.fault(service, **({"call": "get_job"} | rule))
    assert response.status_code == 201, response.text
    return dict(response.json())


def _rules(caller: Caller, service: str = CONVERTER) -> list[dict[str, Any]]:
    return list(caller.session.get(f"{caller.sandbox.urls.of(service)}/_sandbox/faults", timeout=10).json()["faults"])


def _response_bytes(caller: Caller) -> bytes:
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("GET", PAGE, {})
        return wire.rest()


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410, 429, 500, 503, 504])
def test_status_and_headers(caller: Caller, status: int) -> None:
    _order(caller, status=status, headers={"Retry-After": "7", "Content-Type": None})
    response = caller.session.get(f"{caller.jobs_url}/x", allow_redirects=False, timeout=10)
    assert response.status_code == status
    assert response.headers["Retry-After"] == "7"
    assert "Content-Type" not in response.headers


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ({"body": "<html>模型"}, "<html>模型".encode()),
        ({"body": ""}, b""),
        ({"body_json": ["a", None, 1]}, b'["a", null, 1]'),
        ({"body_json": None}, b"null"),
        ({"body_base64": base64.b64encode(b"\xff\x00").decode()}, b"\xff\x00"),
    ],
)
def test_made_up_bodies(caller: Caller, rule: dict[str, Any], body: bytes) -> None:
    _order(caller, **rule)
    response = caller.session.get(f"{caller.jobs_url}/x", timeout=10)
    assert (response.status_code, response.content) == (200, body)


@pytest.mark.parametrize("size", [0, 5, 13, 14, 3_000_000])
def test_filler_has_the_size_asked_for(caller: Caller, size: int) -> None:
    _order(caller, body_size=size)
    content = caller.session.get(f"{caller.jobs_url}/x", timeout=10).content
    assert len(content) == size
    if size >= 13:
        assert set(json.loads(content)) == {"filler"}


def test_times_and_skip_count_requests(caller: Caller) -> None:
    _order(caller, status=500, skip=1, times=2)
    statuses = [caller.session.get(f"{caller.jobs_url}/x", timeout=10).status_code for _ in range(4)]
    assert statuses == [401, 500, 500, 401]
    assert [(rule["matched"], rule["hits"]) for rule in _rules(caller)] == [(4, 2)]


def test_rules_apply_in_order_and_can_be_removed(caller: Caller) -> None:
    first = _order(caller, status=500, times=1)
    second = _order(caller, call="*", status=502)
    url = f"{caller.sandbox.urls.converter}/_sandbox/faults"
    assert caller.session.get(f"{caller.jobs_url}/x", timeout=10).status_code == 500
    assert caller.session.get(f"{caller.jobs_url}/x", timeout=10).status_code == 502
    assert caller.session.get(caller.jobs_url, timeout=10).status_code == 502
    assert caller.session.delete(f"{url}/{second['id']}", timeout=10).status_code == 204
    assert [rule["id"] for rule in _rules(caller)] == [first["id"]]
    assert caller.session.delete(url, timeout=10).status_code == 204
    assert _rules(caller) == []


def test_fault_is_in_the_call_log(caller: Caller) -> None:
    rule = _order(caller, status=500)
    caller.session.get(f"{caller.jobs_url}/x", timeout=10)
    call = caller.calls(CONVERTER)[-1]
    assert (call["call"], call["status"], call["fault"]) == ("get_job", 500, rule["id"])


def test_rule_for_one_user_spares_the_others(caller: Caller, user_id: str) -> None:
    job_id = caller.completed_job(user_id)["job_id"]
    other = caller.start_job(f"{user_id}-2")["job_id"]
    for call in ("get_job", "list_jobs", "promote", "create_job"):
        _order(caller, call=call, user=user_id, status=500)
    read = caller.bearer("converter:job.read")

    def listed(who: str) -> int:
        return caller.session.get(caller.jobs_url, params={"user_id": who}, headers=read, timeout=10).status_code

    assert caller.get_job(job_id).status_code == 500
    assert caller.get_job(other).status_code == 200
    assert (listed(user_id), listed(f"{user_id}-2")) == (500, 200)
    assert caller.promote(job_id, user_id).status_code == 500
    assert caller.promote(other, f"{user_id}-2").status_code == 409
    for who, status in ((user_id, 500), (f"{user_id}-2", 409), (f"{user_id}-3", 201)):
        form = usual_form(who).add("model", b"x" * 100_000, "m.onnx")
        assert caller.upload(form.body, form.content_type).status_code == status
    object_key = caller.put_file(CONTENT)
    _order(caller, FILE_ACCESS, call="get_file", user="u-1", status=500)
    assert caller.get_file(object_key).status_code == 500
    _order(caller, MEMBER_CENTER, call="download_tokens", user="u-5", status=500)
    assert caller.download_token("t/u/k", user_id="u-5").status_code == 500
    assert caller.download_token("t/u/k", user_id="u-6").status_code == 200


def test_rule_for_a_grant_and_scope(caller: Caller) -> None:
    _order(caller, MEMBER_CENTER, call="token", grant="client_credentials", scope="converter:job.write", status=503)
    _order(caller, MEMBER_CENTER, call="token", grant="authorization_code", status=500)

    def token(**form: str) -> int:
        auth = (SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET)
        return caller.session.post(
            f"{caller.sandbox.urls.member_center}/oauth/token", data=form, auth=auth, timeout=10
        ).status_code

    assert token(grant_type="client_credentials", scope="converter:job.read converter:job.write") == 503
    assert token(grant_type="client_credentials", scope="converter:job.read") == 200
    assert token(grant_type="authorization_code", code="x") == 500


def test_after_handles_the_request_first(caller: Caller, user_id: str) -> None:
    _order(caller, call="create_job", when="after", cut="before_headers")
    form = usual_form(user_id).add("model", b"x", "m.onnx")
    with pytest.raises(requests.ConnectionError):
        caller.upload(form.body, form.content_type)
    assert caller.attempts()[-1]["outcome"] == "created"


def test_after_keeps_the_true_response_but_for_what_the_rule_changes(caller: Caller) -> None:
    object_key = caller.put_file(CONTENT)
    _order(caller, FILE_ACCESS, call="get_file", when="after", headers={"ETag": '"changed"'}, times=1)
    spoilt = caller.get_file(object_key)
    assert (spoilt.headers["ETag"], spoilt.content) == ('"changed"', CONTENT)
    _order(caller, FILE_ACCESS, call="get_file", when="after", body="other", status=200)
    assert caller.get_file(object_key, Range="bytes=0-1").content == b"other"


def test_instead_can_answer_without_reading_the_body(caller: Caller) -> None:
    _order(caller, call="create_job", status=503, read_body=False)
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("POST", "/api/v1/jobs", {"Content-Length": "1000000000"})
        assert wire.read_response().status == 503


def test_cut_before_headers_sends_nothing(caller: Caller) -> None:
    _order(caller, cut="before_headers")
    assert _response_bytes(caller) == b""


def test_reset_is_a_reset(caller: Caller) -> None:
    _order(caller, cut="reset")
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("GET", PAGE, {})
        with pytest.raises(ConnectionResetError):
            wire.socket.recv(1)


def test_cut_after_status_line(caller: Caller) -> None:
    _order(caller, status=200, cut="after_status_line")
    assert _response_bytes(caller) == b"HTTP/1.1 200 OK\r\n"


def test_cut_after_headers(caller: Caller) -> None:
    _order(caller, body="12345", cut="after_headers")
    head, _, body = _response_bytes(caller).partition(b"\r\n\r\n")
    assert b"Content-Length: 5" in head
    assert body == b""


@pytest.mark.parametrize("cut_at", [0, 1, 70_000, 255_999])
def test_cut_in_the_middle_of_a_true_body(caller: Caller, cut_at: int) -> None:
    object_key = caller.put_file(CONTENT)
    _order(caller, FILE_ACCESS, call="get_file", when="after", cut="mid_body", cut_at=cut_at)
    with Wire(caller.sandbox.urls.file_access) as wire:
        wire.request("GET", urlsplit(caller.file_url(object_key)).path, caller.bearer("files:download.read"))
        head, _, body = wire.rest().partition(b"\r\n\r\n")
    assert b"Content-Length: 256000" in head
    assert body == CONTENT[:cut_at]


def test_delay_comes_before_the_response(caller: Caller) -> None:
    _order(caller, status=500, delay_seconds=0.2)
    started = time.monotonic()
    assert caller.session.get(f"{caller.jobs_url}/x", timeout=10).status_code == 500
    assert time.monotonic() - started >= 0.2


def test_stall_in_the_middle_of_a_body_lets_the_rest_follow(caller: Caller) -> None:
    _order(caller, body="1234567890", stall_seconds=0.2, stall_at=4)
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("GET", PAGE, {})
        received = b""
        while not received.endswith(b"1234"):
            received += wire.socket.recv(4096)
        stalled = time.monotonic()
        assert wire.socket.recv(4096) == b"567890"
        assert time.monotonic() - stalled > 0.1


def test_stall_ends_when_the_client_leaves(caller: Caller) -> None:
    _order(caller, stall_seconds=600)
    with Wire(caller.sandbox.urls.converter) as wire:
        wire.request("GET", PAGE, {})
        wait_until(lambda: caller.calls(CONVERTER), "the call has begun")
    wait_until(lambda: caller.calls(CONVERTER)[0]["duration_seconds"] is not None, "the call has ended")


def test_drip_sends_piece_by_piece(caller: Caller) -> None:
    _order(caller, body="x" * 10, drip={"bytes": 3, "interval_seconds": 0.03})
    started = time.monotonic()
    assert caller.session.get(f"{caller.jobs_url}/x", timeout=10).content == b"x" * 10
    assert time.monotonic() - started >= 0.09


@pytest.mark.parametrize("length", [2, 20])
def test_wrong_content_length_ends_the_connection(caller: Caller, length: int) -> None:
    _order(caller, body="x" * 10, content_length=length)
    head, _, body = _response_bytes(caller).partition(b"\r\n\r\n")
    assert f"Content-Length: {length}\r\n".encode() in head
    assert body == b"x" * 10


def test_gzip_although_identity_was_asked(caller: Caller) -> None:
    object_key = caller.put_file(CONTENT)
    _order(caller, FILE_ACCESS, call="get_file", when="after", gzip=True)
    response = caller.session.get(
        caller.file_url(object_key),
        headers=caller.bearer("files:download.read") | {"Accept-Encoding": "identity"},
        stream=True,
        timeout=10,
    )
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.raw.read(decode_content=False)) == CONTENT


def test_only_first_bytes_is_short_but_honest_about_it(caller: Caller) -> None:
    object_key = caller.put_file(CONTENT)
    _order(caller, FILE_ACCESS, call="get_file", when="after", only_first_bytes=70_000)
    response = caller.get_file(object_key)
    assert response.headers["Content-Length"] == "70000"
    assert response.content == CONTENT[:70_000]


def test_client_that_resets_during_an_upload_does_no_harm(caller: Caller) -> None:
    wire = Wire(caller.sandbox.urls.converter)
    headers = caller.bearer("converter:job.write") | {"Content-Type": usual_form("u").content_type}
    wire.request("POST", "/api/v1/jobs", headers | {"Content-Length": "1000"}, usual_form("u").body[:50])
    wait_until(caller.attempts, "the upload has begun")
    wire.reset()
    wait_until(lambda: caller.attempts()[-1]["outcome"] == "incomplete_body", "the upload is given up")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ([], "JSON object"),
        ({}, "call must be one of create_job"),
        ({"call": "token"}, "call must be one of"),
        ({"call": "get_job", "status": 99}, "status must be a whole number from 200 to 599"),
        ({"call": "get_job", "status": True}, "status must be"),
        ({"call": "get_job", "statsu": 500}, "no field 'statsu'"),
        ({"call": "get_job", "cut": "somewhere"}, "cut must be one of"),
        ({"call": "get_job", "cut_at": 5}, "cut_at belongs to"),
        ({"call": "get_job", "stall_at": 5}, "stall_at belongs to"),
        ({"call": "get_job", "body": "a", "body_json": 1}, "exclude each other"),
        ({"call": "get_job", "body": "a", "body_size": 1}, "cannot be combined with"),
        ({"call": "get_job", "body_base64": "é"}, "base64"),
        ({"call": "get_job", "headers": {"X": "a\nb"}}, "on one line"),
        ({"call": "get_job", "headers": {"X": "模"}}, "Latin-1"),
        ({"call": "get_job", "drip": {"byte": 1}}, "drip must be"),
        ({"call": "get_job", "delay_seconds": -1}, "delay_seconds must be"),
        ({"call": "get_job", "grant": "x"}, "token only"),
        ({"call": "get_job", "when": "never"}, "when must be one of"),
        ({"call": "create_job", "early": "never"}, "early must be one of close, linger, read_on, stop_reading"),
        ({"call": "create_job", "early": "close", "when": "after"}, "early cannot be combined with"),
        ({"call": "create_job", "early": "close", "cut": "reset"}, "early cannot be combined with"),
        ({"call": "create_job", "early": "close", "read_body": False}, "early cannot be combined with"),
        ({"call": "create_job", "early_after": 5}, "early_after belongs to"),
    ],
)
def test_wrong_rule_is_refused_with_a_sentence(caller: Caller, rule: Any, words: str) -> None:
    url = f"{caller.sandbox.urls.converter}/_sandbox/faults"
    response = caller.session.post(url, json=rule, timeout=10)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]
    assert _rules(caller) == []
