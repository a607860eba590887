"""Who is asking: the session in the signed cookie, and the gate that knows which sessions were signed out.

The cookie holds a random session id, the identity that MC's verified ID token gave, and when the session ends.
Deliberately not in it: MC's tokens (they overflow 4 KB, and nothing here needs them after the sign-in) and sign-ins
that are still under way (`signin_states`). The browser can read what the cookie says but not change it.

A session ends by itself at the time that stands inside the signature, or before that by `end_session`, which writes
the id into the database. Every request asks for that, so the answer is remembered for a second in the process.
"""

import functools
import hashlib
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from cachetools import TTLCache
from flask import Flask, Request, Response, current_app, g, request
from flask import session as cookie
from flask.globals import request_ctx
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from itsdangerous import BadData, URLSafeTimedSerializer

from app.api.context import gateway
from app.config import Settings
from app.domain.identity import Identity, Session
from app.errors import ModelStoreUnavailableError, UnauthenticatedError
from app.services.ports import RevokedSessions

SESSION_COOKIE = "visiona_session"
_GATE = "visiona.session_gate"
_CACHED = "visiona_session"

#: 192 bits: nobody guesses one, and no two are ever the same.
_SID_BYTES = 24
# Display texts are cut to this many bytes of JSON, so that the cookie stays under half of the 4 KB that browsers take
# even when every character of a name needs an escape. A subject is never cut: it is the identity.
_MAX_NAME_BYTES = 300
_MAX_EMAIL_BYTES = 254

#: How long "not signed out" is believed without asking the database again.
FRESH_SECONDS = 1.0
#: How long a session that was seen alive may still read while the database does not answer.
GRACE_SECONDS = 60.0
#: How long a cookie's signature is not checked again.
VERIFIED_SECONDS = 60.0
_MAX_REMEMBERED = 10_000
#: How many Cookie headers are kept with what they say, and of which length: a few MB at the most.
_MAX_VERIFIED, _MAX_VERIFIED_CHARACTERS = 2_000, 4_096


def cookie_name(name: str, settings: Settings) -> str:
    """The name that a cookie of ours has for browsers.

    Under https the `__Host-` prefix makes browsers refuse it from any other host, sibling subdomains included, so that
    nobody can plant a session or a sign-in. Browsers grant the prefix to Secure cookies only, so plain http, which the
    settings allow on localhost alone, goes without.
    """
    return f"__Host-{name}" if settings.is_https else name


class _SignedCookie(SecureCookieSessionInterface):
    """Flask's signed cookie with a salt of our own, so that nothing else signed with the same key passes for one."""

    salt = "visiona.session"
    digest_method = staticmethod(hashlib.sha256)

    def __init__(self) -> None:
        self._serializer: URLSafeTimedSerializer | None = None
        # What a Cookie header says once the signature in it has been checked: a page that polls sends the same all the
        # time. When it expires is in what it says, and is looked at in every request, as is whether it was revoked.
        self._verified: TTLCache[str, dict[str, Any]] = TTLCache(_MAX_VERIFIED, VERIFIED_SECONDS)
        self._guard = threading.Lock()

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        # Flask makes one for every request, although the keys are those that the process was started with.
        if self._serializer is None:
            self._serializer = super().get_signing_serializer(app)
        return self._serializer

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        header = request.environ.get("HTTP_COOKIE", "")
        with self._guard:
            verified = self._verified.get(header)
        if verified is not None:
            return self.session_class(verified)
        # Flask takes a bad signature for an empty session, but crashes on a good one around something unusable.
        try:
            opened = super().open_session(app, request)
        except (BadData, TypeError, ValueError):
            return self.session_class()
        if opened and len(header) <= _MAX_VERIFIED_CHARACTERS:
            with self._guard:
                self._verified[header] = dict(opened)
        return opened

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if session.modified:
            super().save_session(app, session, response)
        elif session.accessed:
            vary_by_cookie(response)


def vary_by_cookie(response: Response) -> None:
    """Say that an answer depends on the cookie. Every request does, so without werkzeug's view of the whole header."""
    said = response.headers.get("Vary")
    if said is None:
        response.headers.add("Vary", "Cookie")
    elif "Cookie" not in said:
        response.vary.add("Cookie")


def configure_sessions(app: Flask, settings: Settings) -> None:
    """Make `app` keep its sessions in our cookie. Call it once, before the first request."""
    signing_key, *older_keys = settings.secret_keys
    app.config.update(
        SECRET_KEY=signing_key,
        SECRET_KEY_FALLBACKS=older_keys,
        SESSION_COOKIE_NAME=cookie_name(SESSION_COOKIE, settings),
        SESSION_COOKIE_SECURE=settings.is_https,
        SESSION_COOKIE_HTTPONLY=True,
        # Lax and not Strict: the first page after MC sent the browser back must already see the cookie.
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        SESSION_COOKIE_DOMAIN=None,
        PERMANENT_SESSION_LIFETIME=timedelta(seconds=settings.session_seconds),
        # A cookie in every answer would let an answer that was long under way undo a logout.
        SESSION_REFRESH_EACH_REQUEST=False,
    )
    app.session_interface = _SignedCookie()


def start_session(identity: Identity) -> Session:
    """Sign the browser in as `identity`: a new session under a new id; nothing of an earlier one stays.

    The session that the browser had until now is revoked, so that a copy of its cookie dies with it. If the database
    is down only this process knows; that is no reason to refuse the new session.
    """
    here = gateway()
    previous = _session_in_cookie()
    expires_at = int(here.clock().timestamp()) + here.settings.session_seconds
    cookie.clear()
    cookie.update(
        sid=secrets.token_urlsafe(_SID_BYTES),
        sub=identity.user_id,
        name=_fit(identity.name, _MAX_NAME_BYTES),
        email=_fit(identity.email, _MAX_EMAIL_BYTES),
        exp=expires_at,
    )
    cookie.permanent = True
    session = _parse(cookie)
    if session is None:
        raise ValueError("an identity without a subject cannot have a session")
    setattr(g, _CACHED, session)
    if previous is not None:
        with suppress(ModelStoreUnavailableError):
            _gate().revoke(previous.sid, previous.expires_at)
    return session


