"""Signing in and out, through the gateway's own routes and a real provider that behaves."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.api.signin_states import MAX_PENDING
from app.log import configure_logging
from tests.api.oidc_provider import (
    DISCOVERY,
    HTML,
    HTTP_ORIGIN,
    FakeClock,
    OIDCProvider,
    World,
    as_json,
    make_world,
    query_of,
    responding,
)
from tests.support.counts import increase


def test_a_person_signs_in_and_is_known_by_the_verified_subject(world: World) -> None:
    """All steps: login, MC, callback, and the page that was asked for."""
    browser = world.browser()
    response = browser.sign_in("/models?page=2")
    assert response.status_code == 302
    assert response.headers["Location"] == "/models?page=2"
    assert response.data == b""
    assert browser.me().json == {
        "user_id": "user-alice",
        "name": "Alice",
        "email": "alice@example.com",
        "session_expires_at": "2031-05-17T20:30:00.000Z",
    }
    assert browser.pending() == []


def test_the_challenge_is_sent_and_the_verifier_redeems_it(world: World, provider: OIDCProvider) -> None:
    """PKCE S256 (the provider refuses a verifier that does not fit), with the client secret in the header only."""
    browser = world.browser()
    url = browser.begin()
    asked = query_of(url)
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert asked["scope"] == "openid profile email"
    assert len(asked["state"]) >= 22
    assert len(asked["nonce"]) >= 22
    assert "code_verifier" not in asked
    assert browser.get(browser.at_provider(url)).status_code == 302
    (call,) = [call for call in provider.calls if call.path == "/token"]
    assert len(call.form["code_verifier"]) == 64
    assert call.form["grant_type"] == "authorization_code"
    assert call.headers["Authorization"].startswith("Basic ")
    assert "client_secret" not in call.form


def test_a_code_is_not_redeemed_with_another_verifier(world: World, provider: OIDCProvider) -> None:
    """A stolen code is of no use in another browser, not even with the state exchanged."""
    victim, thief = world.browser(), world.browser()
    stolen = query_of(victim.at_provider(victim.begin()))["code"]
    state = query_of(thief.begin())["state"]
    response = thief.get("/auth/authorize", query_string={"code": stolen, "state": state})
    assert (response.status_code, response.json["code"]) == (400, "sign_in_failed")
    assert thief.me().status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "gateway.example.evil.example", "gateway.example:444"])
def test_the_host_header_does_not_reach_the_redirect_uri(world: World, host: str) -> None:
    """MC is told our configured address, whatever the request says of itself."""
    browser = world.browser()
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    response = browser.get("/auth/login", base_url=f"http://{host}", headers=headers)
    assert query_of(response.headers["Location"])["redirect_uri"] == "https://gateway.example/auth/authorize"


def test_an_unsafe_next_leads_home(world: World) -> None:
    response = world.browser().sign_in("//evil.example/")
    assert response.headers["Location"] == "/"


def test_two_tabs_sign_in_at_the_same_time(world: World) -> None:
    browser = world.browser()
    first, second = browser.begin("/first"), browser.begin("/second")
    assert browser.get(browser.at_provider(second)).headers["Location"] == "/second"
    assert browser.get(browser.at_provider(first)).headers["Location"] == "/first"
    assert browser.me().status_code == 200


def test_tabs_that_begin_at_the_same_moment_do_not_overwrite_each_other(world: World) -> None:
    """The requests carry the same cookies, as when a browser restores its tabs."""
    browser, other = world.browser(), world.browser()
    first, second = browser.begin("/first"), other.begin("/second")
    browser.keep_cookies(other.cookies())
    assert browser.get(browser.at_provider(first)).headers["Location"] == "/first"
    assert browser.get(browser.at_provider(second)).headers["Location"] == "/second"


def test_anonymous_visits_do_not_grow_the_cookies(world: World, clock: FakeClock) -> None:
    """A browser has at most three sign-ins under way, the newest ones, whatever `next` is."""
    browser = world.browser()
    urls = []
    for visit in range(12):
        clock.advance(1)
        urls.append(browser.begin(f"/{visit}/" + "x" * 480))
        assert len(browser.pending()) <= MAX_PENDING
    assert sum(len(name) + len(value) for name, value in browser.cookies().items()) < 3_600
    assert browser.get(browser.at_provider(urls[8])).status_code == 400
    assert [browser.get(browser.at_provider(url)).status_code for url in urls[9:]] == [302, 302, 302]


def test_a_sign_in_must_be_finished_within_ten_minutes(world: World, clock: FakeClock) -> None:
    """At ten minutes it still works, a second later not."""
    punctual, late = world.browser(), world.browser()
    in_time, too_late = punctual.begin(), late.begin()
    clock.advance(600)
    assert punctual.get(punctual.at_provider(in_time)).status_code == 302
    clock.advance(1)
    assert late.get(late.at_provider(too_late)).status_code == 400


def test_a_callback_of_another_persons_sign_in_fails(world: World) -> None:
    """Login CSRF: an attacker's callback URL, opened in the victim's browser, is refused."""
    attacker, victim = world.browser(), world.browser()
    prepared = attacker.at_provider(attacker.begin())
    response = victim.get(prepared)
    assert (response.status_code, response.json["code"]) == (400, "sign_in_failed")
    assert victim.me().status_code == 401


def test_a_callback_works_once(world: World) -> None:
    """Neither without a session nor with the earlier cookies: the code is used up."""
    browser, thief = world.browser(), world.browser()
    callback = browser.at_provider(browser.begin())
    thief.keep_cookies(browser.cookies())
    assert browser.get(callback).status_code == 302
    assert thief.get(callback).status_code == 400
    assert thief.get(callback).status_code == 400
    assert thief.me().status_code == 401


def test_signing_in_makes_a_new_session_and_ends_the_old_one(world: World) -> None:
    """Session fixation: an id from before the sign-in is not accepted after it."""
    browser, thief = world.browser().signed_in(), world.browser()
    thief.keep_cookies(browser.cookies())
    assert thief.me().status_code == 200
    browser.signed_in()
    assert browser.me().status_code == 200
    assert thief.me().status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Fetch-Mode": "cors"},
        {"Origin": "https://app.example"},
    ],
)
def test_only_a_navigation_begins_or_finishes_a_sign_in(world: World, headers: dict[str, str]) -> None:
    """A prefetch, a script or an image leaves no state behind and uses none up."""
    browser = world.browser()
    response = browser.get("/auth/login", headers=headers)
    assert response.status_code == 403
    assert browser.cookies() == {}
    callback = browser.at_provider(browser.begin())
    assert browser.get(callback, headers=headers).status_code == 403
    assert browser.get(callback, headers={"Sec-Fetch-Mode": "navigate"}).status_code == 302


@pytest.mark.parametrize("path", ["/auth/login", "/auth/authorize"])
def test_head_is_refused(world: World, path: str) -> None:
    """Link checkers leave no state behind."""
    browser = world.browser()
    response = browser.client.head(path, base_url=world.origin)
    assert response.status_code == 405
    assert "HEAD" not in response.headers["Allow"]
    assert browser.cookies() == {}


@pytest.mark.parametrize("path", ["/oidc_callback", "/login", "/authorize", "/logout"])
def test_the_routes_of_flask_oidc_do_not_exist(world: World, path: str) -> None:
    """Neither its callback nor its sign-out by GET."""
    assert world.browser().get(path).status_code == 404
    endpoints = {rule.endpoint for rule in world.app.url_map.iter_rules()}
    assert not {endpoint for endpoint in endpoints if "oidc" in endpoint}


def test_signing_out_takes_a_post(world: World) -> None:
    """An image or a link on another page does not sign a person out."""
    browser = world.browser().signed_in()
    assert browser.get("/auth/logout").status_code == 405
    assert browser.me().status_code == 200


def test_signing_out_ends_the_session_everywhere(world: World) -> None:
    """The cookie is deleted, and a copy of it is not accepted."""
    browser, copy = world.browser().signed_in(), world.browser()
    copy.keep_cookies(browser.cookies())
    browser.begin()
    response = browser.post("/auth/logout")
    assert (response.status_code, response.data) == (204, b"")
    assert browser.cookies() == {}
    assert browser.me().status_code == 401
    assert copy.me().status_code == 401
    assert len(world.revoked.revoked) == 1


def test_signing_out_without_a_session_succeeds_without_a_request_to_mc(world: World, provider: OIDCProvider) -> None:
    response = world.browser().post("/auth/logout")
    assert response.status_code == 204
    assert provider.calls == []


def test_signing_out_returns_the_providers_logout_address(world: World, provider: OIDCProvider) -> None:
    """RP-initiated logout, with the query that the endpoint already has; also when the session has expired."""
    provider.document["end_session_endpoint"] = f"{provider.issuer}/leave?theme=dark"
    browser = world.browser().signed_in()
    world.clock.advance(world.settings.session_seconds + 1)
    response = browser.post("/auth/logout")
    assert response.status_code == 200
    url = response.json["logout_url"]
    assert url.startswith(f"{provider.issuer}/leave?")
    assert query_of(url) == {
        "theme": "dark",
        "client_id": "gateway",
        "post_logout_redirect_uri": "https://gateway.example/",
    }


@pytest.mark.parametrize("endpoint", ["javascript:alert(1)", "//evil.example/", "ftp://x/", "http://u@evil/", 7, ""])
def test_an_end_session_endpoint_must_be_a_web_address(world: World, provider: OIDCProvider, endpoint: object) -> None:
    """The frontend goes where `logout_url` says."""
    provider.document["end_session_endpoint"] = endpoint
    assert world.browser().signed_in().post("/auth/logout").status_code == 204


def test_signing_out_works_while_the_provider_is_down(world: World, provider: OIDCProvider) -> None:
    """Whether the process has discovery or could never load it."""
    browser = world.browser().signed_in()
    cookies = browser.cookies()
    provider.stop()
    fresh = make_world(provider.issuer, world.clock)
    other = fresh.browser()
    other.keep_cookies(cookies)
    assert browser.post("/auth/logout").status_code == 204
    assert other.post("/auth/logout").status_code == 204


def test_signing_out_does_not_claim_success_when_the_database_is_down(world: World) -> None:
    """The cookie is deleted all the same, and this process refuses a copy."""
    browser, copy = world.browser().signed_in(), world.browser()
    copy.keep_cookies(browser.cookies())
    assert copy.me().status_code == 200
    world.revoked.is_down = True
    response = browser.post("/auth/logout")
    assert (response.status_code, response.json["code"]) == (500, "model_store_unavailable")
    assert browser.cookies() == {}
    assert copy.me().status_code == 401


def test_people_who_are_signed_in_do_not_need_the_provider(world: World, provider: OIDCProvider) -> None:
    browser = world.browser().signed_in()
    provider.stop()
    provider.calls.clear()
    world.clock.advance(11 * 3600)
    assert browser.me().status_code == 200
    assert provider.calls == []


def test_responses_of_the_sign_in_are_never_stored(world: World) -> None:
    """Nor may the callback's address, with the code in it, travel as a referrer."""
    browser = world.browser()
    login = browser.get("/auth/login")
    callback = browser.get(browser.at_provider(login.headers["Location"]))
    failure = browser.get("/auth/authorize", headers={"Accept": HTML})
    out = browser.post("/auth/logout")
    for response in (login, callback, failure, out):
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"


