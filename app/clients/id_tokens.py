"""ID tokens: which key verifies a token, and which claims sign a person in.

joserfc does the cryptography. This module does what joserfc leaves to its caller or does differently from the
specifications: the choice of a key, limits that real tokens exceed, and the checks that are the trust boundary.
Failures are SignInFailedError. Their reasons name types and claims only, because messages may quote the token.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import JWKRegistry, Key
from joserfc.registry import JWS_HEADER_REGISTRY

from app.clients.transport import MAX_RESPONSE_BYTES
from app.errors import SignInFailedError

#: How far the provider's clock may be off, in seconds.
LEEWAY_SECONDS = 60
#: How many keys are tried for one token.
MAX_KEYS_TRIED = 16

# Asymmetric only: with "none" there is no signature, and with HMAC anyone with the client secret can sign.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
# Tuples and not sets: the values of a provider may not be hashable.
_KEY_TYPES = ("RSA", "EC", "OKP")
_SIGNING_USES = (None, "", "sig")
# RFC 7518, section 6, and RFC 8037, section 2, without the private members. No other member can make a key unusable.
_KEY_MATERIAL = ("kty", "n", "e", "crv", "x", "y")
# The claims that decide. No value of another one (`jti`, `auth_time`, `groups`, …) fails a sign-in.
_CLAIMS = ("iss", "aud", "exp", "nbf", "iat", "sub", "nonce")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key that may verify signatures; `kid` and `alg` are None where the provider doesn't name them."""

    key: Key
    kid: str | None
    alg: str | None


class _Registry(jws.JWSRegistry):
    # joserfc allows 512 bytes of header, which `x5c` exceeds, and 128,000 of payload. The response that holds the token
    # is bounded already.
    max_header_length = max_payload_length = max_signature_length = MAX_RESPONSE_BYTES
    # Header parameters that are not used are not checked. Extensions that `crit` lists are refused, because none is
    # known here (RFC 7515, section 4.1.11).
    default_header_registry = {name: JWS_HEADER_REGISTRY[name] for name in ("alg", "crit")}  # noqa: RUF012 - theirs

    def __init__(self, algorithms: Sequence[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        """Return an allowed algorithm. joserfc's own method warns of EdDSA on stderr, which providers still use."""
        if name not in ALGORITHMS or name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def read_keys(document: Mapping[str, Any]) -> tuple[VerificationKey, ...]:
    """Return the keys of a JWK Set that may verify signatures.

    Unknown and broken keys are left out (RFC 7517, section 5): one of them must not lock everybody out.
    """
    entries = document.get("keys")
    return tuple(key for entry in (entries if isinstance(entries, list) else []) for key in _read_key(entry))


def _read_key(entry: object) -> Iterator[VerificationKey]:
    if not isinstance(entry, dict) or entry.get("kty") not in _KEY_TYPES:
        return
    # RFC 7517, sections 4.2 and 4.3; a key without either is for any use.
    operations = entry.get("key_ops")
    if entry.get("use") not in _SIGNING_USES or (isinstance(operations, list) and "verify" not in operations):
        return
    try:
        key = JWKRegistry.import_key({name: entry[name] for name in _KEY_MATERIAL if entry.get(name) is not None})
    except Exception:  # noqa: BLE001
        # The library raises many kinds of exceptions for odd keys.
        return
    yield VerificationKey(key, _name_in(entry, "kid"), _name_in(entry, "alg"))


def verify_signature(token: str, keys: Sequence[VerificationKey], algorithms: Sequence[str]) -> dict[str, Any]:
    """Return the claims of a token that one of the keys has signed, with one of the algorithms.

    Raises SignInFailedError.
    """
    registry = _Registry(algorithms)
    try:
        signed = jws.extract_compact(token.encode(), registry=registry)
        registry.check_header(signed.headers())
        registry.get_alg(signed.headers()["alg"])
        if any(_has_signed(key, signed, registry) for key in _fitting(signed.headers(), keys)[:MAX_KEYS_TRIED]):
            claims = json.loads(signed.payload or b"")
            if isinstance(claims, dict):
                return claims
    except Exception as error:  # noqa: BLE001
        # The library raises many kinds of exceptions for odd texts. None of these is the provider's token.
        raise SignInFailedError(f"the ID token's signature: {type(error).__name__}") from None
    raise SignInFailedError("the ID token's signature: no key verifies it, or it signs no claims")


def _has_signed(key: Key, signed: jws.CompactSignature, registry: _Registry) -> bool:
    try:
        return jws.validate_compact(signed, key, registry=registry)
    except JoseError:
        # A key that cannot sign at all (X25519) must not hide the one that does.
        return False


def _fitting(header: Mapping[str, Any], keys: Sequence[VerificationKey]) -> list[Key]:
    """Return the keys that may have signed a token with this header, the likeliest first.

    `kid` is a hint that tokens and keys may lack, and several keys may share one (RFC 7515, section 4.1.4; RFC 7517,
    section 4.5). A key with another `kid` or `alg` than the token is left out. Its type and curve must be the
    algorithm's (RFC 8725, section 3.1).
    """
    kid, alg = _name_in(header, "kid"), header["alg"]
    named = [key for key in keys if key.kid == kid]
    others = [key for key in keys if key.kid != kid and None in {kid, key.kid}]
    return [
        key.key
        for key in (*named, *others)
        if key.alg in {None, alg} and jws.JWSRegistry.filter_algorithms(key.key, [alg])
    ]


def verify_claims(claims: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now: datetime) -> None:
    """Check the claims by OpenID Connect Core, section 3.1.3.7. Raises SignInFailedError."""
    registry = jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client_id},
        exp={"essential": True},
        iat={"essential": True},
        sub={"essential": True},
        nonce={"essential": True},
    )
    try:
        # A claim that is null counts as missing.
        registry.validate({name: claims[name] for name in _CLAIMS if claims.get(name) is not None})
    except Exception as error:  # noqa: BLE001
        # The library raises many kinds of exceptions for odd claims. None of these are verified.
        raise SignInFailedError(f"the ID token's claims: {_described(error)}") from None
    if claims["nonce"] != nonce:
        raise SignInFailedError("the ID token was made for another sign-in (nonce)")
    # Several audiences without `azp` are allowed: errata set 2 of OpenID Connect Core dropped that rule. An `azp` that
    # names another client is not.
    azp = claims.get("azp")
    if azp is not None and azp not in ("", client_id):
        raise SignInFailedError("the ID token was issued to another client (azp)")


def _name_in(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None


def _described(error: Exception) -> str:
    """Return the kind of failure, and the name of a claim; never a message, which may quote the token."""
    claim = getattr(error, "claim", None)
    return f"{type(error).__name__} {claim}" if isinstance(claim, str) else type(error).__name__
