"""Member Center: discovery, sign-in with PKCE, service tokens, download tokens."""

import json
import time
from urllib.parse import quote

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet

from sandbox.running import Running
from sandbox.settings import (
    MEMBER_CENTER,
    SERVICE_CLIENT_ID,
    SERVICE_CLIENT_SECRET,
    WEB_CLIENT_ID,
    WEB_CLIENT_SECRET,
)
from tests.sandbox.callers import CALLBACK, GATEWAY, Browser, Caller, claims_of, query_of


def test_discovery_describes_endpoints_below_its_issuer(caller: Caller) -> None:
    issuer = caller.sandbox.urls.member_center
    metadata = caller.session.get(f"{issuer}/.well-known/openid-configuration", timeout=10).json()
    assert metadata["issuer"] == issuer
    for name in ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "end_session_endpoint"):
        assert metadata[name].startswith(f"{issuer}/")
    assert metadata["code_challenge_methods_supported"] == ["S256"]


def test_sign_in_gives_an_id_token_that_verifies(browser: Browser) -> None:
    response = browser.log_in()
    assert response.status_code == 302
    location = response.headers["Location"]
    assert location.startswith(f"{CALLBACK}?")
    assert query_of(location)["state"] == "a-state"
    tokens = browser.redeem(location).json()
    keys = KeySet.import_key_set(browser.session.get(f"{browser.member_center}/oauth/jwks", timeout=10).json())
    claims = jwt.decode(tokens["id_token"], keys, algorithms=["RS256"]).claims
    assert claims["iss"] == browser.member_center
    assert claims["aud"] == WEB_CLIENT_ID
    assert claims["nonce"] == "a-nonce"
    assert claims["sub"] == "u-alice-7f3a"
    assert claims["email"] == "alice@sandbox.example"
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    userinfo = browser.session.get(f"{browser.member_center}/oauth/userinfo", headers=headers, timeout=10).json()
    assert userinfo["sub"] == "u-alice-7f3a"
    assert userinfo["name"].startswith("Alice")


def test_second_authorization_needs_no_password_until_signing_out(browser: Browser) -> None:
    assert browser.log_in("bob", "bob").status_code == 302
    assert browser.session.cookies.keys() == ["sandbox_mc_session"]
    assert browser.open_login().status_code == 302
    assert browser.open_login(prompt="login").status_code == 200
    query = {"client_id": WEB_CLIENT_ID, "post_logout_redirect_uri": f"{GATEWAY}/", "state": "bye"}
    url = f"{browser.member_center}/oauth/logout"
    response = browser.session.get(url, params=query, allow_redirects=False, timeout=10)
    assert response.headers["Location"] == f"{GATEWAY}/?state=bye"
    assert browser.open_login().status_code == 200


def test_sign_out_with_id_token_hint_redirects(browser: Browser) -> None:
    id_token = browser.redeem(browser.log_in().headers["Location"]).json()["id_token"]
    query = {"id_token_hint": id_token, "post_logout_redirect_uri": f"{GATEWAY}/"}
    url = f"{browser.member_center}/oauth/logout"
    assert browser.session.get(url, params=query, allow_redirects=False, timeout=10).status_code == 302


@pytest.mark.parametrize("uri", ["http://evil.example/", GATEWAY, f"{GATEWAY}/x"])
def test_sign_out_never_redirects_to_an_unregistered_address(browser: Browser, uri: str) -> None:
    query = {"client_id": WEB_CLIENT_ID, "post_logout_redirect_uri": uri}
    url = f"{browser.member_center}/oauth/logout"
    response = browser.session.get(url, params=query, allow_redirects=False, timeout=10)
    assert response.status_code == 400
    assert "Location" not in response.headers


def test_wrong_password_shows_the_form_again(browser: Browser) -> None:
    response = browser.log_in("alice", "wrong")
    assert response.status_code == 403
    assert "No account has this username and password." in response.text