def current_session() -> Session:
    """Return the caller's session; asked for again in the same request, the same one.

    Raises UnauthenticatedError if there is none, or it is unreadable, expired or signed out, and
    ModelStoreUnavailableError if the database cannot say which and the gate's grace does not cover the request.
    """
    cached = g.get(_CACHED)
    if cached is not None:
        return cast(Session, cached)
    session = _session_in_cookie()
    if session is None:
        raise UnauthenticatedError("there is no usable session cookie")
    if session.expires_at <= gateway().clock():
        raise UnauthenticatedError("the session has expired")
    _gate().check(session.sid, is_read_only=request.method in {"GET", "HEAD"})
    setattr(g, _CACHED, session)
    return session


def end_session() -> bool:
    """Sign the browser out: clear the cookie and revoke the session. Was there one (even an expired one)?

    Raises ModelStoreUnavailableError if the database could not be told: then a copy of the cookie would still be
    accepted, so the caller must not claim success. The cookie is cleared all the same.
    """
    session = _session_in_cookie()
    cookie.clear()
    g.pop(_CACHED, None)
    if session is None:
        return False
    if session.expires_at > gateway().clock():
        _gate().revoke(session.sid, session.expires_at)
    return True


class SessionGate:
    """Remembers, for a moment, which sessions are not signed out. Any thread may call it.

    Signed out is for ever and remembered as such; "not signed out" is believed for FRESH_SECONDS, and while the
    database fails, for reading only, up to GRACE_SECONDS. Both memories are bounded; what falls out is asked again.
    """

    def __init__(
        self,
        revoked: RevokedSessions,
        monotonic: Callable[[], float],
        *,
        max_remembered: int = _MAX_REMEMBERED,
    ) -> None:
        self._revoked = revoked
        self._monotonic = monotonic
        self._max_remembered = max_remembered
        self._lock = threading.Lock()
        self._seen_alive: OrderedDict[str, float] = OrderedDict()
        self._seen_revoked: OrderedDict[str, float] = OrderedDict()

    def check(self, sid: str, *, is_read_only: bool) -> None:
        """Let a session through, or raise UnauthenticatedError (signed out) or ModelStoreUnavailableError."""
        now = self._monotonic()
        with self._lock:
            if sid in self._seen_revoked:
                raise UnauthenticatedError("the session was signed out")
            seen_at = self._seen_alive.get(sid)
        age = None if seen_at is None else now - seen_at
        if age is not None and age < FRESH_SECONDS:
            return
        try:
            is_revoked = self._revoked.is_revoked(sid)
        except ModelStoreUnavailableError:
            if is_read_only and age is not None and age < GRACE_SECONDS:
                return
            raise
        with self._lock:
            # Another thread may have signed the session out while this one was asking.
            if is_revoked or sid in self._seen_revoked:
                self._remember_revoked(sid, now)
                raise UnauthenticatedError("the session was signed out")
            # The time before the question counts: the answer is at least as old as that.
            self._remember(self._seen_alive, sid, now)

    def revoke(self, sid: str, expires_at: datetime) -> None:
        """Sign the session out, everywhere; in this process even if the database fails.

        Raises ModelStoreUnavailableError when the other processes could not be told.
        """
        with self._lock:
            self._remember_revoked(sid, self._monotonic())
        self._revoked.revoke(sid, expires_at)

    def _remember_revoked(self, sid: str, now: float) -> None:
        self._seen_alive.pop(sid, None)
        self._remember(self._seen_revoked, sid, now)

    def _remember(self, memory: OrderedDict[str, float], sid: str, now: float) -> None:
        memory[sid] = now
        memory.move_to_end(sid)
        if len(memory) > self._max_remembered:
            memory.popitem(last=False)


def _gate() -> SessionGate:
    # Made at the first use, when the gateway surely exists. `setdefault` is atomic: of two gates made at once, one is
    # kept by both threads.
    gate = current_app.extensions.get(_GATE)
    if gate is None:
        here = gateway()
        gate = current_app.extensions.setdefault(_GATE, SessionGate(here.revoked_sessions, here.monotonic))
    return cast(SessionGate, gate)


def _session_in_cookie() -> Session | None:
    return _parse(request_ctx.session)


def _parse(payload: Mapping[str, Any]) -> Session | None:
    """Read what the cookie says. Its signature is ours, but an older version of this program may have written it."""
    sid, subject, name = payload.get("sid"), payload.get("sub"), payload.get("name")
    email, expires = payload.get("email"), payload.get("exp")
    if not (isinstance(sid, str) and sid and isinstance(subject, str) and subject):
        return None
    if not (isinstance(name, str) and isinstance(email, str)):
        return None
    if not isinstance(expires, int) or isinstance(expires, bool):
        return None
    return _session(sid, subject, name, email, expires)


@functools.lru_cache(maxsize=1_024)
def _session(sid: str, subject: str, name: str, email: str, expires: int) -> Session | None:
    try:
        expires_at = datetime.fromtimestamp(expires, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return Session(sid=sid, identity=Identity(user_id=subject, name=name, email=email), expires_at=expires_at)


def _fit(text: str, max_bytes: int) -> str:
    size = 0
    for position, character in enumerate(text):
        size += len(json.dumps(character)) - 2  # without the quotation marks
        if size > max_bytes:
            return text[:position]
    return text
