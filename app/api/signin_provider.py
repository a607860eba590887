"""MC as the OpenID provider of the sign-in: where it is, what it says, and whether to believe it.

Authlib's client, as flask-oidc registers it, builds the authorization URL (PKCE S256) and redeems the code. Around it
stands what it leaves open: every call is bounded in time and size and follows no redirect; discovery and keys are
kept for an hour, shared by all threads, fetched once however many ask, and never remembered as a failure; and the
checks of the ID token are written out here, although most are Authlib's defaults, because they are the trust boundary.

What can go wrong is one of two things. No usable answer (network, time, 5xx, 429, a redirect, not the JSON that the
call is for) is IDPUnavailableError: later it may work. A whole answer that does not sign this person in (4xx, an ID
token that fails a check) is SignInFailedError. Their reasons name types and error codes only, and their causes are
cut off: the exceptions of the libraries below carry codes, verifiers and tokens.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hmac import compare_digest
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.jwk import JWKRegistry, KeySet
from joserfc.jws import JWSRegistry
from urllib3.exceptions import HTTPError as TransportError

from app import metrics
from app.api.signin_states import PendingSignIn
from app.clients.health import ANSWERED
from app.clients.retry import begin_to_count
from app.clients.transport import ServerFailure, WatchedAdapter, kind_of
from app.clients.watchdog import Watchdog
from app.config import Settings
from app.domain.identity import Identity, identity_from_claims
from app.errors import GatewayError, IDPUnavailableError, SignInFailedError

KEPT_SECONDS = 3_600.0
#: How long one waits for another's call to MC, which is bounded itself; a margin over that.
MOST_WAIT_SECONDS = 15.0
#: How far MC's clock may be off.
LEEWAY_SECONDS = 60
MAX_CODE_CHARACTERS = 4_096

# Asymmetric only: with "none" nobody signs, and with HMAC everybody who knows the client secret does.
_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
_ASYMMETRIC_KEY_TYPES = ("RSA", "EC", "OKP")  # no set: what MC sends may not be hashable
_BEARER_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
_ERROR_CODE = re.compile(r"[a-z_]{1,64}")
# RFC 6749, section 4.1.2.1: these two stand for a 500 and a 503, which a redirect cannot say.
_UNAVAILABLE_CODES = frozenset({"server_error", "temporarily_unavailable"})

T = TypeVar("T")


def silence_libraries() -> None:
    """Keep Authlib from logging code verifiers and tokens, which it does at DEBUG, whatever the root logger's level."""
    for name in ("authlib", "flask_oidc"):
        logging.getLogger(name).setLevel(logging.WARNING)


