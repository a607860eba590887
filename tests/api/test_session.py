"""The session in the signed cookie: when it is accepted, how long it lasts, and what it holds."""

import hashlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer

from app.api.session import current_session, start_session
from app.domain.identity import Identity
from tests.api.oidc_provider import Browser, FakeClock, World, make_world

ALICE = Identity(user_id="user-alice", name="Alice", email="alice@example.com")


@pytest.fixture
def world(clock: FakeClock) -> World:
    return world_with(clock)


def world_with(clock: FakeClock, **settings: str) -> World:
    world = make_world("https://issuer.example", clock, **settings)

    @world.app.post("/test/start")
    def start() -> dict[str, Any]:
        assert world.next_identity is not None
        session = start_session(world.next_identity)
        assert current_session() is session
        return {"sid": session.sid}

    world.next_identity = ALICE
    return world


def signed_in(world: World, identity: Identity = ALICE) -> Browser:
    world.next_identity = identity
    browser = world.browser()
    assert browser.post("/test/start").status_code == 200
    return browser


def forge(world: World, payload: object, *, salt: str = "visiona.session", key: str = "k" * 40) -> Browser:
    """Return a browser with a cookie that has this payload and a valid signature."""
    serializer = URLSafeTimedSerializer(
        key,
        salt=salt,
        serializer=SecureCookieSessionInterface.serializer,
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
    browser = world.browser()
    browser.keep_cookies({"__Host-visiona_session": serializer.dumps(payload)})
    return browser


# --- the cookie


def test_a_session_is_accepted_until_it_expires(world: World, clock: FakeClock) -> None:
    """To the second, by the injected clock."""
    browser = signed_in(world)
    clock.advance(world.settings.session_seconds - 1)
    assert browser.me().status_code == 200
    clock.advance(1)
    response = browser.me()
    assert (response.status_code, response.json["code"]) == (401, "unauthenticated")


def test_using_a_session_does_not_extend_it(world: World) -> None:
    browser = signed_in(world)
    assert "Set-Cookie" not in browser.me().headers
    assert "Set-Cookie" not in browser.post("/api/change").headers


def test_the_cookie_lives_as_long_as_the_session(clock: FakeClock) -> None:
    """A browser that was closed is still signed in when it is opened again."""
    world = world_with(clock, session_seconds="3600")
    attributes = world.browser().post("/test/start").headers["Set-Cookie"].split("; ")
    assert "Max-Age=3600" in attributes


def test_every_session_has_a_new_random_id(world: World) -> None:
    browser = world.browser()
    sids = {browser.post("/test/start").json["sid"] for _ in range(5)}
    assert len(sids) == 5
    assert all(len(sid) >= 32 for sid in sids)


@pytest.mark.parametrize(
    "identity",
    [
        Identity("\\" * 255, "\U0001f600" * 200, "\U0001f600" * 200),
        Identity("a" * 255, "模" * 200, "信" * 200),
        Identity("a" * 255, '"' * 200, "a" * 200),
    ],
)
def test_the_cookie_stays_below_two_kilobytes(world: World, identity: Identity) -> None:
    """Also with the longest names; the subject is never cut."""
    browser = signed_in(world, identity)
    assert sum(len(name) + len(value) for name, value in browser.cookies().items()) < 2_048
    document = browser.me().json
    assert document["user_id"] == identity.user_id
    assert identity.name.startswith(document["name"])
    assert document["name"]


def test_an_ordinary_name_is_not_cut(world: World) -> None:
    """Fifty Chinese characters, and the longest address that mail allows."""
    identity = Identity("u", "模" * 50, "a" * 242 + "@example.com")
    document = signed_in(world, identity).me().json
    assert (document["name"], document["email"]) == (identity.name, identity.email)


@pytest.mark.parametrize("value", ["", "garbage", "a.b.c", ".eJw", "\u00e9", "x" * 4000])
def test_a_garbled_cookie_is_no_session(world: World, value: str) -> None:
    browser = world.browser()
    browser.keep_cookies({"__Host-visiona_session": value})
    assert browser.me().status_code == 401


GOOD = {"sid": "s", "sub": "u", "name": "n", "email": "e", "exp": 1_999_999_999}


def test_a_cookie_signed_by_these_tests_is_accepted(world: World) -> None:
    """Otherwise the next tests would pass for the wrong reason."""
    assert forge(world, GOOD).me().status_code == 200


def test_a_cookie_of_an_earlier_version_is_accepted(world: World) -> None:
    """It wrote Flask's session, with one entry more. Nobody has to sign in again after the update."""
    with world.app.app_context():
        browser = forge(world, {**GOOD, "_permanent": True, "name": '模型 "q"'})
    assert browser.me().json["name"] == '模型 "q"'


@pytest.mark.parametrize(
    "payload",
    [
        {},
        [],
        "text",
        7,
        None,
        {"_permanent": True},
        {key: value for key, value in GOOD.items() if key != "sid"},
        {**GOOD, "sid": 7},
        {**GOOD, "sid": ""},
        {**GOOD, "sub": None},
        {**GOOD, "sub": ""},
        {**GOOD, "sub": ["u"]},
        {**GOOD, "name": 7},
        {**GOOD, "email": None},
        {**GOOD, "exp": "1999999999"},
        {**GOOD, "exp": 1.5},
        {**GOOD, "exp": True},
        {**GOOD, "exp": 10**30},
        {**GOOD, "exp": -(10**30)},
        {key: value for key, value in GOOD.items() if key != "exp"},
    ],
)
def test_a_signed_cookie_of_another_shape_is_no_session(world: World, payload: object) -> None:
    """An older version of the gateway may have written it: the response is 401."""
    assert forge(world, payload).me().status_code == 401


def test_a_cookie_signed_for_something_else_is_no_session(world: World) -> None:
    """Flask's default salt, the salt of the sign-in cookies, and another key."""
    assert forge(world, GOOD, salt="cookie-session").me().status_code == 401
    assert forge(world, GOOD, salt="visiona.sign-in").me().status_code == 401
    assert forge(world, GOOD, key="x" * 40).me().status_code == 401


def test_keys_can_be_rotated(clock: FakeClock) -> None:
    """The old key still verifies and the new one signs. Once the old key is removed, its sessions end."""
    old, new = "o" * 40, "n" * 40
    before = world_with(clock, secret_key=old)
    between = world_with(clock, secret_key=f"{new},{old}")
    after = world_with(clock, secret_key=new)
    cookies_of_old = signed_in(before).cookies()
    cookies_of_new = signed_in(between).cookies()
    for world, cookies, status in [
        (between, cookies_of_old, 200),
        (after, cookies_of_old, 401),
        (after, cookies_of_new, 200),
        (before, cookies_of_new, 401),
    ]:
        browser = world.browser()
        browser.keep_cookies(cookies)
        assert browser.me().status_code == status


def test_an_identity_in_the_request_is_ignored(world: World) -> None:
    """The cookie alone says who the caller is."""
    browser = signed_in(world)
    response = browser.get("/api/me?user_id=eve", headers={"X-User-Id": "eve", "Authorization": "Bearer eve"})
    assert response.json["user_id"] == "user-alice"
    assert world.browser().get("/api/me", headers={"X-User-Id": "eve"}).status_code == 401


def test_each_request_checks_the_session_once(world: World) -> None:
    """The guard and the view share it."""
    signed_in(world).me()
    assert world.revoked.asked == 1


def test_only_our_own_host_gets_the_cookie(world: World) -> None:
    """Without a Domain attribute, browsers send the cookie to no other host."""
    line = world.browser().post("/test/start").headers["Set-Cookie"]
    assert "Domain" not in line
    assert urlsplit(world.origin).hostname not in line


def test_a_new_session_starts_even_if_the_old_one_cannot_be_revoked(world: World) -> None:
    """The user can change accounts while the database is down."""
    browser = signed_in(world)
    world.revoked.is_down = True
    assert browser.post("/test/start").status_code == 200


# --- reading while the database is down


def test_with_the_database_down_a_known_session_may_still_read_for_a_minute(world: World, clock: FakeClock) -> None:
    """GET and HEAD work, counted from the last response of the database. Other methods get 500."""
    browser = signed_in(world)
    assert browser.me().status_code == 200
    world.revoked.is_down = True
    clock.advance(59)
    assert browser.me().status_code == 200
    assert browser.client.head("/api/me", base_url=world.origin).status_code == 200
    response = browser.post("/api/change")
    assert (response.status_code, response.json["code"]) == (500, "model_store_unavailable")
    clock.advance(1)
    assert browser.me().status_code == 500
    world.revoked.is_down = False
    assert browser.me().status_code == 200


def test_with_the_database_down_an_unknown_session_is_not_accepted(world: World) -> None:
    """It may have been signed out in another process."""
    browser = signed_in(world)
    world.revoked.is_down = True
    response = browser.me()
    assert (response.status_code, response.json["code"]) == (500, "model_store_unavailable")


def test_an_identity_without_a_user_id_is_not_signed_in(world: World) -> None:
    world.next_identity = Identity(user_id="", name="Nobody", email="")
    browser = world.browser()
    assert browser.post("/test/start").status_code == 500
    assert browser.me().status_code == 401
