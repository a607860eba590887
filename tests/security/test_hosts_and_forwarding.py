"""Headers about a request's route are ignored, with and without nginx."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.security.conftest import Door
from tests.support.clients import Client
from tests.support.stack import Stack

EVIL = "evil.example"
#: What proxies write, and what some frameworks believe.
FORWARDING = [
    ("X-Forwarded-Host", EVIL),
    ("X-Forwarded-Server", EVIL),
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Protocol", "ssl"),
    ("X-Forwarded-Ssl", "off"),
    ("X-Forwarded-Port", "444"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-For", "203.0.113.7"),
    ("Forwarded", f"for=203.0.113.7;host={EVIL};proto=http"),
    ("X-Original-Host", EVIL),
    ("X-Original-URL", "/healthz"),
    ("X-Rewrite-URL", "/healthz"),
    ("X-Script-Name", "/evil"),
    ("Script-Name", "/evil"),
    ("SCRIPT_NAME", "/evil"),
    ("PATH_INFO", "/healthz"),
    ("Proxy", f"http://{EVIL}"),
    ("X-HTTP-Method-Override", "DELETE"),
]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("Host", EVIL)], id="another"),
        pytest.param([("Host", "localhost")], id="without the port"),
        pytest.param([("Host", f"localhost.{EVIL}")], id="one that begins like ours"),
        pytest.param([("Host", "")], id="empty"),
        pytest.param([("Host", EVIL), ("X-Forwarded-Host", "{ours}")], id="ours, but forwarded"),
        pytest.param([("Host", EVIL), ("Forwarded", "host={ours}")], id="ours, but in Forwarded"),
        pytest.param([("Host", "{ours}"), ("Host", EVIL)], id="two"),
        pytest.param([("Host", EVIL), ("Host", "{ours}")], id="two, ours last"),
        pytest.param([("Host", "{ours}@" + EVIL)], id="with user info"),
        pytest.param([("Host", "{ours}, " + EVIL)], id="a list"),
        pytest.param([("Host", "{ours}/")], id="with a path"),
    ],
)
def test_a_host_that_is_not_ours_is_refused(door: Door, alice: Client, headers: list[tuple[str, str]]) -> None:
    given = [(name, value.replace("{ours}", door.host)) for name, value in headers]

    response = door.ask("GET", "/api/me", *given, ("Cookie", alice.cookie_header))

    assert response.status == 400
    assert b"u-alice" not in response.body
    assert EVIL not in str(response.headers)


def test_a_request_without_any_host_is_refused(door: Door) -> None:
    for head in (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"):
        assert door.talk(head).split(b" ", 2)[1] == b"400", head


def test_an_address_in_the_request_line_does_not_replace_the_host(door: Door) -> None:
    """Of `GET http://elsewhere/…` at most the path counts, and the Host must be ours."""
    elsewhere = door.ask("GET", f"http://{EVIL}/auth/login", ("Host", door.host))
    ours = door.ask("GET", f"http://{door.host}/auth/login", ("Host", EVIL))

    assert EVIL not in str(elsewhere.headers)
    assert ours.status == 400


@pytest.mark.parametrize("header", FORWARDING, ids=lambda header: header[0])
def test_no_header_says_where_the_gateway_is(door: Door, alice: Client, header: tuple[str, str]) -> None:
    """A single header changes neither the sign-in, nor a cookie's attributes, nor a path."""
    login = door.ask("GET", "/auth/login", header)
    me = door.ask("GET", "/api/me", header, ("Cookie", alice.cookie_header))

    assert login.status == 302
    asked = parse_qs(urlsplit(login.header("Location") or "").query)
    assert asked["redirect_uri"] == [f"https://{door.host}/auth/authorize"]
    assert EVIL not in str(login.headers)
    cookie = login.header("Set-Cookie") or ""
    assert cookie.startswith("__Host-visiona_signin_")
    assert "; Secure" in cookie
    assert (me.status, me.json()["user_id"]) == (200, "u-alice-7f3a")


def test_all_of_them_together_say_nothing_either(door: Door, alice: Client) -> None:
    """Contradicting headers are ignored as well; gunicorn would refuse them if it trusted any."""
    response = door.ask("GET", "/api/me", *FORWARDING, ("Cookie", alice.cookie_header))

    assert (response.status, response.json()["user_id"]) == (200, "u-alice-7f3a")


def test_no_header_lends_somebody_an_identity(door: Door) -> None:
    """Headers in which proxies pass a user on are ignored: without a session there is no identity."""
    names = ("X-User-Id", "X-User", "X-Forwarded-User", "Remote-User", "REMOTE_USER", "X-Remote-User", "X-Auth-User")
    claims = [(name, "u-alice-7f3a") for name in names]

    response = door.ask("GET", "/api/me", *claims, ("Authorization", "Bearer u-alice-7f3a"))

    assert (response.status, response.json()["code"]) == (401, "unauthenticated")


def test_a_redirect_after_signing_in_stays_here_whatever_was_forwarded(stack: Stack) -> None:
    client = stack.client()
    client.headers.update({"X-Forwarded-Host": EVIL, "X-Forwarded-Proto": "http", "Forwarded": f"host={EVIL}"})

    client.sign_in("alice")

    assert client.get("/api/me").json()["user_id"] == "u-alice-7f3a"
    assert all(cookie.secure for cookie in client.cookies if "visiona" in cookie.name)