def test_cookies_have_the_strictest_attributes_that_work(world: World) -> None:
    """The host prefix and its conditions under https: Secure, Path=/, no Domain."""
    browser = world.browser()
    login = browser.get("/auth/login")
    callback = browser.get(browser.at_provider(login.headers["Location"]))
    out = browser.post("/auth/logout")
    lines = [line for response in (login, callback, out) for line in response.headers.getlist("Set-Cookie")]
    assert len(lines) == 4
    for line in lines:
        name, *attributes = (part.strip() for part in line.split(";"))
        assert name.startswith(("__Host-visiona_session=", "__Host-visiona_signin_"))
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(attributes)
        assert not any(attribute.startswith("Domain") for attribute in attributes)


def test_on_localhost_cookies_have_plain_names(provider: OIDCProvider, clock: FakeClock) -> None:
    """Browsers take neither the prefix nor Secure over plain http."""
    browser = make_world(provider.issuer, clock, origin=HTTP_ORIGIN).browser().signed_in()
    assert list(browser.cookies()) == ["visiona_session"]
    assert browser.me().status_code == 200


def test_name_and_email_may_come_from_userinfo(world: World, provider: OIDCProvider) -> None:
    """OpenID Connect lets a provider leave them out of the ID token."""
    provider.user = {"sub": "user-bob"}
    provider.userinfo = {"sub": "user-bob", "name": "Bob", "email": "bob@example.com"}
    document = world.browser().signed_in().me().json
    assert (document["user_id"], document["name"], document["email"]) == ("user-bob", "Bob", "bob@example.com")


