"""Each way in which a sign-in can fail: no crash, no session, and a page with a way back.

The rule under test: without a usable response of MC the code is 503 `idp_unavailable`, because it may work later. A
complete response that does not sign this person in is 400 `sign_in_failed`.
"""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from authlib.common.errors import AuthlibBaseError
from werkzeug.wrappers import Request, Response

from app.api.signin_states import SignInStates
from app.clients.identity_provider import find_endpoint
from tests.api.oidc_provider import (
    DISCOVERY,
    FakeClock,
    OIDCProvider,
    World,
    make_world,
    query_of,
    refused,
    responding,
)

ENDPOINTS = (DISCOVERY, "/token", "/keys")
DEEP = "[" * 100_000


# --- what the callback brings


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"code": "c"}, 400),
        ({"state": ""}, 400),
        ({"state": "{state}"}, 400),
        ({"state": "{state}", "code": ""}, 400),
        ({"state": "{state}", "code": "c" * 5000}, 400),
        ({"state": "{state}", "code": "\0\r\n\u6a21 %zz&="}, 400),
        ({"state": "unknown", "code": "c"}, 400),
        ({"state": "\0\u6a21;=" * 500, "code": "c"}, 400),
        ({"state": "{state}", "error": "access_denied"}, 400),
        ({"state": "{state}", "error": "access_denied", "code": "c"}, 400),
        ({"state": "{state}", "error": "<script>alert(1)</script>"}, 400),
        ({"state": "{state}", "error": ""}, 400),
        ({"state": "unknown", "error": "server_error"}, 400),
        ({"state": "{state}", "error": "server_error"}, 503),
        ({"state": "{state}", "error": "temporarily_unavailable"}, 503),
        ({"state": "{state}", "code": "c", "iss": "https://evil.example"}, 400),
    ],
)
def test_a_callback_that_cannot_succeed_is_refused(world: World, query: dict[str, str], status: int) -> None:
    browser = world.browser()
    state = query_of(browser.begin())["state"]
    filled = {name: value.replace("{state}", state) for name, value in query.items()}
    response = browser.get("/auth/authorize", query_string=filled)
    assert response.status_code == status
    assert response.json["code"] == ("sign_in_failed" if status == 400 else "idp_unavailable")
    assert "script" not in response.get_data(as_text=True)
    assert len(browser.pending()) == (0 if filled.get("state") == state else 1)
    assert browser.me().status_code == 401


def test_a_callback_that_is_not_utf_8_is_refused(world: World) -> None:
    assert world.browser().get("/auth/authorize?state=%ff%fe&code=%80").status_code == 400


@pytest.mark.parametrize("value", ["", "garbage", "WyJhIl0.signature", "." * 3000])
def test_a_state_cookie_that_was_tampered_with_is_ignored(world: World, value: str) -> None:
    """Only a cookie that the gateway signed binds a browser to a sign-in."""
    browser = world.browser()
    callback = browser.at_provider(browser.begin())
    (name,) = browser.pending()
    browser.keep_cookies({name: value})
    assert browser.get(callback).status_code == 400
    assert browser.cookies() == {}


def test_a_state_cookie_of_another_sign_in_counts_for_nothing(world: World) -> None:
    """The signed contents bind a browser to a sign-in, and not the cookie's name. The code is not redeemed."""
    attacker, victim = world.browser(), world.browser()
    prepared = attacker.at_provider(attacker.begin())
    (foreign_name,) = attacker.pending()
    victim.begin()
    (own_value,) = victim.cookies().values()
    victim.keep_cookies({foreign_name: own_value})
    assert victim.get(prepared).status_code == 400
    assert victim.me().status_code == 401
    assert world.provider is not None
    assert world.provider.count("/token") == 0


def test_a_provider_that_announces_the_issuer_in_callbacks_must_send_it(world: World, provider: OIDCProvider) -> None:
    """RFC 9207, the mix-up defence."""
    provider.document["authorization_response_iss_parameter_supported"] = True
    browser = world.browser()
    callback = browser.at_provider(browser.begin())
    assert browser.get(callback).status_code == 400
    callback = browser.at_provider(browser.begin())
    assert browser.get(callback + f"&iss={provider.issuer}").status_code == 302


