"""The session in the cookie, and the gate that knows which sessions were signed out."""

import hashlib
import threading
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Response
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer

from app.api.session import SessionGate, current_session, start_session, vary_by_cookie
from app.domain.identity import Identity
from app.errors import ModelStoreUnavailableError, UnauthenticatedError
from tests.api.oidc_provider import Browser, FakeClock, FakeRevokedSessions, World, make_world

ALICE = Identity(user_id="user-alice", name="Alice", email="alice@example.com")
LATER = datetime(2032, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


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
    """A browser with a cookie whose signature is good, whatever it says."""
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


def test_a_session_is_known_until_it_expires(world: World, clock: FakeClock) -> None:
    """To the second, by the clock that was injected."""
    browser = signed_in(world)
    clock.advance(world.settings.session_seconds - 1)
    assert browser.me().status_code == 200
    clock.advance(1)
    response = browser.me()
    assert (response.status_code, response.json["code"]) == (401, "unauthenticated")


def test_a_session_is_not_prolonged_by_using_it(world: World) -> None:
    """And so the cookie is not sent again."""
    browser = signed_in(world)
    assert "Set-Cookie" not in browser.me().headers
    assert "Set-Cookie" not in browser.post("/api/change").headers


def test_the_cookie_lives_as_long_as_the_session(clock: FakeClock) -> None:
    """A browser that is closed and opened again is still signed in."""
    world = world_with(clock, session_seconds="3600")
    line = world.browser().post("/test/start").headers["Set-Cookie"]
    expires = datetime.strptime(line.split("Expires=")[1].split(";")[0], "%a, %d %b %Y %H:%M:%S %Z").replace(tzinfo=UTC)
    assert 3590 < (expires - datetime.now(UTC)).total_seconds() <= 3600


def test_every_session_has_an_id_of_its_own(world: World) -> None:
    """Long, random, and never the one from before."""
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
def test_the_cookie_stays_far_below_four_kilobytes(world: World, identity: Identity) -> None:
    """Whatever MC calls its people; the subject is kept whole."""
    browser = signed_in(world, identity)
    assert sum(len(name) + len(value) for name, value in browser.cookies().items()) < 2_048
    document = browser.me().json
    assert document["user_id"] == identity.user_id
    assert identity.name.startswith(document["name"])
    assert document["name"]


def test_an_ordinary_name_is_kept_whole(world: World) -> None:
    """Fifty Chinese characters, and the longest address that mail allows."""
    identity = Identity("u", "模" * 50, "a" * 242 + "@example.com")
    document = signed_in(world, identity).me().json
    assert (document["name"], document["email"]) == (identity.name, identity.email)


@pytest.mark.parametrize("value", ["", "garbage", "a.b.c", ".eJw", "\u00e9", "x" * 4000])
def test_a_garbled_cookie_is_no_session(world: World, value: str) -> None:
    """401 and no crash."""
    browser = world.browser()
    browser.keep_cookies({"__Host-visiona_session": value})
    assert browser.me().status_code == 401


GOOD = {"sid": "s", "sub": "u", "name": "n", "email": "e", "exp": 1_999_999_999}


def test_the_forgeries_of_these_tests_would_be_taken(world: World) -> None:
    """So that the next tests fail for the reason they give."""
    assert forge(world, GOOD).me().status_code == 200


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
    """An older version of the program may have written it: 401 and no crash."""
    assert forge(world, payload).me().status_code == 401


def test_a_cookie_signed_for_something_else_is_no_session(world: World) -> None:
    """Flask's usual salt, the one of the sign-in's cookies, and another key."""
    assert forge(world, GOOD, salt="cookie-session").me().status_code == 401
    assert forge(world, GOOD, salt="visiona.sign-in").me().status_code == 401
    assert forge(world, GOOD, key="x" * 40).me().status_code == 401


def test_keys_can_be_rotated(clock: FakeClock) -> None:
    """The old key still verifies and the new one signs; when the old one goes, so do its sessions."""
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


def test_identity_in_the_request_counts_for_nothing(world: World) -> None:
    """Who a caller is comes from the cookie alone."""
    browser = signed_in(world)
    response = browser.get("/api/me?user_id=eve", headers={"X-User-Id": "eve", "Authorization": "Bearer eve"})
    assert response.json["user_id"] == "user-alice"
    assert world.browser().get("/api/me", headers={"X-User-Id": "eve"}).status_code == 401


def test_the_session_is_asked_for_once_a_request(world: World) -> None:
    """The guard and the view share it."""
    signed_in(world).me()
    assert world.revoked.asked == 1


def test_the_host_of_the_cookie_is_exactly_ours(world: World) -> None:
    """No Domain attribute, so that no sibling host sees it."""
    line = world.browser().post("/test/start").headers["Set-Cookie"]
    assert "Domain" not in line
    assert urlsplit(world.origin).hostname not in line


def test_a_new_session_starts_even_if_the_old_one_cannot_be_revoked(world: World) -> None:
    """The database is down: the person changes accounts all the same."""
    browser = signed_in(world)
    world.revoked.is_down = True
    assert browser.post("/test/start").status_code == 200


# --- reading while the database is down


def test_with_the_database_down_a_known_session_may_still_read_for_a_minute(world: World, clock: FakeClock) -> None:
    """GET and HEAD, counted from the last time that the database said yes; everything else is 500."""
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


def test_with_the_database_down_an_unknown_session_is_not_taken(world: World) -> None:
    """It may have been signed out in another process."""
    browser = signed_in(world)
    world.revoked.is_down = True
    response = browser.me()
    assert (response.status_code, response.json["code"]) == (500, "model_store_unavailable")


# --- the gate


@pytest.fixture
def revoked() -> FakeRevokedSessions:
    return FakeRevokedSessions()


@pytest.fixture
def gate(revoked: FakeRevokedSessions, clock: FakeClock) -> SessionGate:
    return SessionGate(revoked, clock.monotonic, max_remembered=100)


def test_not_signed_out_is_believed_for_a_second(
    gate: SessionGate, revoked: FakeRevokedSessions, clock: FakeClock
) -> None:
    """A page that asks ten things at once costs one question, and a logout elsewhere shows within a second."""
    gate.check("sid", is_read_only=False)
    revoked.revoke("sid", LATER)
    clock.advance(0.99)
    gate.check("sid", is_read_only=False)
    assert revoked.asked == 1
    clock.advance(0.01)
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)