@pytest.mark.parametrize(("language", "words"), [("zh-TW,en;q=0.5", "這是沙盒"), ("fr", "This is a sandbox")])
def test_login_page_speaks_the_reader_s_language_and_lists_accounts(
    browser: Browser, language: str, words: str
) -> None:
    page = browser.open_login(language)
    assert words in page.text
    assert "<code>alice</code>" in page.text
    assert "<code>bob</code>" in page.text


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": ""},
        {"code_challenge_method": ""},
        {"code_challenge_method": "plain"},
        {"code_challenge": "", "code_challenge_method": ""},
    ],
)
def test_pkce_with_s256_is_required(browser: Browser, changes: dict[str, str]) -> None:
    response = browser.open_login(**changes)
    assert response.status_code == 302
    assert response.headers["Location"].startswith(f"{CALLBACK}?error=invalid_request")


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": f"{CALLBACK}/"},
        {"redirect_uri": "http://evil.example/auth/authorize"},
        {"redirect_uri": 'http://evil.example/"模型'},
        {"redirect_uri": ""},
        {"client_id": "nobody"},
    ],
)
def test_nothing_is_redirected_to_an_unregistered_address(browser: Browser, changes: dict[str, str]) -> None:
    response = browser.open_login(**changes)
    assert response.status_code == 400
    assert "Location" not in response.headers


def test_unknown_scope_is_reported_to_the_client(browser: Browser) -> None:
    location = browser.open_login(scope="openid converter:job.write").headers["Location"]
    assert query_of(location)["error"] == "invalid_scope"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": "x" * 50}, "invalid_grant"),
        ({"redirect_uri": f"{GATEWAY}/elsewhere"}, "invalid_grant"),
        ({"code": "made-up"}, "invalid_grant"),
    ],
)
def test_code_is_bound_to_verifier_and_redirect_uri(browser: Browser, changes: dict[str, str], error: str) -> None:
    response = browser.redeem(browser.log_in().headers["Location"], **changes)
    assert response.status_code == 400
    assert response.json()["error"] == error


def test_code_can_be_spent_once(browser: Browser) -> None:
    location = browser.log_in().headers["Location"]
    assert browser.redeem(location).status_code == 200
    assert browser.redeem(location).json()["error"] == "invalid_grant"


def test_further_gateway_can_be_registered_while_running(browser: Browser) -> None:
    callback = "http://localhost:7999/auth/authorize"
    assert browser.open_login(redirect_uri=callback).status_code == 400
    url = f"{browser.member_center}/_sandbox/gateways"
    assert browser.session.post(url, json={"url": "http://localhost:7999/"}, timeout=10).status_code == 201
    assert browser.open_login(redirect_uri=callback).status_code == 200


