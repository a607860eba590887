"""A little OpenID provider over real HTTP, with a switch for every way to misbehave, and a gateway that signs in at it.

The provider checks what a real one would: client secret, redirect URI, PKCE, and that a code is used once. Tests
change `claims`, `token_answer`, `document` or `handlers` to make it lie. Deliberately no copy of the sandbox: that one
keeps the contract, this one breaks it.
"""

import base64
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import requests
from flask import Flask, g, request
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from werkzeug.serving import make_server
from werkzeug.test import TestResponse
from werkzeug.wrappers import Request, Response

from app.api import problem, session, signin
from app.api.context import EXTENSION, Trace
from app.api.session import current_session
from app.bootstrap import build_identity_provider, build_member_center
from app.clients.retry import MATRIX, Call, Retrier, RetryPolicy
from app.clients.transport import Timeouts
from app.config import Settings, load_settings
from app.console import blueprint as console_blueprint
from app.console import problem_page
from app.domain.identity import Identity
from app.errors import ModelStoreUnavailableError
from app.services.session_gate import SessionGate

HTTPS_ORIGIN = "https://gateway.example"
HTTP_ORIGIN = "http://localhost:8400"
CLIENT_SECRET = "client-secret-of-the-gateway"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

#: Where MC describes itself.
DISCOVERY = "/.well-known/openid-configuration"

Handler = Callable[[Request], Response]


class FakeClock:
    """A time of day and a monotonic clock that move together, by hand."""

    def __init__(self) -> None:
        self._start = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)
        self.elapsed = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return 1_000.0 + self.elapsed

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds


class FakeRevokedSessions:
    """RevokedSessions in memory.

    `is_down` makes the database fail. `asked` counts the queries for one session, `feeds` those for the newest ones.
    """

    _FIRST_MOMENT = datetime(2026, 3, 1, tzinfo=UTC)

    def __init__(self) -> None:
        self.revoked: dict[str, datetime] = {}
        self.is_down = False
        self.asked = 0
        self.feeds = 0

    def revoke(self, sid: str, expires_at: datetime) -> None:
        self._require_up()
        self.revoked[sid] = expires_at

    def is_revoked(self, sid: str) -> bool:
        self.asked += 1
        self._require_up()
        return sid in self.revoked

    def revoked_since(self, moment: datetime | None) -> tuple[datetime, Sequence[str]]:
        self.feeds += 1
        self._require_up()
        # One session is revoked each second of this database's clock.
        now = self._FIRST_MOMENT + timedelta(seconds=len(self.revoked))
        return now, list(self.revoked)[(moment - self._FIRST_MOMENT).seconds :] if moment else []

    def _require_up(self) -> None:
        if self.is_down:
            raise ModelStoreUnavailableError("the fake database is down")


@cache
def rsa_key(name: str) -> RSAKey:
    """A key pair that every test may share; making one is slow."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


@dataclass
class ReceivedRequest:
    """One request that the provider received."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class _Grant:
    nonce: str
    challenge: str
    redirect_uri: str


