"""Sessions: a signed cookie that says who the caller is.

The cookie holds a random session id, the identity from MC's verified ID token, and the time when the session ends. The
browser can read it but not change it. The cookie deliberately does not hold MC's tokens, which would not fit into 4 KB
and are not needed after the sign-in, nor sign-ins in progress (`signin_states`).

A session ends at the time in its cookie, or earlier by `end_session`, which writes its id to the database.
`app/services/session_gate.py` checks that for each request.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from flask import Flask, Request, g, request
from flask import session as cookie
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import BadData, URLSafeTimedSerializer

from app.api.context import gateway
from app.config import Settings
from app.domain.identity import Identity, Session
from app.errors import ModelStoreUnavailableError, UnauthenticatedError

SESSION_COOKIE = "visiona_session"

#: 192 bits, so that an id cannot be guessed and none is used twice.
_SID_BYTES = 24
# Display texts are cut to this many bytes of JSON, so that the cookie stays below half of the 4 KB that browsers accept
# even if every character of a name needs an escape. A subject is never cut: it is the identity.
_MAX_NAME_BYTES = 300
_MAX_EMAIL_BYTES = 254

#: How many cookies whose signature was checked are remembered: a few MB at most.
_MAX_COOKIES = 1_000


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

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        # Flask makes one for every request and checks each signature again, although a process's keys never change: a
        # tenth of a poll's time. When a session ends is part of what is signed, and is checked in every request.
        if self._serializer is None and (serializer := super().get_signing_serializer(app)) is not None:
            serializer.loads = lru_cache(_MAX_COOKIES)(serializer.loads)  # type: ignore[method-assign]
            self._serializer = serializer
        return self._serializer

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        # Flask takes a bad signature for an empty session, but crashes on a good one around something unusable.
        try:
            return super().open_session(app, request)
        except (BadData, TypeError, ValueError):
            return self.session_class()


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
    return _parse(cookie)


def _parse(payload: Mapping[str, Any]) -> Session | None:
    # The gateway signed it, but it may have been an older version of the gateway.
    match dict(payload):
        case {"sid": str(sid), "sub": str(subject), "name": str(name), "email": str(email), "exp": int(expires)} if (
            sid and subject and not isinstance(expires, bool)
        ):
            return _session(sid, subject, name, email, expires)
    return None


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