#: How metrics name what signing people in asks of MC; the gateway's own calls are in the retry matrix.
_UPSTREAM, _CALL = "mc", "mc.sign_in"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one call to MC may cost."""

    connect_seconds: float = 5.0
    total_seconds: float = 10.0
    max_answer_bytes: int = 1 << 20


class ProviderSession(OAuth2Session):  # type: ignore[misc]
    """Authlib's HTTP session with bounds: what it returns is read to the end and has a status of 2xx or 4xx.

    Raises IDPUnavailableError for everything else. Authlib makes one a call, so no thread shares one.
    """

    def __init__(
        self,
        *args: Any,
        bounds: Bounds,
        watchdog: Watchdog,
        correlation: Callable[[], Mapping[str, str]],
        note_outcome: Callable[[str], None],
        ca_file: Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        # Time-outs bound the wait for each arrival only; a header that drips in would be waited for without end.
        self._watchdog = watchdog
        for scheme in ("http://", "https://"):
            self.mount(scheme, WatchedAdapter(watchdog, pool_size=1))
        # No proxies from the environment, and no .netrc, which would replace our own Authorization header.
        self.trust_env = False
        self.verify = str(ca_file) if ca_file else True
        self._bounds = bounds
        self._correlation = correlation
        self._note_outcome = note_outcome

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send once, follow nothing, and read the whole answer within the bounds."""
        metrics.UPSTREAM_TRIES(_UPSTREAM, _CALL).inc()
        started = time.monotonic()
        try:
            response = self._send(request, **kwargs)
        finally:
            metrics.UPSTREAM_SECONDS(_UPSTREAM, _CALL).observe(time.monotonic() - started)
        self._note_outcome(ANSWERED)
        return response

    def _failed(self, kind: str, reason: str) -> IDPUnavailableError:
        metrics.UPSTREAM_FAILURES(_UPSTREAM, _CALL, kind).inc()
        metrics.UPSTREAM_GIVEN_UP(_UPSTREAM, _CALL, kind).inc()  # nothing of a sign-in is tried again
        self._note_outcome(kind)
        return IDPUnavailableError(reason)

    def _send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        bounds = self._bounds
        ends_at = time.monotonic() + bounds.total_seconds
        request.headers.update(self._correlation())
        # A redirect would carry the code, the verifier and our client secret to wherever it points.
        kwargs |= {
            "allow_redirects": False,
            "stream": True,
            "timeout": (min(bounds.connect_seconds, bounds.total_seconds), bounds.total_seconds),
        }
        try:
            with self._watchdog.limit(bounds.total_seconds) as guard:
                response: requests.Response = super().send(request, **kwargs)
                with response:
                    # The body is left where requests itself would have left it.
                    response._content = self._read(response, ends_at)
                if guard.has_fired:
                    # A body whose length nobody has announced looks whole when the watchdog ends its connection.
                    raise requests.exceptions.ReadTimeout("too slow")
        except (requests.RequestException, TransportError, OSError) as error:
            raise self._failed(kind_of(error), f"{_name(request)}: {type(error).__name__}") from None
        if response.status_code == 429 or not (200 <= response.status_code < 300 or 400 <= response.status_code < 500):
            raise self._failed(ServerFailure.kind, f"{_name(request)}: status {response.status_code}")
        return response

    def _read(self, response: requests.Response, ends_at: float) -> bytes:
        body = bytearray()
        # `read1` returns what has arrived. `read` would wait for a full buffer, and a trickle would hold it for ever.
        while chunk := response.raw.read1(65_536, decode_content=True):
            body += chunk
            if len(body) > self._bounds.max_answer_bytes:
                raise requests.exceptions.ContentDecodingError("too large")
            if time.monotonic() > ends_at:  # pragma: no cover - the watchdog is faster, unless it is held up itself
                raise requests.exceptions.ReadTimeout("too slow")
        return bytes(body)


class Kept(Generic[T]):
    """A value that is fetched from MC and kept for a while. Any thread may ask.

    Those who ask while it is being fetched wait for that one fetch and share its outcome, a failure too; after a
    failure the next one to ask fetches again.
    """

    def __init__(self, fetch: Callable[[], T], monotonic: Callable[[], float]) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: tuple[T, float] | None = None
        self._flight: Future[T] | None = None

    def get(self, *, instead_of: T | None = None) -> T:
        """Return the value, fetched at most KEPT_SECONDS ago, and not the one that turned out to be of no use."""
        with self._lock:
            if self._kept is not None:
                value, fetched_at = self._kept
                if value is not instead_of and self._monotonic() - fetched_at < KEPT_SECONDS:
                    return value
            flight = self._flight
            if flight is None:
                mine = self._flight = Future()
        return self._lead(mine) if flight is None else self._follow(flight)

    def find(self) -> T | None:
        """The value as it was fetched last, however long ago; None if it never was."""
        with self._lock:
            return None if self._kept is None else self._kept[0]

    def _lead(self, flight: Future[T]) -> T:
        try:
            value = self._fetch()
        except BaseException as error:
            with self._lock:
                self._flight = None
            flight.set_exception(error)
            raise
        with self._lock:
            self._kept = (value, self._monotonic())
            self._flight = None
        flight.set_result(value)
        return value

    def _follow(self, flight: Future[T]) -> T:
        try:
            return flight.result(MOST_WAIT_SECONDS)
        except FutureTimeoutError:
            raise IDPUnavailableError("waited for too long for another's call to MC") from None
        except GatewayError as error:
            # An exception of one's own: one object raised in several threads mixes up their tracebacks.
            raise type(error)(error.reason) from None


