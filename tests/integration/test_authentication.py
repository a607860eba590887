"""Without a session every response is 401; a session works while Member Center is down."""

import json
import subprocess
import sys

import pytest
import requests

from tests.support.clients import Client
from tests.support.processes import ROOT, wait_until
from tests.support.sandbox_processes import CONVERTER, MEMBER_CENTER
from tests.support.stack import Stack

VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
LIST_ROUTES = """
import json
from app import create_app
print(json.dumps([rule.rule for rule in create_app().url_map.iter_rules()]))
"""


@pytest.fixture(scope="module")
def api_paths(shared_stack: Stack) -> list[str]:
    """The paths below /api of the application's own map, with an id in place of each variable."""
    listed = subprocess.run(
        [sys.executable, "-c", LIST_ROUTES],
        cwd=ROOT,
        env=shared_stack.environment(),
        check=True,
        capture_output=True,
        timeout=30,
    )
    rules = [rule for rule in json.loads(listed.stdout) if rule.startswith("/api")]
    paths = sorted({rule.replace("<job_id>", "some-id").replace("<model_id>", "some-id") for rule in rules})
    assert not [path for path in paths if "<" in path], "a variable that this test does not know"
    assert len(paths) >= 11
    return [*paths, "/api", "/api/", "/api/no-such-route"]


def assert_unauthenticated(response: requests.Response) -> None:
    what = (response.request.method, response.request.path_url)
    assert response.status_code == 401, what
    assert "Location" not in response.headers, what
    if response.request.method == "GET" and response.request.headers.get("Sec-Fetch-Mode") == "navigate":
        assert response.headers["Content-Type"] == "text/html; charset=utf-8", what
        return
    assert response.headers["Content-Type"] == "application/problem+json", what
    if response.request.method != "HEAD":
        assert response.json()["code"] == "unauthenticated", what


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="curl"),
        pytest.param({"X-Requested-With": "XMLHttpRequest", "Sec-Fetch-Mode": "cors"}, id="XHR"),
        pytest.param({"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}, id="browser"),
        pytest.param({"Cookie": "visiona_session=eyJzdWIiOiJ1LWFsaWNlLTdmM2EifQ.aaaaaa.bbbb"}, id="forged cookie"),
        pytest.param({"Authorization": "Bearer something"}, id="bearer"),
    ],
)
def test_every_api_route_is_401_without_a_session(
    stack: Stack, api_paths: list[str], verb: str, headers: dict[str, str]
) -> None:
    stranger = stack.client()

    for path in api_paths:
        assert_unauthenticated(stranger.request(verb, path, headers=headers))

    assert not stranger.cookies
    # A sweep may ask for a service token and for lists at any time.
    assert [call for call in stack.sandbox.calls(MEMBER_CENTER) if call["call"] != "token"] == []
    assert [call for call in stack.sandbox.calls(CONVERTER) if call["call"] != "list_jobs"] == []


def test_upload_without_a_session_is_401(stack: Stack) -> None:
    with stack.connect() as connection:
        headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "1000000000"}
        response = connection.send_head("POST", "/api/conversion/init", headers).send(b"--b\r\n").read_response()

    assert (response.status, response.json()["code"]) == (401, "unauthenticated")
    assert stack.sandbox.uploads() == []


def test_member_center_may_be_down_while_people_are_signed_in(stack: Stack, alice: Client) -> None:
    job_id = stack.upload(alice)
    cookie = {"Cookie": alice.cookie_header}
    connections = stack.connect_to_all_workers().values()
    try:
        for connection in connections:
            assert connection.send_head("GET", f"/api/conversion/{job_id}", cookie).read_response().status == 200
        stack.sandbox.stop(MEMBER_CENTER)
        stack.sandbox.force(job_id, status="running", progress=77)

        for connection in connections:

            def has_news(connection=connection) -> bool:  # type: ignore[no-untyped-def]
                response = connection.send_head("GET", f"/api/conversion/{job_id}", cookie).read_response()
                assert response.status == 200, response.body
                return bool(response.json()["progress"] == 77)

            wait_until(has_news, "a poll reaches the converter without Member Center", every=0.1)
            for path in ("/api/me", "/api/conversion/active", "/api/conversion/jobs", "/api/models"):
                assert connection.send_head("GET", path, cookie).read_response().status == 200, path
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.timeout(60)
def test_gateway_starts_without_member_center_and_signs_in_when_it_is_back(stack: Stack, alice: Client) -> None:
    stack.sandbox.stop(MEMBER_CENTER)
    stack.restart_gateway()

    assert alice.get("/api/me").status_code == 200
    assert alice.get("/api/models").status_code == 200
    refused = stack.client().get("/auth/login")
    assert (refused.status_code, refused.json()["code"]) == (503, "idp_unavailable")

    stack.sandbox.start(MEMBER_CENTER)
    wait_until(lambda: stack.client().get("/auth/login").status_code == 302, "signing in works again", seconds=15)
    stack.client().sign_in("bob")
