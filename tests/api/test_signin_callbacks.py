"""Callbacks as browsers really send them: again, too late, from several tabs, and while MC is silent."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from werkzeug.wrappers import Request, Response

from app.clients.retry import SIGN_IN_SLOTS
from app.domain.call import CallContext, Deadline
from app.errors import IDPUnavailableError
from tests.api.oidc_provider import (
    HTML,
    Browser,
    FakeClock,
    OIDCProvider,
    World,
    make_world,
    query_of,
    responding,
    ways_on,
)


def links(browser: Browser, callback: str) -> list[str]:
    """The links of the page that a failed callback is answered with."""
    response = browser.get(callback, headers={"Accept": HTML})
    assert response.status_code >= 400
    return ways_on(response)


# --- again, and too late


def test_a_repeated_callback_leads_home_while_the_session_lives(world: World, provider: OIDCProvider) -> None:
    """Browser Back leads to the callback again. MC is not asked, and the session stays the same."""
    browser = world.browser()
    callback = browser.at_provider(browser.begin("/models"))
    browser.get(callback)
    before, calls = browser.cookies(), len(provider.calls)
    response = browser.get(callback + "&next=https://evil.example/")
    assert (response.status_code, response.headers["Location"]) == (302, "/")
    assert (browser.cookies(), len(provider.calls)) == (before, calls)


def test_a_stale_callback_leads_to_next_while_the_session_lives(world: World, clock: FakeClock) -> None:
    """A tab that waited at MC for too long, while another tab signed in."""
    browser = world.browser()
    callback = browser.at_provider(browser.begin("/models?page=2"))
    clock.advance(601)
    before = browser.signed_in().cookies()
    response = browser.get(callback)
    assert (response.status_code, response.headers["Location"]) == (302, "/models?page=2")
    assert browser.me().status_code == 200
    assert {name: before[name] for name in browser.cookies()} == browser.cookies()


def test_a_code_that_is_used_up_leads_to_next_while_the_session_lives(world: World) -> None:
    """A browser sends the callback twice if it is faster than the first response."""
    browser = world.browser()
    callback = browser.at_provider(browser.begin("/models"))
    before = browser.cookies()
    browser.get(callback)
    browser.keep_cookies(before)
    response = browser.get(callback)
    assert (response.status_code, response.headers["Location"]) == (302, "/models")


@pytest.mark.parametrize("trouble", ["signed out", "expired", "database"])
def test_a_repeated_callback_fails_where_no_session_lives(world: World, clock: FakeClock, trouble: str) -> None:
    browser = world.browser()
    callback = browser.at_provider(browser.begin("/models"))
    browser.get(callback)
    if trouble == "signed out":
        cookies = browser.cookies()
        browser.post("/auth/logout")
        browser.keep_cookies(cookies)
    elif trouble == "expired":
        clock.advance(world.settings.session_seconds + 1)
    else:
        world.revoked.is_down = True
    response = browser.get(callback)
    assert (response.status_code, response.json["code"]) == (400, "sign_in_failed")


def test_a_failure_that_is_not_staleness_is_shown_although_a_session_lives(
    world: World, provider: OIDCProvider
) -> None:
    """A person who tried to sign in with another account learns that it failed."""
    browser = world.browser().signed_in()
    provider.claims = {"nonce": "another"}
    assert browser.sign_in("/models").status_code == 400


def test_a_late_callback_can_begin_again_with_the_same_next(world: World, clock: FakeClock) -> None:
    browser = world.browser()
    callback = browser.at_provider(browser.begin("/models?page=2"))
    clock.advance(1_200)
    assert links(browser, callback) == ["/auth/login?next=/models%3Fpage%3D2", "/"]


@pytest.mark.parametrize(("status", "body"), [(400, '{"error": "invalid_grant"}'), (401, ""), (503, "")])
def test_the_page_of_a_failure_keeps_next(world: World, provider: OIDCProvider, status: int, body: str) -> None:
    provider.handlers["/token"] = responding(status, body)
    browser = world.browser()
    assert links(browser, browser.at_provider(browser.begin("/models")))[0] == "/auth/login?next=/models"


# --- several tabs


def test_of_five_tabs_in_the_same_instant_the_newest_three_sign_in(world: World) -> None:
    """One after the other, each with the cookies of those before; the clock does not move meanwhile."""
    browser = world.browser()
    urls = [browser.begin(f"/{tab}") for tab in range(5)]
    assert len(browser.pending()) == 3
    for tab in (4, 2, 3):
        assert browser.get(browser.at_provider(urls[tab])).headers["Location"] == f"/{tab}"


def test_of_five_tabs_whose_requests_cross_the_newest_three_sign_in(world: World) -> None:
    """Responses arrive in any order, each to a request with fewer cookies. None deletes a newer cookie."""
    browser = world.browser()
    urls = [browser.begin("/0"), browser.begin("/1")]
    seen = browser.cookies()
    others = []
    for tab in range(2, 5):
        other = world.browser()
        other.keep_cookies(seen)
        urls.append(other.begin(f"/{tab}"))
        others.append(other)
    for other in reversed(others):
        browser.keep_cookies(other.cookies())
    for tab in (2, 3, 4):
        assert browser.get(browser.at_provider(urls[tab])).headers["Location"] == f"/{tab}"


def test_a_tab_of_a_worker_whose_clock_is_behind_is_still_the_newest(world: World, clock: FakeClock) -> None:
    browser = world.browser()
    for tab in range(3):
        browser.begin(f"/{tab}")
    clock.advance(-5)
    newest = browser.begin("/newest")
    browser.begin("/after")
    assert browser.get(browser.at_provider(newest)).headers["Location"] == "/newest"


# --- while MC is silent


def test_a_callback_of_no_sign_in_of_this_browser_asks_mc_nothing(world: World, provider: OIDCProvider) -> None:
    """Not even discovery is fetched, so outsiders cannot make the gateway call MC."""
    for query in ({"code": "c"}, {"code": "c", "state": "invented"}, {"error": "server_error", "state": "invented"}):
        assert world.browser().get("/auth/authorize", query_string=query).status_code == 400
    assert provider.calls == []


def test_callbacks_with_invented_codes_hold_few_threads_while_mc_is_silent(
    provider: OIDCProvider, clock: FakeClock
) -> None:
    """As many as the sign-in's bulkhead has slots. The others soon get the response that MC is unavailable."""
    world = make_world(provider.issuer, clock, provider=provider, seconds=4.0)
    browsers = [world.browser() for _ in range(3 * SIGN_IN_SLOTS)]
    states = [query_of(browser.begin())["state"] for browser in browsers]
    calls, provider.handlers["/token"] = provider.count("/token"), provider.hang

    def call_back(browser: Browser, state: str) -> tuple[int, float]:
        began = time.monotonic()
        response = browser.get("/auth/authorize", query_string={"code": "invented", "state": state})
        return response.status_code, time.monotonic() - began

    with ThreadPoolExecutor(len(browsers)) as pool:
        responses = list(pool.map(call_back, browsers, states))
    assert {status for status, _ in responses} == {503}
    assert provider.count("/token") - calls == SIGN_IN_SLOTS
    quick = [seconds for _, seconds in responses if seconds < 3.5]
    assert len(quick) == len(browsers) - SIGN_IN_SLOTS