@dataclass(frozen=True, slots=True)
class Metadata:
    """What discovery says, as far as it is used here, and checked."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    algorithms: tuple[str, ...]
    is_issuer_sent: bool


class Provider:
    """The sign-in's dialogue with MC. Any thread may call it."""

    def __init__(
        self,
        client: Any,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        correlation: Callable[[], Mapping[str, str]],
        note_outcome: Callable[[str], None],
        bounds: Bounds,
    ) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        # From the configuration and never from the Host header, which the sender chooses.
        self._redirect_uri = settings.public_base_url + "/auth/authorize"
        self._discovery_url = settings.oidc_issuer + "/.well-known/openid-configuration"
        self._metadata = Kept(self._fetch_metadata, monotonic)
        self._keys = Kept(self._fetch_keys, monotonic)
        self._new_session = partial(
            ProviderSession,
            bounds=bounds,
            watchdog=Watchdog(),
            correlation=correlation,
            note_outcome=note_outcome,
            ca_file=settings.ca_file,
        )
        client.client_cls = self._new_session
        begin_to_count(_UPSTREAM, _CALL)
        # flask-oidc takes no setting for this; without it Authlib sends no challenge at all.
        client.client_kwargs["code_challenge_method"] = "S256"

    def authorization_url(self, pending: PendingSignIn) -> str:
        """Where MC asks the person to sign in. Raises IDPUnavailableError."""
        self._metadata.get()
        try:
            made = self._client.create_authorization_url(
                self._redirect_uri,
                state=pending.state,
                nonce=pending.nonce,
                code_verifier=pending.code_verifier,
            )
        except (AuthlibBaseError, ValueError) as error:
            raise IDPUnavailableError(f"authorization URL: {type(error).__name__}") from None
        return str(made["url"])

    def check_answer(self, parameters: Mapping[str, str]) -> str:
        """Return the code that the callback brings. Raises SignInFailedError or IDPUnavailableError."""
        metadata, issuer = self._metadata.get(), parameters.get("iss")
        # RFC 9207: an answer that names another issuer was meant for another sign-in.
        if issuer != metadata.issuer and (issuer is not None or metadata.is_issuer_sent):
            raise SignInFailedError("the answer names another issuer")
        if "error" in parameters:
            code = _error_code(parameters["error"])
            failure = IDPUnavailableError if code in _UNAVAILABLE_CODES else SignInFailedError
            raise failure(f"MC answered {code}")
        code = parameters.get("code", "")
        if not 0 < len(code) <= MAX_CODE_CHARACTERS:
            raise SignInFailedError("the answer has no usable code")
        return code

    def identify(self, code: str, pending: PendingSignIn) -> Identity:
        """Redeem the code and return who signed in, by the verified ID token.

        Raises SignInFailedError or IDPUnavailableError.
        """
        metadata = self._metadata.get()
        tokens = self._redeem(code, pending)
        unverified_id_token = tokens.get("id_token")
        if not isinstance(unverified_id_token, str):
            raise SignInFailedError("the token endpoint sent no ID token")
        claims = self._verified_claims(unverified_id_token, metadata, pending.nonce)
        identity = identity_from_claims(self._with_display_names(claims, tokens, metadata))
        if identity is None:
            raise SignInFailedError("the ID token has no usable subject")
        return identity

    def find_logout_url(self) -> str | None:
        """Where a browser ends its session at MC; None if MC has no such place or cannot say.

        Deliberately without `id_token_hint`: we keep no ID token. `client_id` stands in for it (OpenID Connect
        RP-Initiated Logout, section 2).
        """
        try:
            # However old: MC being down must not hold up people who want to leave.
            metadata = self._metadata.find() or self._metadata.get()
        except IDPUnavailableError:
            return None
        if metadata.end_session_endpoint is None:
            return None
        parts = urlsplit(metadata.end_session_endpoint)
        query = parse_qsl(parts.query, keep_blank_values=True)
        query += [
            ("client_id", self._settings.oidc_client_id),
            ("post_logout_redirect_uri", self._settings.public_base_url + "/"),
        ]
        return urlunsplit(parts._replace(query=urlencode(query)))

    def _redeem(self, code: str, pending: PendingSignIn) -> Mapping[str, Any]:
        try:
            tokens = self._client.fetch_access_token(
                redirect_uri=self._redirect_uri,
                grant_type="authorization_code",
                code=code,
                code_verifier=pending.code_verifier,
            )
        except GatewayError:
            raise
        except AuthlibBaseError as error:
            raise SignInFailedError(f"the token endpoint answered {_error_code(error.error)}") from None
        except requests.HTTPError as error:
            raise SignInFailedError(f"the token endpoint answered {error.response.status_code}") from None
        except Exception as error:  # noqa: BLE001
            # What Authlib makes of a body that is no token answer is not written down anywhere, and some of its
            # exceptions quote the request. Nothing but the type leaves.
            raise IDPUnavailableError(f"the token endpoint's answer is unusable: {type(error).__name__}") from None
        return dict(tokens)

    def _verified_claims(self, unverified_id_token: str, metadata: Metadata, nonce: str) -> Mapping[str, Any]:
        """Check everything that OpenID Connect Core, section 3.1.3.7, asks for, and return the claims."""
        keys = self._keys.get()
        try:
            token = _decode(unverified_id_token, keys, metadata)
        except SignInFailedError:
            # MC may have changed its keys, with or without a new key id. What fails after a look is no token of MC's.
            token = _decode(unverified_id_token, self._keys.get(instead_of=keys), metadata)
        claims = token.claims
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": metadata.issuer},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True},
        )
        try:
            registry.validate(claims)
        except Exception as error:  # noqa: BLE001
            # Whatever a library makes of claims of any shape: they are not verified.
            raise SignInFailedError(f"the ID token's claims: {_described(error)}") from None
        if not isinstance(claims["nonce"], str) or not compare_digest(claims["nonce"].encode(), nonce.encode()):
            raise SignInFailedError("the ID token was made for another sign-in (nonce)")
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        # A token for several is ours only if it says so; one that says another party's name never is.
        if claims.get("azp", None if len(audiences) > 1 else self._settings.oidc_client_id) != (
            self._settings.oidc_client_id
        ):
            raise SignInFailedError("the ID token was issued to another client (azp)")
        return claims

    def _with_display_names(
        self, claims: Mapping[str, Any], tokens: Mapping[str, Any], metadata: Metadata
    ) -> Mapping[str, Any]:
        """Add name and email from the userinfo endpoint, where the ID token leaves them to it (section 5.4).

        They are texts for display, so that no failure here is worth failing the sign-in for.
        """
        access_token = tokens.get("access_token")
        if (claims.get("name") and claims.get("email")) or metadata.userinfo_endpoint is None:
            return claims
        if not isinstance(access_token, str) or not _BEARER_TOKEN.fullmatch(access_token):
            return claims
        try:
            found = self._fetch_json(metadata.userinfo_endpoint, {"Authorization": f"Bearer {access_token}"})
        except IDPUnavailableError:
            return claims
        # Section 5.3.2: an answer about somebody else must not be used.
        if found.get("sub") != claims["sub"]:
            return claims
        shown = {key: found.get(key) for key in ("name", "preferred_username", "email")}
        return {**shown, **{key: value for key, value in claims.items() if value}}

    def _fetch_metadata(self) -> Metadata:
        document = self._fetch_json(self._discovery_url)
        issuer = document.get("issuer")
        # OpenID Connect Discovery, section 4.3. The settings drop a slash at the end; MC's tokens may have it.
        if not isinstance(issuer, str) or issuer.rstrip("/") != self._settings.oidc_issuer:
            raise IDPUnavailableError("discovery: it describes another issuer")
        announced = document.get("id_token_signing_alg_values_supported")
        announced = announced if isinstance(announced, list) else []
        metadata = Metadata(
            issuer=issuer,
            authorization_endpoint=self._endpoint(document, "authorization_endpoint"),
            token_endpoint=self._endpoint(document, "token_endpoint"),
            jwks_uri=self._endpoint(document, "jwks_uri"),
            userinfo_endpoint=self._find_endpoint(document, "userinfo_endpoint"),
            end_session_endpoint=self._find_endpoint(document, "end_session_endpoint"),
            algorithms=tuple(name for name in announced if isinstance(name, str) and name in _ALGORITHMS) or ("RS256",),
            is_issuer_sent=document.get("authorization_response_iss_parameter_supported") is True,
        )
        # Authlib hands all that stands here to constructors, so it gets the two endpoints and nothing that MC could
        # add. `_loaded_at` tells it not to fetch discovery itself, without a time-out and for ever.
        self._client.server_metadata = {
            "authorization_endpoint": metadata.authorization_endpoint,
            "token_endpoint": metadata.token_endpoint,
            "_loaded_at": time.time(),
        }
        return metadata

    def _endpoint(self, document: Mapping[str, Any], name: str) -> str:
        found = self._find_endpoint(document, name)
        if found is None:
            raise IDPUnavailableError(f"discovery: no usable {name}")
        return found

    def _find_endpoint(self, document: Mapping[str, Any], name: str) -> str | None:
        """An absolute URL of http(s), and of https where the issuer's is: nobody may talk us down."""
        url = document.get(name)
        if not isinstance(url, str) or re.search(r"[\s\x00-\x1f\x7f\\]", url):
            return None
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            return None
        schemes = {"https"} if self._settings.oidc_issuer.startswith("https://") else {"https", "http"}
        return url if parts.scheme in schemes and parts.hostname and "@" not in parts.netloc else None

    def _fetch_keys(self) -> KeySet:
        document = self._fetch_json(self._metadata.get().jwks_uri)
        entries = document.get("keys")
        keys = []
        for entry in entries if isinstance(entries, list) else []:
            if not isinstance(entry, dict) or entry.get("kty") not in _ASYMMETRIC_KEY_TYPES:
                continue
            try:
                keys.append(JWKRegistry.import_key(entry))
            except Exception:  # noqa: BLE001, S112
                # One broken key must not lock everybody out while another one signs.
                continue
        if not keys:
            raise IDPUnavailableError("jwks: no usable key")
        return KeySet(keys)

    def _fetch_json(self, url: str, headers: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        with self._new_session() as session:
            try:
                response = session.request(
                    "GET", url, withhold_token=True, headers={"Accept": "application/json", **(headers or {})}
                )
            except (requests.RequestException, ValueError) as error:
                # Before anything is sent: requests cannot make sense of the URL.
                raise IDPUnavailableError(f"GET: {type(error).__name__}") from None
        if response.status_code != 200:
            raise IDPUnavailableError(f"{_name(response.request)}: status {response.status_code}")
        try:
            document = json.loads(response.content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise IDPUnavailableError(f"{_name(response.request)}: not a JSON object")
        return document


def _decode(unverified_id_token: str, keys: KeySet, metadata: Metadata) -> jwt.Token:
    registry = JWSRegistry(algorithms=metadata.algorithms, strict_check_header=False)
    try:
        return jwt.decode(unverified_id_token, keys, registry=registry)
    except Exception as error:  # noqa: BLE001
        # Whatever a library makes of a text of any shape: it is no token of MC's.
        raise SignInFailedError(f"the ID token's signature: {_described(error)}") from None


def _described(error: Exception) -> str:
    """The kind of failure, and for a claim its name; never a message, which may quote the token."""
    claim = getattr(error, "claim", None)
    return f"{type(error).__name__} {claim}" if isinstance(claim, str) else type(error).__name__


def _name(request: requests.PreparedRequest) -> str:
    """Method and path of a call, for the log. A query may hold secrets."""
    return f"{request.method} {urlsplit(request.url or '').path}"


def _error_code(code: object) -> str:
    """An OAuth error code, or a word for what is none: in the callback anybody can write anything there."""
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else "an unknown error"