class OIDCProvider:
    """See the module. Start it with `running_provider`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.client_id = "gateway"
        self.client_secret = CLIENT_SECRET
        #: RFC 6749, section 2.3.1: id and secret come form-urlencoded. Otherwise they have to come raw.
        self.is_decoding_credentials = True
        self.user = {"sub": "user-alice", "name": "Alice", "email": "alice@example.com"}
        #: Overrides of single claims of the ID token; None removes one.
        self.claims: dict[str, Any] = {}
        #: Claims that are null.
        self.null_claims: tuple[str, ...] = ()
        #: The same for the ID token's header.
        self.header: dict[str, Any] = {}
        #: Overrides of members of the token response and of the discovery document; None removes one.
        self.token_response: dict[str, Any] = {}
        self.document: dict[str, Any] = {}
        self.userinfo: dict[str, Any] | None = None
        #: Handlers instead of the usual ones, by path.
        self.handlers: dict[str, Handler] = {}
        self.signing_key: RSAKey | ECKey = rsa_key("first")
        self.published_keys: list[dict[str, Any]] | None = None
        self.calls: list[ReceivedRequest] = []
        self.secrets: list[str] = [CLIENT_SECRET]
        #: Responses that hang wait for this, so that no test leaves a thread behind.
        self.is_over = threading.Event()
        self._grants: dict[str, _Grant] = {}
        self._server = make_server("127.0.0.1", 0, self._application, threaded=True)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Stop listening: from now on connections are refused."""
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, path: str) -> int:
        return sum(call.path == path for call in self.calls)

    def hang(self, request: Request) -> Response:
        """A response that does not come."""
        self.is_over.wait(30)
        return Response("too late")

    def trickle(self, request: Request) -> Response:
        """A response that comes, but never to its end."""

        def body() -> Iterator[bytes]:
            while not self.is_over.wait(0.02):
                yield b" "

        return Response(body(), mimetype="application/json")

    def _application(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        self.calls.append(
            ReceivedRequest(request.method, request.path, dict(request.headers), dict(request.form.items(multi=False)))
        )
        usual: dict[str, Handler] = {
            "/.well-known/openid-configuration": self._discovery,
            "/login": self._login,
            "/token": self._token,
            "/keys": self._keys,
            "/userinfo": self._userinfo,
        }
        handler = self.handlers.get(request.path) or usual.get(request.path)
        response = handler(request) if handler else Response("no such page", status=404)
        return response(environ, start_response)

    def _discovery(self, request: Request) -> Response:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/login",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return as_json(_overridden(document, self.document))

    def _login(self, request: Request) -> Response:
        asked = request.args
        code = f"code/+ {secrets.token_urlsafe(16)}"
        self._grants[code] = _Grant(asked.get("nonce", ""), asked.get("code_challenge", ""), asked["redirect_uri"])
        self.secrets += [code, asked["state"], asked.get("nonce", "")]
        location = asked["redirect_uri"] + "?" + urlencode({"code": code, "state": asked["state"]})
        return Response(status=302, headers={"Location": location})

    def _token(self, request: Request) -> Response:
        if not self._is_client(request.headers.get("Authorization", "")):
            return as_json({"error": "invalid_client"}, 401)
        grant = self._grants.pop(request.form.get("code", ""), None)
        verifier = request.form.get("code_verifier", "")
        self.secrets.append(verifier)
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if grant is None or grant.challenge != digest or grant.redirect_uri != request.form.get("redirect_uri"):
            return as_json({"error": "invalid_grant", "error_description": "no"}, 400)
        response = {
            "access_token": secrets.token_urlsafe(16),
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": self._id_token(grant.nonce),
        }
        self.secrets += [response["access_token"], response["id_token"]]
        return as_json(_overridden(response, self.token_response))

    def _is_client(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        pair = base64.b64decode(encoded).decode()
        if not self.is_decoding_credentials:
            return (scheme, pair) == ("Basic", f"{self.client_id}:{self.client_secret}")
        client_id, _, client_secret = pair.partition(":")
        given = (scheme, unquote_plus(client_id), unquote_plus(client_secret))
        return given == ("Basic", self.client_id, self.client_secret)

    def _id_token(self, nonce: str) -> str:
        now = int(self.clock.now().timestamp())
        usual = {"iss": self.issuer, "aud": self.client_id, "iat": now, "exp": now + 300, "nonce": nonce, **self.user}
        header = _overridden({"alg": "RS256", "kid": self.signing_key.kid}, self.header)
        claims = _overridden(usual, self.claims) | dict.fromkeys(self.null_claims)
        return jwt.encode(header, claims, self.signing_key, algorithms=[header["alg"]])

    def _keys(self, request: Request) -> Response:
        usual = KeySet([self.signing_key]).as_dict(private=False)["keys"]
        return as_json({"keys": usual if self.published_keys is None else self.published_keys})

    def _userinfo(self, request: Request) -> Response:
        return as_json(self.userinfo) if self.userinfo is not None else Response(status=403)


def as_json(document: object, status: int = 200) -> Response:
    response = Response(status=status, mimetype="application/json")
    response.set_data(json.dumps(document))
    return response


def responding(status: int, body: str = "", **headers: str) -> Handler:
    """A response that is always the same."""
    return lambda request: Response(body, status=status, headers=headers)


def _overridden(usual: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**usual, **changes}.items() if value is not None}


@contextmanager
def running_provider(clock: FakeClock) -> Iterator[OIDCProvider]:
    provider = OIDCProvider(clock)
    provider.start()
    try:
        yield provider
    finally:
        if not provider.is_over.is_set():
            provider.stop()


@dataclass
class World:
    """A gateway that has the sign-in and nothing else, and the fakes under it."""

    app: Flask
    settings: Settings
    clock: FakeClock
    revoked: FakeRevokedSessions
    provider: OIDCProvider | None = None
    origin: str = field(init=False)
    #: Whom a test's own route signs in.
    next_identity: Identity | None = None

    def __post_init__(self) -> None:
        self.origin = self.settings.public_base_url

    def browser(self) -> "Browser":
        return Browser(self)


class Browser:
    """A browser with its own cookies. It goes to MC by itself, but follows no redirect of ours unless told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client: FlaskClient = world.app.test_client()

    def get(self, path: str, **kwargs: Any) -> TestResponse:
        return self.client.get(path, base_url=kwargs.pop("base_url", self.world.origin), **kwargs)

    def post(self, path: str, **kwargs: Any) -> TestResponse:
        return self.client.post(path, base_url=self.world.origin, **kwargs)

    def begin(self, next_path: str | None = None, **kwargs: Any) -> str:
        """Ask for a sign-in and return the URL at MC that the response leads to."""
        query = {} if next_path is None else {"next": next_path}
        response = self.get("/auth/login", query_string=query, **kwargs)
        assert response.status_code == 302, response.get_data(as_text=True)
        return response.headers["Location"]

    def at_provider(self, url: str) -> str:
        """Sign in at MC and return where MC sends the browser: path and query of the callback."""
        with requests.Session() as session:
            session.trust_env = False
            response = session.get(url, allow_redirects=False, timeout=5)
        assert response.status_code == 302, response.text
        back = urlsplit(response.headers["Location"])
        assert f"{back.scheme}://{back.netloc}" == self.world.origin
        return f"{back.path}?{back.query}"

    def sign_in(self, next_path: str | None = None, **kwargs: Any) -> TestResponse:
        return self.get(self.at_provider(self.begin(next_path)), **kwargs)

    def signed_in(self) -> "Browser":
        response = self.sign_in()
        assert response.status_code == 302, response.get_data(as_text=True)
        return self

    def me(self) -> TestResponse:
        return self.get("/api/me")

    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self.client._cookies.values()}

    def pending(self) -> list[str]:
        return [name for name in self.cookies() if "visiona_signin_" in name]

    def keep_cookies(self, cookies: dict[str, str]) -> None:
        host = urlsplit(self.world.origin).hostname or ""
        for name, value in cookies.items():
            self.client.set_cookie(name, value, domain=host)


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def make_world(
    issuer: str,
    clock: FakeClock,
    *,
    origin: str = HTTPS_ORIGIN,
    seconds: float | None = None,
    provider: OIDCProvider | None = None,
    **settings: str,
) -> World:
    """A Flask app with the sign-in in it. `settings` are variables without their prefix.

    Calls to the provider may take `seconds`, or what they may in the product.
    """
    loaded = load_settings(
        {
            "VISIONA_OIDC_ISSUER": issuer,
            "VISIONA_OIDC_CLIENT_ID": "gateway",
            "VISIONA_OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "VISIONA_PUBLIC_BASE_URL": origin,
            "VISIONA_SECRET_KEY": "k" * 40,
            **{f"VISIONA_{name.upper()}": value for name, value in settings.items()},
        }
    )
    revoked = FakeRevokedSessions()
    row = MATRIX[Call.SIGN_IN] if seconds is None else RetryPolicy((), (), Timeouts(seconds, seconds, seconds))
    retrier = Retrier({**MATRIX, Call.SIGN_IN: row})
    app = Flask("gateway-under-test")
    app.extensions[EXTENSION] = SimpleNamespace(
        settings=loaded,
        sessions=SessionGate(revoked, clock.monotonic),
        clock=clock.now,
        monotonic=clock.monotonic,
        upstream_health=retrier.health,
        identity_provider=build_identity_provider(
            loaded, build_member_center(loaded, retrier, clock.now, clock.monotonic), clock.now, clock.monotonic
        ),
    )

    @app.before_request
    def guard() -> None:
        g.trace = Trace("GET", request.path, 0.0, "request-1")
        if request.path.startswith("/api/"):
            current_session()

    @app.post("/api/change")
    def change() -> str:
        return "changed"

    problem.register(app)
    session.register(app, loaded)
    signin.register(app, loaded)
    problem_page.register(app)
    app.register_blueprint(console_blueprint)
    return World(app, loaded, clock, revoked, provider)


def refused(browser: Browser, status: int, code: str) -> TestResponse:
    """The sign-in fails like this, and leaves the browser as it was: neither in nor with more cookies."""
    login = browser.get("/auth/login", query_string={"next": "/models"})
    response = login if login.status_code != 302 else browser.get(browser.at_provider(login.headers["Location"]))
    assert (response.status_code, response.json["code"]) == (status, code)
    assert response.mimetype == "application/problem+json"
    assert browser.cookies() == {}
    assert browser.me().status_code == 401
    return response


def ways_on(response: TestResponse) -> list[str]:
    """Return the links of a page's main part."""
    [main] = re.findall("<main.*</main>", response.get_data(as_text=True), re.DOTALL)
    return re.findall(r'<a [^>]*href="([^"]*)"', main)
