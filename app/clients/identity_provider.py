"""MC as the OpenID provider: discovery, keys, the token request of a sign-in, and userinfo.

Each request is made once and enters a bulkhead that only sign-ins use (`Call`). Discovery and keys are cached for
an hour.

A sign-in fails in one of three ways. IDPUnavailableError: MC gave no usable response (network, time, 5xx, 429, a
redirect, other JSON than expected), so it may work later. IDPMisconfiguredError: MC refuses the gateway itself.
SignInFailedError: any other response that does not sign this person in. The reasons name types and error codes only.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from app.clients.id_tokens import ALGORITHMS, VerificationKey, read_keys, verify_claims, verify_signature
from app.clients.member_center import MemberCenterClient
from app.clients.retry import Call, failures_as
from app.clients.single_flight import SingleFlightCache
from app.clients.token_responses import error_code, is_bearer_token
from app.domain.call import CallContext
from app.domain.identity import Identity, identity_from_claims
from app.errors import (
    DeadlineExceededError,
    IDPMisconfiguredError,
    IDPUnavailableError,
    SignInFailedError,
    StaleSignInError,
)

#: How long discovery and keys are cached.
CACHE_SECONDS = 3_600.0
MAX_CODE_CHARACTERS = 4_096

# RFC 6749, section 5.2: the errors that refuse the gateway, and not this sign-in.
_OUR_FAULTS = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
# RFC 6749, section 4.1.2.1: these two stand for a 500 and a 503, which a redirect cannot say.
_UNAVAILABLE_CODES = frozenset({"server_error", "temporarily_unavailable"})


@dataclass(frozen=True, slots=True)
class Metadata:
    """The members of the discovery document that are used here, checked."""

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
        member_center: MemberCenterClient,
        *,
        issuer: str,
        client_id: str,
        authorization: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`authorization` is the header of the token request."""
        self._member_center = member_center
        self._issuer = issuer
        self._client_id = client_id
        self._authorization = authorization
        self._clock = clock
        self._last_metadata: Metadata | None = None
        cache = partial(
            SingleFlightCache,
            seconds=CACHE_SECONDS,
            max_entries=1,
            wait=partial(member_center.wait, Call.SIGN_IN),
            monotonic=monotonic,
        )
        self._metadata: SingleFlightCache[str, Metadata] = cache(self._fetch_metadata)
        self._keys: SingleFlightCache[str, tuple[VerificationKey, ...]] = cache(self._fetch_keys)

    def metadata(self, context: CallContext) -> Metadata:
        """Return the discovery document, at most an hour old. Raises IDPUnavailableError."""
        with _unavailable_if_late():
            return self._metadata.get(self._issuer, context)

    def identify(
        self,
        callback: Mapping[str, str],
        *,
        code_verifier: str,
        nonce: str,
        redirect_uri: str,
        context: CallContext,
    ) -> Identity:
        """Redeem the code of a callback's parameters, and return who signed in, by the verified ID token.

        Raises SignInFailedError, IDPUnavailableError or IDPMisconfiguredError.
        """
        with _unavailable_if_late():
            metadata = self.metadata(context)
            form = {
                "grant_type": "authorization_code",
                "code": _read_code(callback, metadata),
                "redirect_uri": redirect_uri,
                "code_verifier": code_verifier,
            }
            tokens = self._redeem(metadata.token_endpoint, form, context)
            unverified_id_token = tokens.get("id_token")
            if not isinstance(unverified_id_token, str):
                raise SignInFailedError("the token endpoint sent no ID token")
            claims = self._verified_claims(unverified_id_token, nonce, context)
            identity = identity_from_claims(self._with_display_names(claims, tokens, context))
        if identity is None:
            raise SignInFailedError("the ID token has no usable subject")
        return identity

    def logout_url(self, redirect_uri: str, context: CallContext) -> str | None:
        """Return where a browser ends its session at MC; None if MC has no such address or cannot be reached.

        Without `id_token_hint`, because the gateway stores no ID token. `client_id` replaces it (OpenID Connect
        RP-Initiated Logout, section 2).
        """
        try:
            # However old: people can sign out while MC is down.
            metadata = self._last_metadata or self.metadata(context)
        except IDPUnavailableError:
            return None
        if metadata.end_session_endpoint is None:
            return None
        parts = urlsplit(metadata.end_session_endpoint)
        query = parse_qsl(parts.query, keep_blank_values=True)
        query += [("client_id", self._client_id), ("post_logout_redirect_uri", redirect_uri)]
        return urlunsplit(parts._replace(query=urlencode(query)))

    def _redeem(self, endpoint: str, form: Mapping[str, str], context: CallContext) -> Mapping[str, Any]:
        with failures_as(IDPUnavailableError, Call.SIGN_IN, "the token endpoint"):
            response = self._member_center.request_token(Call.SIGN_IN, endpoint, form, self._authorization, context)
        if response.is_success and "error" not in response.members:
            return response.members
        code = response.error_code
        reason = f"the token endpoint answered {response.status}, {code}"
        if code == "invalid_grant":  # with 400 (RFC 6749, section 5.2), or with another status
            raise StaleSignInError(reason)
        # Only 401 refuses the gateway: a firewall may answer 403 to a code that an outsider invented.
        if code in _OUR_FAULTS or response.status == 401:
            raise IDPMisconfiguredError(reason)
        raise SignInFailedError(reason)

    def _verified_claims(self, unverified_id_token: str, nonce: str, context: CallContext) -> Mapping[str, Any]:
        metadata = self.metadata(context)
        keys = self._keys.get(metadata.jwks_uri, context)
        try:
            claims = verify_signature(unverified_id_token, keys, metadata.algorithms)
        except SignInFailedError:
            # MC may have changed its keys, with or without a new key id, or its algorithm. Both are fetched once more.
            metadata = self._metadata.get(self._issuer, context, accepts=lambda known: known is not metadata)
            keys = self._keys.get(metadata.jwks_uri, context, accepts=lambda known: known is not keys)
            claims = verify_signature(unverified_id_token, keys, metadata.algorithms)
        verify_claims(claims, issuer=metadata.issuer, client_id=self._client_id, nonce=nonce, now=self._clock())
        return claims

    def _with_display_names(
        self, claims: Mapping[str, Any], tokens: Mapping[str, Any], context: CallContext
    ) -> Mapping[str, Any]:
        """Add name and email from the userinfo endpoint, if the ID token lacks them (section 5.4).

        They are only displayed, so a failure here does not fail the sign-in.
        """
        endpoint, access_token = self.metadata(context).userinfo_endpoint, tokens.get("access_token")
        if (claims.get("name") and claims.get("email")) or endpoint is None or not is_bearer_token(access_token):
            return claims
        try:
            found = self._fetch_json(endpoint, context, {"Authorization": f"Bearer {access_token}"})
        except (IDPUnavailableError, DeadlineExceededError):
            return claims
        # Section 5.3.2: a response about another subject must not be used.
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
        self._last_metadata = _read_metadata(document, announced_issuer)
        return self._last_metadata

    def _fetch_keys(self, jwks_uri: str, context: CallContext) -> tuple[VerificationKey, ...]:
        keys = read_keys(self._fetch_json(jwks_uri, context))
        if not keys:
            raise IDPUnavailableError("jwks: no usable key")
        return keys

    def _fetch_json(
        self, url: str, context: CallContext, headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        # Only the path goes to the log: a query may hold secrets.
        with failures_as(IDPUnavailableError, Call.SIGN_IN, f"GET {urlsplit(url).path}"):
            return self._member_center.get_json(Call.SIGN_IN, url, context, headers)


@contextmanager
def _unavailable_if_late() -> Iterator[None]:
    """Raise IDPUnavailableError if the time runs out: a person who signs in can only try again."""
    try:
        yield
    except DeadlineExceededError as error:
        raise IDPUnavailableError(error.reason) from None


def _read_code(callback: Mapping[str, str], metadata: Metadata) -> str:
    issuer = callback.get("iss")
    # RFC 9207: a callback that names another issuer belongs to another sign-in.
    if issuer != metadata.issuer and (issuer is not None or metadata.is_issuer_sent):
        raise SignInFailedError("the callback names another issuer")
    if "error" in callback:
        code = error_code(callback["error"])
        raise (IDPUnavailableError if code in _UNAVAILABLE_CODES else SignInFailedError)(f"MC answered {code}")
    code = callback.get("code", "")
    if not 0 < len(code) <= MAX_CODE_CHARACTERS:
        raise SignInFailedError("the callback has no usable code")
    return code


def _read_metadata(document: Mapping[str, Any], issuer: str) -> Metadata:
    algorithms = document.get("id_token_signing_alg_values_supported")
    algorithms = algorithms if isinstance(algorithms, list) else []
    return Metadata(
        issuer=issuer,
        authorization_endpoint=_endpoint(document, "authorization_endpoint", issuer),
        token_endpoint=_endpoint(document, "token_endpoint", issuer),
        jwks_uri=_endpoint(document, "jwks_uri", issuer),
        userinfo_endpoint=find_endpoint(document, "userinfo_endpoint", issuer),
        end_session_endpoint=find_endpoint(document, "end_session_endpoint", issuer),
        algorithms=tuple(name for name in algorithms if isinstance(name, str) and name in ALGORITHMS) or ("RS256",),
        is_issuer_sent=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _endpoint(document: Mapping[str, Any], name: str, issuer: str) -> str:
    found = find_endpoint(document, name, issuer)
    if found is None:
        raise IDPUnavailableError(f"discovery: no usable {name}")
    return found


def find_endpoint(document: Mapping[str, Any], name: str, issuer: str) -> str | None:
    """Return the member if it is an absolute URL of http(s), and of https where the issuer uses https; else None."""
    url = document.get(name)
    if not isinstance(url, str) or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    schemes = {"https"} if issuer.startswith("https://") else {"https", "http"}
    return url if parts.scheme in schemes and parts.hostname and "@" not in parts.netloc else None
