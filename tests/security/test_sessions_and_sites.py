"""No one can use another user's session, or make a user's browser change something."""

import hashlib
import re
import time

import pytest
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer

from tests.security.conftest import Door
from tests.support.clients import Client
from tests.support.processes import wait_until
from tests.support.stack import Stack

SESSION = "__Host-visiona_session"
ALICE, BOB = "u-alice-7f3a", "u-bob-c81e"


def session_of(client: Client) -> str:
    found = re.search(rf"{SESSION}=([^;]+)", client.cookie_header)
    assert found is not None
    return found[1]


def forged_session(key: str) -> str:
    """Return a session cookie signed with this key."""
    serializer = URLSafeTimedSerializer(
        key,
        salt="visiona.session",
        serializer=SecureCookieSessionInterface.serializer,
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
    who = {"sid": "forged", "sub": "u-mallory", "name": "Mallory", "email": "", "exp": int(time.time()) + 600}
    return str(serializer.dumps(who))


# --- sessions


def test_a_session_from_before_the_sign_in_is_worth_nothing_after_it(stack: Stack) -> None:
    """Session fixation: a planted cookie is replaced by a new one, and no worker accepts it any more."""
    planter, victim = stack.client().sign_in("bob"), stack.client()
    for cookie in planter.cookies:
        if cookie.name == SESSION:
            victim.cookies.set_cookie(cookie)
    assert victim.get("/api/me").json()["user_id"] == BOB

    victim.sign_in("alice")

    assert victim.get("/api/me").json()["user_id"] == ALICE
    assert session_of(victim) != session_of(planter)

    def is_dead_everywhere() -> bool:
        # Each request is a connection of its own, and goes to either worker.
        return all(planter.get("/api/me").status_code == 401 for _ in range(6))

    wait_until(is_dead_everywhere, "the planted session is dead", every=0.2)


def test_a_cookie_of_a_gateway_with_another_key_is_worth_nothing(stack: Stack, door: Door) -> None:
    """Only the key is wrong; the same cookie signed with our key is accepted."""
    ours = door.ask("GET", "/api/me", ("Cookie", f"{SESSION}={forged_session(stack.secret_key)}"))
    other = door.ask("GET", "/api/me", ("Cookie", f"{SESSION}={forged_session('k' * 48)}"))

    assert (ours.status, ours.json()["user_id"]) == (200, "u-mallory")
    assert (other.status, other.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param("visiona_session={bob}", id="without the prefix"),
        pytest.param("__HOST-visiona_session={bob}", id="prefix in capitals"),
        pytest.param("\u2000__Host-visiona_session={bob}", id="behind a blank of Unicode"),
        pytest.param("\u00a0__Host-visiona_session={bob}", id="behind a blank that does not break"),
        pytest.param("\u0085__Host-visiona_session={bob}", id="behind a line end of Unicode"),
        pytest.param("=__Host-visiona_session={bob}", id="as the value of a cookie without a name"),
        pytest.param("$Version=1,__Host-visiona_session={bob}", id="as RFC 2109 had it"),
        pytest.param('a="__Host-visiona_session={bob}"', id="in quotes"),
        pytest.param('"__Host-visiona_session"={bob}', id="with a quoted name"),
    ],
)
def test_a_cookie_that_another_host_may_plant_is_not_the_session(
    door: Door, alice: Client, bob: Client, planted: str
) -> None:
    """Browsers let no other host set `__Host-` cookies; no name that they do allow may be read as one."""
    other = planted.replace("{bob}", session_of(bob)).encode().decode("latin-1")
    head = "GET /api/me HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nCookie: {}\r\n\r\n"

    alone = door.talk(head.format(door.host, other).encode("latin-1"))
    first = door.talk(head.format(door.host, f"{other}; {SESSION}={session_of(alice)}").encode("latin-1"))

    assert alone.split(b" ", 2)[1] == b"401"
    assert BOB.encode() not in first
    assert ALICE.encode() in first


# --- other sites