# --- what the token endpoint answers


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, '{"error": "invalid_grant", "error_description": "SECRET"}'),
        (401, '{"error": "invalid_grant"}'),
        (403, '{"error": "invalid_grant"}'),
        (403, "<html>forbidden</html>"),
        (404, ""),
        (400, '{"error": ["odd"]}'),
        (422, "<html>"),
        (400, "[]"),
        (200, '{"error": "invalid_request"}'),
        (200, "{}"),
        (200, '{"access_token": "a", "token_type": "Bearer"}'),
        (200, '{"access_token": "a", "id_token": 7}'),
        (200, '{"access_token": "a", "id_token": ""}'),
        (200, '{"access_token": "a", "id_token": "a.b.c"}'),
        (200, '{"access_token": "a", "id_token": "\\u6a21.\\ud800.\\u0000"}'),
        (200, json.dumps({"id_token": "a." * 5_000})),
    ],
)
def test_a_token_response_without_a_sign_in_is_refused(
    world: World, provider: OIDCProvider, status: int, body: str
) -> None:
    """The response is complete, so a retry would not help."""
    provider.handlers["/token"] = responding(status, body, **{"Content-Type": "application/json"})
    refused(world.browser(), 400, "sign_in_failed")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, ""),
        (502, "<html>"),
        (503, '{"error": "invalid_grant"}'),
        (429, ""),
        (301, ""),
        (302, ""),
        (307, ""),
        (200, ""),
        (200, "no json"),
        (200, "[]"),
        (200, "null"),
        (200, DEEP),
        (200, '{"id_token": "a.b.c", "expires_in": NaN}'),
        (200, " " * (2 << 20)),
    ],
)
def test_a_token_endpoint_without_a_usable_response_makes_mc_unavailable(
    world: World, provider: OIDCProvider, status: int, body: str
) -> None:
    """A redirect is not followed: it would send the code and our secret elsewhere."""
    provider.handlers["/token"] = responding(status, body, Location=f"{provider.issuer}/elsewhere")
    refused(world.browser(), 503, "idp_unavailable")
    assert provider.count("/elsewhere") == 0


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("path", [DISCOVERY, "/token"])
def test_mcs_retry_after_is_passed_on(world: World, provider: OIDCProvider, path: str, status: int) -> None:
    provider.handlers[path] = responding(status, "", **{"Retry-After": "17"})
    response = refused(world.browser(), 503, "idp_unavailable")
    assert response.headers["Retry-After"] == "17"


# --- discovery and keys


@pytest.mark.parametrize("path", [DISCOVERY, "/keys"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, ""),
        (429, ""),
        (404, ""),
        (401, "{}"),
        (302, ""),
        (204, ""),
        (200, ""),
        (200, "no json"),
        (200, "[]"),
        (200, "{}"),
        (200, DEEP),
        (200, '{"issuer": 7, "keys": 7}'),
        (200, '{"issuer": "https://evil.example", "keys": []}'),
        (200, '{"keys": [7, {}, {"kty": "RSA"}, {"kty": "RSA", "n": "!", "e": []}, {"kty": ["RSA"]}]}'),
    ],
)
def test_discovery_or_keys_without_a_usable_response_make_mc_unavailable(
    world: World, provider: OIDCProvider, path: str, status: int, body: str
) -> None:
    provider.handlers[path] = responding(status, body, Location=f"{provider.issuer}/elsewhere")
    refused(world.browser(), 503, "idp_unavailable")
    assert provider.count("/elsewhere") == 0


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
@pytest.mark.parametrize(
    "value",
    [None, 7, "", "/login", "//evil/", "javascript:alert(1)", "http://u:p@evil/", "http://evil:x/", "http://e\nx/"],
)
def test_discovery_must_name_usable_endpoints(world: World, provider: OIDCProvider, name: str, value: object) -> None:
    provider.document[name] = value
    refused(world.browser(), 503, "idp_unavailable")


def test_discovery_cannot_set_anything_but_endpoints(world: World, provider: OIDCProvider) -> None:
    """Authlib would pass every member on to constructors: a client id twice, TLS checks off, a proxy."""
    provider.document |= {
        "client_id": "other",
        "verify": False,
        "proxies": {"http": "http://127.0.0.1:9"},
        "scope": "all",
        "default_timeout": 0.0001,
        "token_endpoint_auth_method": "none",
        "code_challenge_method": "plain",
        "trust_env": True,
        "nonce": "fixed",
        "prompt": "none",
    }
    browser = world.browser()
    asked = query_of(browser.begin())
    assert (asked["scope"], asked["code_challenge_method"]) == ("openid profile email", "S256")
    assert "prompt" not in asked
    browser.signed_in()


def test_an_https_issuer_cannot_be_talked_down_to_http() -> None:
    """If the issuer uses TLS, an endpoint without TLS is not accepted."""
    issuer = "https://issuer.example"
    document = {"token_endpoint": "http://issuer.example/token", "jwks_uri": "https://issuer.example/keys"}
    assert find_endpoint(document, "token_endpoint", issuer) is None
    assert find_endpoint(document, "jwks_uri", issuer) == "https://issuer.example/keys"