def test_the_threads_that_wait_for_discovery_are_bounded(provider: OIDCProvider, clock: FakeClock) -> None:
    """One thread asks and others wait for it. Once enough have waited for two seconds, the rest are refused."""
    world = make_world(provider.issuer, clock, provider=provider, seconds=6.0)
    provider.handlers["/.well-known/openid-configuration"] = provider.hang
    ended: list[float] = []
    began, everybody = time.monotonic(), 3 * SIGN_IN_SLOTS

    def log_in(_: int) -> int:
        status = world.browser().get("/auth/login").status_code
        ended.append(time.monotonic() - began)
        return status

    with ThreadPoolExecutor(everybody) as pool:
        assert set(pool.map(log_in, range(everybody))) == {503}
    assert provider.count("/.well-known/openid-configuration") <= 2
    assert len([seconds for seconds in ended if seconds < 5]) >= everybody - SIGN_IN_SLOTS


def test_waiting_for_discovery_beyond_the_deadline_makes_mc_unavailable(
    provider: OIDCProvider, clock: FakeClock
) -> None:
    """The request that fetches discovery has a later deadline."""
    world = make_world(provider.issuer, clock, provider=provider, seconds=6.0)
    asked = threading.Event()

    def hang(request: Request) -> Response:
        asked.set()
        return provider.hang(request)

    provider.handlers["/.well-known/openid-configuration"] = hang
    identity_provider = world.app.extensions["visiona"].identity_provider
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(world.browser().get, "/auth/login")
        assert asked.wait(10)
        with pytest.raises(IDPUnavailableError, match="waited for another"):
            identity_provider.metadata(CallContext(Deadline(0.05)))
        provider.is_over.set()
        assert leader.result(10).status_code == 503