@pytest.mark.parametrize("status", [200, 204, 401, 500])
def test_userinfo_about_another_subject_is_ignored(world: World, provider: OIDCProvider, status: int) -> None:
    """Only the ID token identifies the user. Names are for display."""
    provider.user = {"sub": "user-bob"}
    provider.handlers["/userinfo"] = lambda request: as_json({"sub": "user-eve", "name": "Eve"}, status)
    document = world.browser().signed_in().me().json
    assert (document["user_id"], document["name"]) == ("user-bob", "")


def test_discovery_is_fetched_once_an_hour(world: World, provider: OIDCProvider, clock: FakeClock) -> None:
    for _ in range(3):
        world.browser().signed_in()
    assert (provider.count(DISCOVERY), provider.count("/keys")) == (1, 1)
    clock.advance(3_599)
    world.browser().signed_in()
    assert (provider.count(DISCOVERY), provider.count("/keys")) == (1, 1)
    clock.advance(1)
    world.browser().signed_in()
    assert (provider.count(DISCOVERY), provider.count("/keys")) == (2, 2)


def test_a_failed_discovery_is_not_remembered(world: World, provider: OIDCProvider) -> None:
    provider.handlers[DISCOVERY] = responding(503)
    assert world.browser().get("/auth/login").status_code == 503
    del provider.handlers[DISCOVERY]
    world.browser().signed_in()


