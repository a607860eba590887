"""MC as the OpenID provider: discovery, keys, the token request and userinfo, each as bounded as every upstream call.

Discovery and keys are kept for an hour, shared by all threads, and fetched once however many ask. Each call is made
once, follows no redirect, and enters a bulkhead that only sign-ins use (`SignInCall`).

A sign-in fails in one of three ways. No usable answer (network, time, 5xx, 429, a redirect, not the JSON that the call
is for) is IDPUnavailableError: later it may work. A refusal of the gateway itself is IDPMisconfiguredError. Any other
whole answer that does not sign this person in is SignInFailedError. Their reasons name types and error codes only, and
their causes are cut off: the exceptions of the libraries below carry codes, verifiers and tokens.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from app.clients.id_tokens import ALGORITHMS, VerificationKey, read_keys, verify_claims, verify_signature
from app.clients.retry import Retrier, SignInCall, count_failure
from app.clients.single_flight import SingleFlightCache
from app.clients.transport import Timeouts, UnusableResponseFailure, Upstream, UpstreamFailure, UpstreamResponse
from app.domain.call import CallContext
from app.domain.identity import Identity, identity_from_claims
from app.errors import (
    DeadlineExceededError,
    IDPMisconfiguredError,
    IDPUnavailableError,
    SignInFailedError,
    StaleSignInError,
)

T = TypeVar("T")

#: How long discovery and keys are cached.
CACHE_SECONDS = 3_600.0

_BEARER_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
_ERROR_CODE = re.compile(r"[a-z_]{1,64}")
# RFC 6749, section 5.2: what these refuse is us, and not this sign-in.
_OUR_FAULTS = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})


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


class IdentityProvider:
    """Asks MC who signs in. Thread-safe."""

    def __init__(
        self,
        upstream: Upstream,
        retrier: Retrier,
        *,
        issuer: str,
        client_id: str,
        authorization: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`upstream` has no base URL. `authorization` is the header of the token request."""
        self._upstream = upstream
        self._retrier = retrier
        self._issuer = issuer
        self._client_id = client_id
        self._authorization = authorization
        self._clock = clock
        self._last_metadata: Metadata | None = None
        self._metadata = SingleFlightCache(
            self._fetch_metadata, seconds=CACHE_SECONDS, max_entries=1, wait=self._wait, monotonic=monotonic
        )
        self._keys = SingleFlightCache(
            self._fetch_keys, seconds=CACHE_SECONDS, max_entries=1, wait=self._wait, monotonic=monotonic
        )

    def metadata(self, context: CallContext) -> Metadata:
        """Return what discovery says. Raises IDPUnavailableError."""
        return self._get(self._metadata, self._issuer, context)

    def find_metadata(self) -> Metadata | None:
        """Return what discovery said last, at any time; None if it was never fetched."""
        return self._last_metadata

    def identify(
        self, code: str, *, code_verifier: str, nonce: str, redirect_uri: str, context: CallContext
    ) -> Identity:
        """Redeem the code and return who signed in, by the verified ID token.

        Raises SignInFailedError, IDPUnavailableError or IDPMisconfiguredError.
        """
        tokens = self._redeem(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": code_verifier,
            },
            context,
        )
        unverified_id_token = tokens.get("id_token")
        if not isinstance(unverified_id_token, str):
            raise SignInFailedError("the token endpoint sent no ID token")
        claims = self._verified_claims(unverified_id_token, nonce, context)
        identity = identity_from_claims(self._with_display_names(claims, tokens, context))
        if identity is None:
            raise SignInFailedError("the ID token has no usable subject")
        return identity

    def _redeem(self, form: Mapping[str, str], context: CallContext) -> Mapping[str, Any]:
        endpoint = self.metadata(context).token_endpoint
        answer = self._call("POST", endpoint, context, form=form, headers={"Authorization": self._authorization})
        is_success = 200 <= answer.status < 300
        try:
            tokens = answer.json_object()
        except UnusableResponseFailure as failure:
            if is_success:
                raise self._unusable(failure, "the token endpoint's answer") from None
            tokens = {}
        if is_success and "error" not in tokens:
            return tokens
        code = error_code(tokens.get("error"))
        reason = f"the token endpoint answered {answer.status}, {code}"
        if code == "invalid_grant":  # with 400 (RFC 6749, section 5.2), or with another status
            raise StaleSignInError(reason)
        # Of the statuses, 401 alone says so. 403 may be a firewall's that disliked a code which an outsider invented.
        if code in _OUR_FAULTS or answer.status == 401:
            raise IDPMisconfiguredError(reason)
        raise SignInFailedError(reason)

    def _verified_claims(self, unverified_id_token: str, nonce: str, context: CallContext) -> Mapping[str, Any]:
        metadata = self.metadata(context)
        keys = self._get(self._keys, metadata.jwks_uri, context)
        try:
            claims = verify_signature(unverified_id_token, keys, metadata.algorithms)
        except SignInFailedError:
            # MC may have changed its keys, with or without a new key id, or its algorithm. Both are fetched once more.
            metadata = self._get(self._metadata, self._issuer, context, instead_of=metadata)
            keys = self._get(self._keys, metadata.jwks_uri, context, instead_of=keys)
            claims = verify_signature(unverified_id_token, keys, metadata.algorithms)
        verify_claims(claims, issuer=metadata.issuer, client_id=self._client_id, nonce=nonce, now=self._clock())
        return claims

    def _with_display_names(
        self, claims: Mapping[str, Any], tokens: Mapping[str, Any], context: CallContext
    ) -> Mapping[str, Any]:
        """Add name and email from the userinfo endpoint, where the ID token leaves them to it (section 5.4).

        They are only displayed, so a failure here does not fail the sign-in.
        """
        endpoint, access_token = self.metadata(context).userinfo_endpoint, tokens.get("access_token")
        if (claims.get("name") and claims.get("email")) or endpoint is None:
            return claims
        if not isinstance(access_token, str) or not _BEARER_TOKEN.fullmatch(access_token):
            return claims
        try:
            found = self._fetch_json(endpoint, context, {"Authorization": f"Bearer {access_token}"})
        except IDPUnavailableError:
            return claims
        # Section 5.3.2: an answer about somebody else must not be used.
        if found.get("sub") != claims["sub"]:
            return claims
        shown = {key: found.get(key) for key in ("name", "preferred_username", "email")}
        return {**shown, **{key: value for key, value in claims.items() if value}}

    def _fetch_metadata(self, issuer: str, context: CallContext) -> Metadata:
        document = self._fetch_json(issuer + "/.well-known/openid-configuration", context)
        announced_issuer = document.get("issuer")
        # OpenID Connect Discovery, section 4.3. The settings drop a slash at the end; MC's tokens may have it.
        if not isinstance(announced_issuer, str) or announced_issuer.rstrip("/") != issuer:
            raise IDPUnavailableError("discovery: it describes another issuer")
        announced = document.get("id_token_signing_alg_values_supported")
        announced = announced if isinstance(announced, list) else []
        self._last_metadata = Metadata(
            issuer=announced_issuer,
            authorization_endpoint=self._endpoint(document, "authorization_endpoint"),
            token_endpoint=self._endpoint(document, "token_endpoint"),
            jwks_uri=self._endpoint(document, "jwks_uri"),
            userinfo_endpoint=self.find_endpoint(document, "userinfo_endpoint"),
            end_session_endpoint=self.find_endpoint(document, "end_session_endpoint"),
            algorithms=tuple(name for name in announced if isinstance(name, str) and name in ALGORITHMS) or ("RS256",),
            is_issuer_sent=document.get("authorization_response_iss_parameter_supported") is True,
        )
        return self._last_metadata

    def _endpoint(self, document: Mapping[str, Any], name: str) -> str:
        found = self.find_endpoint(document, name)
        if found is None:
            raise IDPUnavailableError(f"discovery: no usable {name}")
        return found

    def find_endpoint(self, document: Mapping[str, Any], name: str) -> str | None:
        """Return an absolute URL of http(s), and of https only where the issuer uses https; None if it is another."""
        url = document.get(name)
        if not isinstance(url, str) or re.search(r"[\s\x00-\x1f\x7f\\]", url):
            return None
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            return None
        schemes = {"https"} if self._issuer.startswith("https://") else {"https", "http"}
        return url if parts.scheme in schemes and parts.hostname and "@" not in parts.netloc else None

    def _fetch_keys(self, jwks_uri: str, context: CallContext) -> tuple[VerificationKey, ...]:
        keys = read_keys(self._fetch_json(jwks_uri, context))
        if not keys:
            raise IDPUnavailableError("jwks: no usable key")
        return keys

    def _fetch_json(
        self, url: str, context: CallContext, headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        answer = self._call("GET", url, context, headers=headers)
        if answer.status != 200:
            raise IDPUnavailableError(f"{_name('GET', url)}: status {answer.status}")
        try:
            return answer.json_object()
        except UnusableResponseFailure as failure:
            raise self._unusable(failure, _name("GET", url)) from None

    def _call(
        self,
        method: str,
        url: str,
        context: CallContext,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> UpstreamResponse:
        """Make one call; what it returns has a status of 2xx or 4xx. Raises IDPUnavailableError."""

        def attempt(timeouts: Timeouts) -> UpstreamResponse:
            answer = self._upstream.call(
                method,
                url,
                timeouts=timeouts,
                headers={"Accept": "application/json", **context.correlation, **(headers or {})},
                form=form,
            )
            # A redirect is not followed: it would carry the code, the verifier and our secret to wherever it points.
            if answer.status == 429 or not (200 <= answer.status < 300 or answer.status >= 400):
                raise answer.as_failure()
            return answer

        try:
            return self._retrier.run(SignInCall.SIGN_IN, context.deadline, attempt)
        except (UpstreamFailure, DeadlineExceededError) as failure:
            raise IDPUnavailableError(
                f"{_name(method, url)}: {failure}", retry_after_seconds=failure.retry_after_seconds
            ) from None

    @staticmethod
    def _unusable(failure: UnusableResponseFailure, what: str) -> IDPUnavailableError:
        count_failure(SignInCall.SIGN_IN, failure)
        return IDPUnavailableError(f"{what}: {failure}")

    @staticmethod
    def _get(cache: SingleFlightCache[str, T], key: str, context: CallContext, *, instead_of: T | None = None) -> T:
        try:
            return cache.get(key, context, accepts=lambda value: value is not instead_of)
        except DeadlineExceededError:
            raise IDPUnavailableError("waited for too long for another's call to MC") from None

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for another caller's fetch, in the bulkhead: who waits holds a thread, too."""
        try:
            return self._retrier.bulkheads[SignInCall.SIGN_IN.bulkhead].wait(SignInCall.SIGN_IN, event, seconds)
        except UpstreamFailure as failure:
            raise IDPUnavailableError(f"{failure.kind}: {failure}") from None


def error_code(code: object) -> str:
    """Return an OAuth error code, or a phrase for anything else: anybody can write anything into a callback."""
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else "an unknown error"


def _name(method: str, url: str) -> str:
    """Return method and path of a call, for the log. A query may hold secrets."""
    return f"{method} {urlsplit(url).path}"