def _token_request(sandbox: Running, auth: tuple[str, str] | None, **form: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        url = f"{sandbox.urls.member_center}/oauth/token"
        return session.post(url, data={"grant_type": "client_credentials"} | form, auth=auth, timeout=10)


def test_service_token_carries_the_scopes_asked_for(sandbox: Running) -> None:
    scope = "converter:job.write files:download.read"
    response = _token_request(sandbox, (SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET), scope=scope)
    assert response.headers["Cache-Control"] == "no-store"
    body = response.json()
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 300
    claims = claims_of(body["access_token"])
    assert claims["scope"] == scope
    assert claims["aud"] == ["converter", "file-access"]
    assert claims["client_id"] == SERVICE_CLIENT_ID
    assert claims["exp"] - time.time() == pytest.approx(300, abs=5)


def test_client_secret_in_the_form_is_accepted(sandbox: Running) -> None:
    form = {"client_id": SERVICE_CLIENT_ID, "client_secret": SERVICE_CLIENT_SECRET, "scope": "converter:job.read"}
    assert _token_request(sandbox, None, **form).status_code == 200


@pytest.mark.parametrize("in_form", [True, False])
@pytest.mark.parametrize("client_id", [SERVICE_CLIENT_ID, "nobody"])
def test_wrong_client_or_secret_is_401_invalid_client(sandbox: Running, client_id: str, in_form: bool) -> None:
    form = {"client_id": client_id, "client_secret": "wrong"} if in_form else {}
    response = _token_request(sandbox, None if in_form else (client_id, "wrong"), **form)
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"


@pytest.mark.parametrize("scope", ["nonsense", "converter:job.read nonsense", "openid"])
def test_scope_that_is_not_the_client_s_is_invalid_scope(sandbox: Running, scope: str) -> None:
    response = _token_request(sandbox, (SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET), scope=scope)
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_scope"


def test_web_client_may_not_use_client_credentials(sandbox: Running) -> None:
    response = _token_request(sandbox, (WEB_CLIENT_ID, WEB_CLIENT_SECRET), scope="openid")
    assert response.json()["error"] == "unauthorized_client"


def test_download_tokens_need_url_encoding_and_are_never_the_same(caller: Caller) -> None:
    first, second = (caller.download_token("t/u/a b+c%").json() for _ in range(2))
    assert first["token"] != second["token"]
    assert {"+", "/", "="} <= set(first["token"])
    assert quote(first["token"], safe="") != first["token"]
    assert first["expires_at"].endswith("Z")


def test_download_token_needs_the_delegate_scope(caller: Caller) -> None:
    url = f"{caller.sandbox.urls.member_center}/file-access/download-tokens"
    wrong_audience = caller.session.post(url, json={}, headers=caller.bearer("files:download.read"), timeout=10)
    both = caller.bearer("files:download.read files:download.delegate")
    assert wrong_audience.status_code == 401
    assert caller.session.post(url, json={}, timeout=10).status_code == 401
    assert caller.session.post(url, json={}, headers=both, timeout=10).status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant_id": ""},
        {"user_id": 7},
        {"object_key": None},
        {"object_key": "a//b"},
        {"object_key": "a/../b"},
        {"object_key": "/a"},
        {"method": "PUT"},
        {"expires_in_seconds": 0},
        {"expires_in_seconds": "300"},
        {"expires_in_seconds": True},
    ],
)
def test_malformed_wish_for_a_download_token_is_400(caller: Caller, changes: dict[str, object]) -> None:
    response = caller.download_token(**({"object_key": "t/u/k"} | changes))  # type: ignore[arg-type]
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_request"


def test_download_token_for_another_tenant_is_refused(caller: Caller) -> None:
    assert caller.download_token("t/u/k", tenant_id="somebody-else").status_code == 403


def test_every_secret_is_listed(browser: Browser, caller: Caller) -> None:
    location = browser.log_in().headers["Location"]
    tokens = browser.redeem(location).json()
    service_token = caller.token("converter:job.read")
    download_token = caller.download_token("t/u/k").json()["token"]
    url = f"{browser.member_center}/_sandbox/secrets"
    listed = {secret["value"] for secret in browser.session.get(url, timeout=10).json()["secrets"]}
    assert listed >= {
        query_of(location)["code"],
        tokens["access_token"],
        tokens["id_token"],
        service_token,
        download_token,
        WEB_CLIENT_SECRET,
        SERVICE_CLIENT_SECRET,
    }


def test_call_log_names_calls_and_hides_secrets(caller: Caller, browser: Browser) -> None:
    token = caller.token("files:download.delegate")
    headers = {"X-Request-ID": "r-1", "traceparent": "00-aa-bb-01", "Authorization": f"Bearer {token}"}
    wish = {"tenant_id": "visiona-sandbox", "user_id": "u-9", "object_key": "k", "method": "GET"}
    url = f"{caller.sandbox.urls.member_center}/file-access/download-tokens"
    caller.session.post(url, json=wish, headers=headers, timeout=10)
    calls = caller.calls(MEMBER_CENTER)
    last = calls[-1]
    assert (last["call"], last["status"], last["user_id"]) == ("download_tokens", 200, "u-9")
    assert last["headers"]["X-Request-Id"] == "r-1"
    assert last["headers"]["Traceparent"] == "00-aa-bb-01"
    assert token not in json.dumps(calls)


def test_first_page_says_that_it_is_a_sandbox(caller: Caller) -> None:
    for service in caller.sandbox.settings.services:
        page = caller.session.get(f"{caller.sandbox.urls.of(service)}/", timeout=10).text
        assert "This is a sandbox." in page
        assert ("alice" in page) == (service == MEMBER_CENTER)