@pytest.mark.parametrize("status", [200, 503])
def test_many_threads_that_need_discovery_cause_one_request(world: World, provider: OIDCProvider, status: int) -> None:
    """32 visitors at once after a start share the outcome of one request, also if it fails."""
    arrived, everybody = threading.Semaphore(0), 32
    usual = provider._discovery

    def slow(request: object) -> object:
        for _ in range(everybody):
            assert arrived.acquire(timeout=10)
        # All have announced themselves; what is left is the step from there to the lock.
        provider.is_over.wait(0.2)
        return usual(request) if status == 200 else responding(status)(request)

    provider.handlers[DISCOVERY] = slow

    def visit(_: int) -> int:
        browser = world.browser()
        arrived.release()
        return browser.get("/auth/login").status_code

    with ThreadPoolExecutor(everybody) as pool:
        statuses = set(pool.map(visit, range(everybody)))
    assert statuses == {302 if status == 200 else 503}
    assert provider.count(DISCOVERY) == 1


def test_nothing_secret_is_logged(
    world: World, provider: OIDCProvider, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """At DEBUG, with a sign-in that works and failing ones: no code, state, nonce, verifier, token or cookie."""
    configure_logging("json")
    with caplog.at_level(logging.DEBUG):
        browser = world.browser()
        url = browser.begin()
        provider.secrets += browser.cookies().values()
        browser.get(browser.at_provider(url))
        provider.secrets += browser.cookies().values()
        for broken in (responding(400), responding(500), responding(200, "no json"), responding(302, Location="/x")):
            provider.handlers["/token"] = broken
            browser.sign_in()
        provider.handlers.clear()
        provider.token_response = {"id_token": "e.e.e"}
        browser.sign_in()
        browser.post("/auth/logout")
    records = "\n".join(f"{record.getMessage()}\n{record.exc_text}" for record in caplog.records)
    written = "".join(capfd.readouterr()) + records
    # The provider's own access log, and the test's own calls to it, are not the gateway's.
    ours = "\n".join(line for line in written.splitlines() if "GET /login?" not in line)
    assert "request.failed" in ours
    found = [secret for secret in provider.secrets if secret and secret in ours]
    assert found == []


def test_the_request_id_goes_along_to_the_provider(world: World, provider: OIDCProvider) -> None:
    """One id finds a sign-in in both logs."""
    world.browser().signed_in()
    ours = [call for call in provider.calls if call.path != "/login"]
    assert {call.headers.get("X-Request-Id") for call in ours} == {"request-1"}


def test_environment_proxies_are_not_used(
    world: World, monkeypatch: pytest.MonkeyPatch, provider: OIDCProvider
) -> None:
    """A proxy variable in the environment must not see the client secret."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    world.browser().signed_in()
    assert provider.count("/token") == 1


def test_the_calls_of_a_sign_in_are_counted(world: World, provider: OIDCProvider) -> None:
    """By call and outcome, like other calls to upstreams. Readiness reports MC's last failure."""
    health = world.app.extensions["visiona"].upstream_health
    tries = increase("visiona_upstream_tries_total", upstream="mc", call="mc.sign_in")
    failures = increase("visiona_upstream_failures_total", upstream="mc", call="mc.sign_in", kind="server_error")
    world.browser().signed_in()
    assert tries() == len([call for call in provider.calls if call.path != "/login"]) > 2
    assert (failures(), health.last("mc").outcome) == (0, "answered")
    provider.handlers["/token"] = responding(503)
    browser = world.browser()
    login = browser.get("/auth/login")
    assert browser.get(browser.at_provider(login.headers["Location"])).status_code == 503
    assert (failures(), health.last("mc").outcome) == (1, "server_error")


@pytest.mark.parametrize("token", ["two words", "line\r\nbreak", "", 7, None])
def test_an_access_token_that_fits_into_no_header_is_not_sent(
    world: World, provider: OIDCProvider, token: object
) -> None:
    """Name and email stay empty. The ID token has named the subject."""
    provider.user = {"sub": "user-bob"}
    provider.token_response = {"access_token": token}
    assert world.browser().signed_in().me().json["name"] == ""
    assert provider.count("/userinfo") == 0