def test_signed_out_is_remembered_without_the_database(gate: SessionGate, revoked: FakeRevokedSessions) -> None:
    """It never changes back."""
    revoked.revoke("sid", LATER)
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)
    revoked.is_down = True
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)
    assert revoked.asked == 1


def test_signing_out_works_at_once_in_its_own_process(gate: SessionGate, revoked: FakeRevokedSessions) -> None:
    """Not only after the second of belief is over, and also if the database could not be told."""
    gate.check("sid", is_read_only=False)
    revoked.is_down = True
    with pytest.raises(ModelStoreUnavailableError):
        gate.revoke("sid", LATER)
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)


def test_a_question_under_way_does_not_undo_a_sign_out(clock: FakeClock) -> None:
    """One thread asks, another signs out before the answer "not signed out" has arrived."""
    asking, answered = threading.Event(), threading.Event()

    class Slow(FakeRevokedSessions):
        def is_revoked(self, sid: str) -> bool:
            asking.set()
            assert answered.wait(10)
            return False

    gate = SessionGate(Slow(), clock.monotonic)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            gate.check("sid", is_read_only=True)
        except UnauthenticatedError as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert asking.wait(10)
    gate.revoke("sid", LATER)
    answered.set()
    thread.join(10)
    assert len(failures) == 1
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)


def test_the_gate_does_not_grow_without_end(gate: SessionGate, revoked: FakeRevokedSessions) -> None:
    """What falls out is asked again."""
    for number in range(300):
        gate.check(f"alive-{number}", is_read_only=True)
        gate.revoke(f"ended-{number}", LATER)
    assert len(gate._seen_alive) == 100
    assert len(gate._seen_revoked) == 100
    with pytest.raises(UnauthenticatedError):
        gate.check("ended-0", is_read_only=True)
    asked = revoked.asked
    gate.check("alive-299", is_read_only=True)
    assert revoked.asked == asked


def test_many_threads_may_use_the_gate(clock: FakeClock) -> None:
    """Checks, logouts and evictions at once: nothing breaks, and nobody who was signed out comes back."""
    gate = SessionGate(FakeRevokedSessions(), clock.monotonic, max_remembered=8)
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(300):
                sid = f"{thread}-{number}"
                gate.check(sid, is_read_only=True)
                gate.revoke(sid, LATER)
                with pytest.raises(UnauthenticatedError):
                    gate.check(sid, is_read_only=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


def test_an_answer_that_depends_on_more_than_the_cookie_says_both() -> None:
    response = Response()
    response.headers["Vary"] = "Accept-Language"
    vary_by_cookie(response)
    vary_by_cookie(response)
    assert sorted(response.vary) == ["Accept-Language", "Cookie"]


def test_nobody_is_signed_in_without_a_name_that_owns_things(world: World) -> None:
    """A bug of ours, if it happened; and nobody is signed in by it."""
    world.next_identity = Identity(user_id="", name="Nobody", email="")
    browser = world.browser()
    assert browser.post("/test/start").status_code == 500
    assert browser.me().status_code == 401
