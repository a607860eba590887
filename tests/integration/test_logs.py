"""No log contains a secret. The log of every stack is searched when it closes; this run provokes the most."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.support.clients import Client
from tests.support.leaks import find_leaks
from tests.support.multipart_bodies import model_upload
from tests.support.processes import wait_until
from tests.support.sandbox_processes import CONVERTER, FILE_ACCESS, MEMBER_CENTER
from tests.support.stack import Stack

CANARY = "canary-in-an-upstream-body-4f1d9c"


@pytest.mark.timeout(90)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_logs_of_a_whole_run_with_failures_show_no_secret(tmp_path: Path, log_format: str) -> None:
    with Stack(tmp_path, environment={"VISIONA_LOG_FORMAT": log_format}) as stack:
        stack.note_secret(CANARY)
        alice, bob = stack.client().sign_in("alice"), stack.client().sign_in("bob")
        failed_sign_ins(stack)
        job_id = a_conversion(stack, alice, bob)
        failing_upstreams(stack, alice, job_id)
        lost_member_center(stack, alice, job_id)
        secrets_in_the_wrong_places(alice)
        assert bob.post("/auth/logout").status_code in {200, 204}
        assert alice.get("/api/me").status_code == 200
        stack.stop_gateway()

        text = stack.log_path.read_text(encoding="utf-8")
        assert len(stack.sandbox.issued_secrets()) >= 10
        for code in ("sign_in_failed", "active_job_conflict", "idp_misconfigured", "download_token_failed"):
            assert code in text, code
        assert text.count("promote-to-models") >= 2
        if log_format == "json":
            assert all(json.loads(line)["event"] for line in text.splitlines())
        assert stack.leaks() == []


def failed_sign_ins(stack: Stack) -> None:
    stranger = stack.client()
    location = stranger.get("/auth/login").headers["Location"]
    state = location.partition("state=")[2].partition("&")[0]
    stack.note_secret("a-code-that-was-never-issued")
    responses = [
        stranger.get(f"/auth/authorize?state={state}&code=a-code-that-was-never-issued"),
        stranger.get("/auth/authorize?state=a-state-of-somebody-else&code=a-code-that-was-never-issued"),
        stranger.get(f"/auth/authorize?state={state}&error=access_denied&error_description={CANARY}"),
    ]
    stack.sandbox.fault(
        MEMBER_CENTER, call="token", grant="authorization_code", status=400, body=f'{{"error":"{CANARY}"}}', times=1
    )
    page = stranger.get("/auth/login", allow_redirects=True)
    form = {"username": "alice", "password": "alice"}
    responses.append(stranger.post(page.url, data=form, allow_redirects=True))
    assert [response.status_code for response in responses] == [400] * 4


def a_conversion(stack: Stack, alice: Client, bob: Client) -> str:
    job_id = stack.upload(alice)
    assert stack.send(alice, model_upload()).status_code == 409
    assert alice.get(f"/api/conversion/{job_id}/download").status_code == 409
    assert bob.get(f"/api/conversion/{job_id}/download").status_code == 404
    stack.sandbox.complete(job_id)
    stack.wait_for_status(alice, job_id, "completed")
    promoted = alice.promote(job_id)
    while promoted.status_code == 409:  # the other worker's last poll is a second old
        promoted = alice.promote(job_id)
    assert promoted.status_code == 201, promoted.text
    location = alice.get(f"/api/conversion/{job_id}/download").headers["Location"]
    assert requests.get(location, timeout=10).status_code == 200
    assert alice.get(f"/api/models/{promoted.json()['id']}/file", headers={"Range": "bytes=0-9"}).status_code == 206
    return job_id


def failing_upstreams(stack: Stack, alice: Client, job_id: str) -> None:
    """Upstream responses that repeat the request, or contain private data."""
    other = stack.completed_job(alice)
    poll, promote = f"/api/conversion/{job_id}", f"/api/conversion/{other}/promote-to-models"
    download = f"/api/conversion/{other}/download"
    failures = [
        (CONVERTER, {"call": "get_job", "status": 500}, "GET", poll, {502}),
        (CONVERTER, {"call": "get_job", "status": 401}, "GET", poll, {500}),
        (CONVERTER, {"call": "get_job", "status": 200}, "GET", poll, {502}),
        (CONVERTER, {"call": "promote", "status": 422}, "POST", promote, {502}),
        (FILE_ACCESS, {"call": "get_file", "status": 403}, "POST", promote, {500}),
        (FILE_ACCESS, {"call": "get_file", "status": 410}, "POST", promote, {502}),
        (MEMBER_CENTER, {"call": "download_tokens", "status": 400}, "GET", download, {502}),
        # 503 where that worker's token came from its cache.
        (MEMBER_CENTER, {"call": "download_tokens", "status": 403}, "GET", download, {500, 503}),
        (MEMBER_CENTER, {"call": "download_tokens", "status": 200, "body_json": {"token": ""}}, "GET", download, {502}),
    ]
    for service, rule, method, path, statuses in failures:
        body = {} if "body_json" in rule else {"body": f"<html>{CANARY} Bearer {CANARY}</html>"}
        stack.sandbox.fault(service, **rule, **body)
        [response] = wait_until(
            lambda ask=(method, path): refusal_of(alice, *ask), f"{path} shows the failure", every=0.2
        )
        assert response.status_code in statuses, (rule, response.text)
        assert CANARY not in response.text
        stack.sandbox.clear_faults()


def refusal_of(client: Client, method: str, path: str) -> list[requests.Response]:
    """Return the response in a list if it is a failure. A poll may come from the cache for a second."""
    response = client.request(method, path)
    return [] if response.ok else [response]


def lost_member_center(stack: Stack, alice: Client, job_id: str) -> None:
    # A new process has no service token yet, and keeps none that it could not get.
    stack.restart_gateway()
    for rule in (
        {"status": 401, "body": CANARY},
        {"status": 200, "body_json": {"access_token": CANARY, "expires_in": "soon"}},
    ):
        stack.sandbox.fault(MEMBER_CENTER, call="token", **rule)
        response = alice.get(f"/api/conversion/{job_id}")
        assert response.status_code in {500, 503}, response.text
        assert CANARY not in response.text
        stack.sandbox.clear_faults()


def secrets_in_the_wrong_places(alice: Client) -> None:
    """Send the caller's secrets in places that are often logged."""
    cookie = alice.cookie_header.partition("=")[2].strip('"')
    for path in (f"/api/conversion/{quote(cookie, safe='')[:100]}", f"/{quote(cookie, safe='')}", "/nowhere"):
        assert alice.get(path, params={"access_token": cookie}).status_code == 404
    headers = {
        "User-Agent": cookie,
        "Referer": f"http://localhost/?token={cookie}",
        "Authorization": f"Bearer {cookie}",
    }
    assert alice.get("/api/me", headers=headers).status_code == 200


def test_search_finds_a_secret_in_every_form(tmp_path: Path) -> None:
    token = "dt+" + "aB3/" * 15 + "="
    log = tmp_path / "a.log"
    for shown in (token, quote(token, safe=""), token[:45] + "…", "Basic Y2xpZW50OmFCMy9hQjMvYUIz"):
        log.write_text(f"first line\nsecond {shown} line\n", encoding="utf-8")
        [sentence] = find_leaks([log], [token, "client:aB3/aB3/aB3"])
        assert f"{log}:2 " in sentence
        assert token not in sentence
    log.write_text("nothing to see: dt+aB3/aB3/", encoding="utf-8")
    assert find_leaks([log], [token, "client:aB3/aB3/aB3", ""]) == []