ELSEWHERE = [
    pytest.param({"Origin": "https://evil.example"}, id="Origin of another"),
    pytest.param({"Origin": "null"}, id="Origin null"),
    pytest.param({"Origin": ""}, id="Origin empty"),
    pytest.param({"Origin": "{ours}/"}, id="Origin with a slash"),
    pytest.param({"Origin": "{ours}.evil.example"}, id="Origin that begins like ours"),
    pytest.param({"Origin": "https://localhost"}, id="Origin without the port"),
    pytest.param({"Origin": "{ours}, https://evil.example"}, id="two Origins"),
    pytest.param({"Sec-Fetch-Site": "cross-site"}, id="cross-site without Origin"),
    pytest.param({"Sec-Fetch-Site": "same-site"}, id="a sibling"),
    pytest.param({"Sec-Fetch-Site": ""}, id="nothing"),
    pytest.param({"Sec-Fetch-Site": "same-origin, cross-site"}, id="two answers"),
    pytest.param({"Sec-Fetch-Site": "cross-site", "Origin": "{ours}"}, id="cross-site, whatever Origin says"),
]
CHANGES = [
    ("POST", "/api/conversion/check"),
    ("POST", "/api/conversion/init"),
    ("POST", "/api/conversion/some-job/promote-to-models"),
    ("PATCH", "/api/models/some-model"),
    ("DELETE", "/api/models/some-model"),
    ("POST", "/auth/logout"),
]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_what_another_site_asks_for_is_not_done(stack: Stack, alice: Client, headers: dict[str, str]) -> None:
    """Every route that changes something returns 403 despite the victim's cookie, and the session remains."""
    given = {name: value.replace("{ours}", stack.url) for name, value in headers.items()}

    responses = [alice.request(method, path, headers=given) for method, path in CHANGES]

    assert {(response.status_code, response.json()["code"]) for response in responses} == {(403, "cross_site_request")}
    assert alice.get("/api/me").status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_of_another_site_is_refused_whatever_it_is_encoded_as(alice: Client, content_type: str) -> None:
    """The three encodings that a page may send without a preflight; from our own page the same body is parsed."""
    headers = {"Content-Type": content_type, "Origin": "https://evil.example"}

    assert alice.post("/api/conversion/check", data=b"size=1", headers=headers).status_code == 403
    del headers["Origin"]
    assert alice.post("/api/conversion/check", data=b"size=1", headers=headers).status_code in {200, 400, 415}


def test_a_method_cannot_be_smuggled_past_the_guard(alice: Client) -> None:
    headers = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE", "Sec-Fetch-Site": "cross-site"}

    response = alice.get("/api/models/some-model?_method=DELETE", headers=headers)

    assert (response.status_code, response.json()["code"]) == (404, "model_not_found")


# --- where a sign-in leads


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\tevil.example",
        "/\t/evil.example",
        "https://evil.example/",
        "https:evil.example",
        "//localhost@evil.example/",
        "https://localhost@evil.example/",
        "/%2f/evil.example",
        "/%5cevil.example",
        "/\r\nLocation: https://evil.example",
        "javascript:alert(1)",
    ],
)
def test_a_sign_in_leads_to_our_own_pages_only(stack: Stack, wanted: str) -> None:
    client = stack.client()
    page = client.get("/auth/login", params={"next": wanted}, allow_redirects=True)
    at_callback = client.post(page.url, data={"username": "alice", "password": "alice"})

    landed = client.get(at_callback.headers["Location"])

    assert landed.status_code == 302
    assert landed.headers["Location"] == "/"


# --- ids in paths

#: As they stand in a request line: dots, slashes, NUL, line ends, other alphabets.
ODD_IDS = ["..", ".", "%2e%2e", "..%2f..%2fme", "a%2fb", "%00", "a%00b", "a%0d%0aX:y", "%ef%bc%8e%ef%bc%8e", "a%cc%81"]
ODD_IDS += ["%c0%ae%c0%ae", "%ff", "a;b", "a%3fb", "%25%32%65", "x" * 129]


@pytest.mark.parametrize("given", ODD_IDS)
@pytest.mark.parametrize("folder", ["conversion", "models"])
def test_an_id_that_could_mean_something_else_is_an_absent_one(
    stack: Stack, door: Door, alice: Client, folder: str, given: str
) -> None:
    """404, or 400 from nginx, and no upstream is called."""
    cookie = ("Cookie", alice.cookie_header)

    responses = [door.ask(method, f"/api/{folder}/{given}", cookie) for method in ("GET", "DELETE")]

    assert {response.status for response in responses} <= {404, 405, 400}
    assert not any(b"u-alice" in response.body for response in responses)
    assert stack.sandbox.calls("converter") == []
