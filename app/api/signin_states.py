"""Sign-ins under way: what the browser must bring back from MC, and where it goes afterwards.

Each sign-in has a signed cookie of its own. The cookie binds the sign-in to the browser that began it: a callback that
an attacker prepared finds no cookie. Two tabs that begin at the same moment do not overwrite each other's cookie. A
browser has at most three of them, so anonymous visits cannot make its cookies grow.

A sign-in must end within ten minutes. Its cookie stays for half an hour, so that a late sign-in can begin again with
the same `next`. The session cookie does not change: a sign-in that fails leaves the person signed in.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hmac import compare_digest
from urllib.parse import quote, unquote, urljoin, urlsplit

from flask import Response, after_this_request, request
from itsdangerous import BadData, URLSafeSerializer

from app.api.session import cookie_name
from app.config import Settings

#: How many sign-ins one browser may have under way.
MAX_PENDING = 3
#: How long a person may take at MC's login page.
MAX_AGE = timedelta(minutes=10)
#: How long the gateway knows where a sign-in leads.
_COOKIE_AGE = timedelta(minutes=30)
_MICROSECONDS = 1_000_000

MAX_RETURN_PATH_CHARACTERS = 512
HOME = "/"

_COOKIE = "visiona_signin_"
_SALT = "visiona.sign-in"

_CONTROL_OR_BACKSLASH = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
#: A view of the console, which the browser shows at `/`: `/models`, `/jobs/j-1`, `/history?q=yolo&platform=720`.
_VIEW = re.compile(r"/[A-Za-z0-9/_.~%-]*(?:\?[A-Za-z0-9_.~%&=+*-]*)?")
_PRINTABLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))
# A path that needs more rounds of decoding than this was made to deceive.
_MAX_DECODINGS = 4


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """One sign-in under way. Its secrets stay out of its repr, and so out of logs and tracebacks.

    `started_at` is in microseconds.
    """

    return_path: str
    started_at: int
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)


def begin_sign_in(return_path: str, now: datetime) -> PendingSignIn:
    """Return a sign-in with new secrets: state and nonce of 192 bits, a verifier of 64 characters (RFC 7636)."""
    return PendingSignIn(
        return_path=return_path,
        started_at=int(now.timestamp() * _MICROSECONDS),
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        code_verifier=secrets.token_urlsafe(48),
    )


class SignInStates:
    """The sign-in cookies of the request's browser. Every response to the request carries the changes."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = cookie_name(_COOKIE, settings)
        self._is_secure = settings.is_https
        # itsdangerous signs with the last key and verifies with any.
        self._serializer = URLSafeSerializer(
            settings.secret_keys[::-1], salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256}
        )

    def remember(self, pending: PendingSignIn) -> None:
        """Add a cookie for this sign-in, and delete all but the newest others."""
        names = self._names()
        older = {name: found for name in names if (found := self._read(name)) is not None}
        newest_first = sorted(older, key=lambda name: older[name].started_at, reverse=True)
        for name in set(names) - set(newest_first[: MAX_PENDING - 1]):
            self._delete(name)
        # Tabs may begin in the same instant, and another worker's clock may be behind. A time after all others makes
        # this sign-in the newest.
        started_at = max([pending.started_at, *(found.started_at + 1 for found in older.values())])
        value = self._serializer.dumps(
            [pending.state, pending.nonce, pending.code_verifier, pending.return_path, started_at]
        )

        @after_this_request
        def _set(response: Response) -> Response:
            response.set_cookie(
                self._name(pending.state),
                value,
                max_age=_COOKIE_AGE,
                path="/",
                secure=self._is_secure,
                httponly=True,
                # Lax: MC sends the browser back by a navigation from another site.
                samesite="Lax",
            )
            return response

    def take(self, state: str, now: datetime) -> tuple[str, PendingSignIn | None]:
        """Return where this browser's sign-in with that state leads, and the sign-in. A state is good for one callback.

        `/` and None if this browser has no such sign-in; the sign-in is None if it began too long ago.
        """
        name = self._name(state)
        if name not in request.cookies:
            return HOME, None
        self._delete(name)
        pending = self._read(name)
        if pending is None or not compare_digest(pending.state.encode(), state.encode()):
            return HOME, None
        return pending.return_path, pending if _is_current(pending, now) else None

    def forget_all(self) -> None:
        """Delete the cookies of all sign-ins under way."""
        for name in self._names():
            self._delete(name)

    def _name(self, state: str) -> str:
        # A digest, because a state from outside may hold characters that a cookie's name must not have.
        return self._prefix + hashlib.sha256(state.encode()).hexdigest()[:16]

    def _names(self) -> list[str]:
        return [name for name in request.cookies if name.startswith(self._prefix)]

    def _read(self, name: str) -> PendingSignIn | None:
        try:
            state, nonce, code_verifier, return_path, started_at = self._serializer.loads(request.cookies[name])
        except (BadData, TypeError, ValueError):
            return None
        texts = (state, nonce, code_verifier, return_path)
        if not all(isinstance(text, str) for text in texts) or not isinstance(started_at, int):
            return None
        return PendingSignIn(return_path, started_at, state, nonce, code_verifier)

    def _delete(self, name: str) -> None:
        @after_this_request
        def _expire(response: Response) -> Response:
            response.delete_cookie(name, path="/", secure=self._is_secure, httponly=True, samesite="Lax")
            return response


def _is_current(pending: PendingSignIn, now: datetime) -> bool:
    return now.timestamp() - pending.started_at / _MICROSECONDS <= MAX_AGE.total_seconds()


def safe_return_path(unverified_next: str | None) -> str:
    """Return the path on our own origin that `next` asks for, or `/` if it could lead anywhere else.

    Browsers, proxies and the gateway read a URL differently, so everything that one of them might read in another way
    is refused: a second slash or a backslash at the beginning (another host), control characters (browsers drop
    them and read on), dot segments, and any of these behind percent-encoding. Paths under `/auth` are refused too:
    they would sign the person in or fail again, endlessly. Only the console has fragments, one for each view.
    """
    if not unverified_next or len(unverified_next) > MAX_RETURN_PATH_CHARACTERS:
        return HOME
    if _CONTROL_OR_BACKSLASH.search(unverified_next):
        return HOME
    # Blanks and letters beyond ASCII (a search for 模型) become what a Location header may carry.
    path = quote(unverified_next, safe=_PRINTABLE_ASCII)
    if len(path) > MAX_RETURN_PATH_CHARACTERS:
        return HOME
    page, has_fragment, view = path.partition("#")
    if has_fragment and not (page == HOME and _VIEW.fullmatch(view)):
        return HOME
    decoded = page.partition("?")[0]
    for _ in range(_MAX_DECODINGS):
        if not _is_plain_path(decoded):
            return HOME
        if (again := unquote(decoded)) == decoded:
            break
        decoded = again
    else:
        return HOME
    # The standard library, which reads URLs by RFC 3986, must agree.
    resolved = urlsplit(urljoin("https://gateway.invalid/", path))
    return path if (resolved.scheme, resolved.netloc) == ("https", "gateway.invalid") else HOME


def _is_plain_path(path: str) -> bool:
    if not path.startswith("/") or path.startswith("//") or _CONTROL_OR_BACKSLASH.search(path):
        return False
    segments = path.split("/")
    return segments[1].lower() != "auth" and not {".", ".."} & set(segments)
