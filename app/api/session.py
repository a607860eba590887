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
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import cast

from flask import Flask, Response, after_this_request, current_app, g, request
from itsdangerous import BadData, URLSafeTimedSerializer

from app.api.context import gateway
from app.config import Settings
from app.domain.identity import Identity, Session
from app.errors import ModelStoreUnavailableError, UnauthenticatedError

SESSION_COOKIE = "visiona_session"
_EXTENSION = "visiona.session"

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


class SessionCookie:
    """The signed cookie that holds a session. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.name = cookie_name(SESSION_COOKIE, settings)
        self._is_secure = settings.is_https
        self._max_age_seconds = settings.session_seconds
        # itsdangerous signs with the last key and verifies with any. Because of the salt, nothing else that is
        # signed with the same keys is accepted.
        self._serializer = URLSafeTimedSerializer(
            settings.secret_keys[::-1],
            salt="visiona.session",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        # Checking a signature takes a tenth of a poll's time, and a process's keys never change. When a session ends is
        # part of what is signed, and is checked in every request.
        self._verified = lru_cache(_MAX_COOKIES)(self._verify)

    def sign(self, session: Session) -> str:
        """Return the value of the cookie for this session."""
        identity = session.identity
        return self._serializer.dumps(
            {
                "sid": session.sid,
                "sub": identity.user_id,
                "name": identity.name,
                "email": identity.email,
                "exp": int(session.expires_at.timestamp()),
            }
        )

    def read(self) -> Session | None:
        """Return the session in the request's cookie, even an expired one, or None without a usable cookie."""
        try:
            return self._verified(request.cookies.get(self.name, ""))
        except (BadData, TypeError, ValueError, OverflowError, OSError):
            return None

    def send(self, session: Session) -> None:
        """Set the cookie with the response to this request."""

        @after_this_request
        def _set(response: Response) -> Response:
            response.set_cookie(
                self.name,
                self.sign(session),
                max_age=self._max_age_seconds,
                path="/",
                secure=self._is_secure,
                httponly=True,
                # Not Strict: the first page after MC has sent the browser back must already get the cookie.
                samesite="Lax",
            )
            return response

    def delete(self) -> None:
        """Delete the cookie with the response to this request, even if that reports a failure."""

        @after_this_request
        def _expire(response: Response) -> Response:
            response.delete_cookie(self.name, path="/", secure=self._is_secure, httponly=True, samesite="Lax")
            return response

    def _verify(self, value: str) -> Session:
        """Return the session in a cookie. Raises BadData, or what unusable contents raise."""
        # The gateway signed it, but it may have been an older version of the gateway.
        match self._serializer.loads(value, max_age=self._max_age_seconds):
            case {
                "sid": str(sid),
                "sub": str(subject),
                "name": str(name),
                "email": str(email),
                "exp": int(expires),
            } if sid and subject and not isinstance(expires, bool):
                return Session(sid, Identity(subject, name, email), datetime.fromtimestamp(expires, UTC))
        raise ValueError("the cookie holds no session")


def register(app: Flask, settings: Settings) -> None:
    """Give `app` its session cookie."""
    app.extensions[_EXTENSION] = SessionCookie(settings)


def start_session(identity: Identity) -> Session:
    """Sign the browser in as `identity`: a new session with a new id replaces the one it had.

    The earlier session is revoked, so that a copy of its cookie is of no use. If the database is down, only this
    process knows that; the new session starts all the same.
    """
    here, cookie = gateway(), _cookie()
    if not identity.user_id:
        raise ValueError("an identity without a subject cannot have a session")
    previous = cookie.read()
    session = Session(
        sid=secrets.token_urlsafe(_SID_BYTES),
        identity=replace(
            identity, name=_fit(identity.name, _MAX_NAME_BYTES), email=_fit(identity.email, _MAX_EMAIL_BYTES)
        ),
        # Whole seconds, as in the cookie.
        expires_at=here.clock().replace(microsecond=0) + timedelta(seconds=here.settings.session_seconds),
    )
    cookie.send(session)
    g.current_session = session
    if previous is not None:
        with suppress(ModelStoreUnavailableError):
            here.sessions.revoke(previous.sid, previous.expires_at)
    return session


def current_session() -> Session:
    """Return the caller's session, the same object for the whole request.

    Raises UnauthenticatedError if there is none, or it is unreadable, expired or signed out, and
    ModelStoreUnavailableError if the database is down and the gate's grace period does not cover the request.
    """
    if "current_session" in g:
        return cast(Session, g.current_session)
    here, session = gateway(), _cookie().read()
    if session is None:
        raise UnauthenticatedError("there is no usable session cookie")
    if session.expires_at <= here.clock():
        raise UnauthenticatedError("the session has expired")
    here.sessions.check(session.sid, is_read_only=request.method in {"GET", "HEAD"})
    g.current_session = session
    return session


def end_session() -> bool:
    """Sign the browser out: clear the cookie and revoke the session. Return whether there was one, even an expired one.

    Raises ModelStoreUnavailableError if the database is down: a copy of the cookie may still be accepted, so the caller
    must not report success. The cookie is cleared all the same.
    """
    here, cookie = gateway(), _cookie()
    session = cookie.read()
    cookie.delete()
    g.pop("current_session", None)
    if session is None:
        return False
    if session.expires_at > here.clock():
        here.sessions.revoke(session.sid, session.expires_at)
    return True


def _cookie() -> SessionCookie:
    return cast(SessionCookie, current_app.extensions[_EXTENSION])


def _fit(text: str, max_bytes: int) -> str:
    size = 0
    for position, character in enumerate(text):
        size += len(json.dumps(character)) - 2  # without the quotation marks
        if size > max_bytes:
            return text[:position]
    return text
