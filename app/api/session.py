"""Sessions: a signed cookie that says who the caller is.

The cookie holds a random session id, the identity from MC's verified ID token, and the time when the session ends. The
browser can read it but not change it. The cookie deliberately does not hold MC's tokens, which would not fit into 4 KB
and are not needed after the sign-in, nor sign-ins in progress (`signin_states`).

A session ends at the time in its cookie, or earlier by `end_session`, which writes its id to the database.
`app/services/session_gate.py` checks that for each request.
"""

import functools
import hashlib
import json
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from cachetools import TTLCache
from flask import Flask, Request, Response, g, request
from flask import session as cookie
from flask.globals import request_ctx
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from itsdangerous import BadData, URLSafeTimedSerializer

from app.api.context import gateway
from app.config import Settings
from app.domain.identity import Identity, Session
from app.errors import ModelStoreUnavailableError, UnauthenticatedError

SESSION_COOKIE = "visiona_session"

#: 192 bits: nobody guesses one, and no two are ever the same.
_SID_BYTES = 24
# Display texts are cut to this many bytes of JSON, so that the cookie stays below half of the 4 KB that browsers accept
# even if every character of a name needs an escape. A subject is never cut: it is the identity.
_MAX_NAME_BYTES = 300
_MAX_EMAIL_BYTES = 254

#: How long a cookie's signature is not checked again.
VERIFIED_SECONDS = 60.0
#: How many Cookie headers are kept with what they say, and of which length: a few MB at the most.
_MAX_VERIFIED, _MAX_VERIFIED_CHARACTERS = 2_000, 4_096


def cookie_name(name: str, settings: Settings) -> str:
    """Return the full name of one of the gateway's cookies.

    With https it has the prefix `__Host-`: browsers refuse such a cookie from any other host, sibling subdomains
    included, so that no other site can set a session or a sign-in. Browsers accept the prefix for Secure cookies only,
    so plain http, which the settings allow on localhost only, has none.
    """
    return f"__Host-{name}" if settings.is_https else name


class _SignedCookie(SecureCookieSessionInterface):
    """Flask's signed cookie, with a salt of its own so that nothing else signed with the same key is accepted."""

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
    """Store the sessions of `app` in the signed cookie. Call it once, before the first request."""
    signing_key, *older_keys = settings.secret_keys
    app.config.update(
        SECRET_KEY=signing_key,
        SECRET_KEY_FALLBACKS=older_keys,
        SESSION_COOKIE_NAME=cookie_name(SESSION_COOKIE, settings),
        SESSION_COOKIE_SECURE=settings.is_https,
        SESSION_COOKIE_HTTPONLY=True,
        # Not Strict: the first page after MC has sent the browser back must already get the cookie.
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        SESSION_COOKIE_DOMAIN=None,
        PERMANENT_SESSION_LIFETIME=timedelta(seconds=settings.session_seconds),
        # If each response set the cookie, one that was sent late could undo a logout.
        SESSION_REFRESH_EACH_REQUEST=False,
    )
    app.session_interface = _SignedCookie()


def start_session(identity: Identity) -> Session:
    """Sign the browser in as `identity`: a new session with a new id replaces the one it had.

    The earlier session is revoked, so that a copy of its cookie is of no use. If the database is down, only this
    process knows that; the new session starts all the same.
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
    g.current_session = session
    if previous is not None:
        with suppress(ModelStoreUnavailableError):
            gateway().sessions.revoke(previous.sid, previous.expires_at)
    return session


def current_session() -> Session:
    """Return the caller's session, the same object for the whole request.

    Raises UnauthenticatedError if there is none, or it is unreadable, expired or signed out, and
    ModelStoreUnavailableError if the database is down and the gate's grace period does not cover the request.
    """
    if "current_session" in g:
        return cast(Session, g.current_session)
    session = _session_in_cookie()
    if session is None:
        raise UnauthenticatedError("there is no usable session cookie")
    if session.expires_at <= gateway().clock():
        raise UnauthenticatedError("the session has expired")
    gateway().sessions.check(session.sid, is_read_only=request.method in {"GET", "HEAD"})
    g.current_session = session
    return session


def end_session() -> bool:
    """Sign the browser out: clear the cookie and revoke the session. Return whether there was one, even an expired one.

    Raises ModelStoreUnavailableError if the database is down: a copy of the cookie may still be accepted, so the caller
    must not report success. The cookie is cleared all the same.
    """
    session = _session_in_cookie()
    cookie.clear()
    g.pop("current_session", None)
    if session is None:
        return False
    if session.expires_at > gateway().clock():
        gateway().sessions.revoke(session.sid, session.expires_at)
    return True


def _session_in_cookie() -> Session | None:
    return _parse(request_ctx.session)


def _parse(payload: Mapping[str, Any]) -> Session | None:
    # The gateway signed it, but it may have been an older version of the gateway.
    match dict(payload):
        case {"sid": str(sid), "sub": str(subject), "name": str(name), "email": str(email), "exp": int(expires)} if (
            sid and subject and not isinstance(expires, bool)
        ):
            return _session(sid, subject, name, email, expires)
    return None


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