# --- network


def quick_world(provider: OIDCProvider, clock: FakeClock) -> World:
    return make_world(provider.issuer, clock, provider=provider, seconds=0.3)


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("illness", ["hang", "trickle"])
def test_an_endpoint_that_is_too_slow_makes_mc_unavailable(
    provider: OIDCProvider, clock: FakeClock, path: str, illness: str
) -> None:
    """Time is bounded as a whole: a byte now and then does not prolong it."""
    provider.handlers[path] = getattr(provider, illness)
    refused(quick_world(provider, clock).browser(), 503, "idp_unavailable")


def test_a_body_that_is_cut_off_makes_mc_unavailable(world: World, provider: OIDCProvider) -> None:
    """Less than Content-Length promised, even if what came is well-formed."""
    body = '{"id_token": "a.b.c"}'
    provider.handlers["/token"] = lambda request: Response(iter([body]), headers={"Content-Length": "4000"})
    refused(world.browser(), 503, "idp_unavailable")


def test_the_provider_is_down_before_the_sign_in(world: World, provider: OIDCProvider) -> None:
    """Sign-in says so, and leaves no state behind."""
    provider.stop()
    refused(world.browser(), 503, "idp_unavailable")


def test_the_provider_goes_down_during_the_sign_in(world: World, provider: OIDCProvider) -> None:
    browser = world.browser()
    callback = browser.at_provider(browser.begin())
    provider.stop()
    assert browser.get(callback).status_code == 503
    assert browser.cookies() == {}


def test_a_failed_sign_in_leaves_an_existing_session_alone(world: World, provider: OIDCProvider) -> None:
    """The same user stays signed in, and no cookie is added."""
    browser = world.browser().signed_in()
    before = browser.cookies()
    provider.handlers["/token"] = responding(400)
    assert browser.sign_in().status_code == 400
    provider.handlers["/token"] = responding(500)
    assert browser.sign_in().status_code == 503
    browser.get("/auth/authorize?state=unknown&code=c")
    assert browser.cookies() == before
    assert browser.me().json["user_id"] == "user-alice"


@pytest.mark.parametrize("payload", [None, 7, [], [1, 2, 3, 4, 5], ["s", "n", "v", "/", "yesterday"], {"state": "s"}])
def test_a_state_cookie_that_we_signed_in_another_shape_counts_for_nothing(world: World, payload: object) -> None:
    """Another version of the gateway may have signed it with the same key."""
    browser = world.browser()
    callback = browser.at_provider(browser.begin())
    (name,) = browser.pending()
    browser.keep_cookies({name: SignInStates(world.settings)._serializer.dumps(payload)})
    assert browser.get(callback).status_code == 400
    assert browser.me().status_code == 401


@pytest.mark.parametrize("path", [DISCOVERY, "/keys"])
def test_a_body_without_an_announced_end_is_cut_off_when_time_runs_out(
    provider: OIDCProvider, clock: FakeClock, path: str
) -> None:
    """Its end is the end of the connection, which the gateway closes. So the body may be incomplete."""
    usual: Any = getattr(provider, {DISCOVERY: "_discovery", "/keys": "_keys"}[path])

    def hang_behind_a_whole_document(request: Request) -> Response:
        body = usual(request).get_data()
        request.environ["werkzeug.socket"].sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)
        return provider.hang(request)

    provider.handlers[path] = hang_behind_a_whole_document
    refused(quick_world(provider, clock).browser(), 503, "idp_unavailable")


@pytest.mark.parametrize("name", ["token_endpoint", "jwks_uri"])
def test_an_endpoint_with_an_invalid_host_makes_mc_unavailable(world: World, provider: OIDCProvider, name: str) -> None:
    """The URL is well-formed; only the HTTP client notices that the host is invalid."""
    provider.document[name] = "http://.nowhere/"
    refused(world.browser(), 503, "idp_unavailable")


@pytest.mark.parametrize("failure", [ValueError("odd"), AuthlibBaseError("odd")])
def test_an_endpoint_that_authlib_cannot_use_makes_mc_unavailable(world: World, failure: Exception) -> None:
    """Which queries of an endpoint it cannot use depends on its version."""

    def refuse(*_: object, **__: object) -> None:
        raise failure

    extensions = world.app.extensions
    client = SimpleNamespace(create_authorization_url=refuse)
    extensions["visiona.signin"] = replace(extensions["visiona.signin"], client=client)
    refused(world.browser(), 503, "idp_unavailable")
