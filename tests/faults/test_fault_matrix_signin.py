"""Sign-ins that fail at Member Center, over real sockets: a problem page in time, never a 500.

tests/api has all faults in one process; these are the ones for which real sockets matter.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from app.errors import catalogue
from sandbox.settings import MEMBER_CENTER
from tests.support.fault_runs import SLACK_SECONDS, verify_problem
from tests.support.scaled_gateway import DEFAULT_TRY_SECONDS
from tests.support.scaled_stack import ScaledStack, remove_fault

# No usable answer; what is whole and refuses this person is told apart.
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "reset": ({"cut": "reset"}, "idp_unavailable"),
    "cut mid-body": ({"status": 200, "body_size": 2_000, "cut": "mid_body", "cut_at": 1_000}, "idp_unavailable"),
    "drip": ({"status": 200, "body_size": 2_000, "drip": {"bytes": 1, "interval_seconds": 0.05}}, "idp_unavailable"),
    "stall": ({"stall_seconds": 600}, "idp_unavailable"),
    "503": ({"status": 503}, "idp_unavailable"),
    "302": ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/elsewhere"}}, "idp_unavailable"),
    "html": ({"status": 200, "body": "<html>", "headers": {"Content-Type": "text/html"}}, "idp_unavailable"),
    "50 MB": ({"status": 200, "body_size": 50_000_000}, "idp_unavailable"),
}
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "400": ({"status": 400}, "sign_in_failed"),
    "401": ({"status": 401}, "idp_misconfigured"),
    "a token that is none": ({"body_json": {"access_token": "at", "id_token": "a.b.c"}}, "sign_in_failed"),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    with ScaledStack(tmp_path_factory.mktemp("signin")) as stack:
        yield stack


@pytest.mark.parametrize(
    ("condition", "faults"),
    [
        ({"call": "discovery"}, FAULTS),
        ({"call": "jwks"}, FAULTS),
        ({"call": "token", "grant": "authorization_code"}, FAULTS | REFUSALS),
    ],
    ids=["discovery", "jwks", "token"],
)
def test_a_sign_in_that_fails_at_member_center_is_reported_in_time(
    stack: ScaledStack, condition: dict[str, Any], faults: dict[str, tuple[dict[str, Any], str]]
) -> None:
    # Discovery and keys are kept once they are had, and failures never are.
    stack.restart_gateway(kill=True)
    responses = {name: sign_in_while(stack, {**condition, **rule}) for name, (rule, _) in faults.items()}

    codes = {name: response.json()["code"] for name, response in responses.items()}
    assert codes == {name: code for name, (_, code) in faults.items()}
    for name, response in responses.items():
        assert response.status_code == catalogue()[codes[name]].status
        assert response.elapsed.total_seconds() < DEFAULT_TRY_SECONDS + SLACK_SECONDS, name
        verify_problem(response, response.headers["X-Request-ID"])
    assert stack.client().sign_in("bob").get("/api/me").status_code == 200


def sign_in_while(stack: ScaledStack, rule: dict[str, Any]) -> requests.Response:
    """Sign in during a fault. Return the gateway's first response that is a failure."""
    address = stack.add_fault(MEMBER_CENTER, rule)
    try:
        client = stack.client()
        begun = client.get("/auth/login")
        if begun.status_code != 302:
            return begun
        page = client.get(begun.headers["Location"])
        back = client.post(page.url, data={"username": "alice", "password": "alice"})
        return client.get(back.headers["Location"])
    finally:
        remove_fault(address)
