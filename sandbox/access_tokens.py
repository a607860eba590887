"""Access tokens, as the sandbox's Member Center issues them and its three services check them.

They are JWTs (RFC 9068), signed with one RSA key that the services share through the data directory. So the converter
and the File Access Agent can verify tokens while Member Center is down. They do not compare the issuer, because
restarted services may have other ports, and the key already identifies the sandbox.
"""

import json
import time
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from sandbox.data_directory import DataDirectory

ALGORITHM: Final = "RS256"
ACCESS_TOKEN_TYPE: Final = "at+jwt"

_AUDIENCE_OF_SCOPE: Final = {
    "openid": "member-center",
    "profile": "member-center",
    "email": "member-center",
    "files:download.delegate": "member-center",
    "converter:job.write": "converter",
    "converter:job.read": "converter",
    "files:download.read": "file-access",
}


@dataclass(frozen=True)
class AccessToken:
    """A token whose signature, time, audience and scope have been checked."""

    subject: str
    client_id: str
    scopes: frozenset[str]


class BearerError(Exception):
    """A bearer token is refused; the error codes are those of RFC 6750."""

    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.code = code
        self.description = description

    @property
    def challenge(self) -> str:
        """The value of WWW-Authenticate."""
        if not self.code:
            return 'Bearer realm="sandbox"'
        return f'Bearer realm="sandbox", error="{self.code}", error_description="{self.description}"'


def audiences(scope: str) -> list[str]:
    """The services to which the scopes belong."""
    return sorted({_AUDIENCE_OF_SCOPE[name] for name in scope.split()})


def load_signing_key(data: DataDirectory) -> RSAKey:
    """Return the directory's key; create it at first use."""

    def make() -> bytes:
        key = RSAKey.generate_key(2048)
        return json.dumps(dict(key.as_dict(private=True), kid=key.thumbprint(), use="sig", alg=ALGORITHM)).encode()

    return RSAKey.import_key(json.loads(data.secret("signing-key.json", make)))


def sign(key: RSAKey, claims: dict[str, Any], token_type: str) -> str:
    return jwt.encode({"alg": ALGORITHM, "typ": token_type, "kid": key.kid}, claims, key)


class AccessTokenVerifier:
    """Checks the Authorization header for one service. Thread-safe."""

    def __init__(self, data: DataDirectory, audience: str) -> None:
        self._key = load_signing_key(data)
        self._audience = audience

    def verify(self, unverified_authorization: str | None, scope: str) -> AccessToken:
        """Return the token if it allows `scope`; raise BearerError (401, or 403 if only the scope is missing)."""
        kind, _, unverified_token = (unverified_authorization or "").partition(" ")
        if kind.lower() != "bearer" or not unverified_token.strip():
            raise BearerError(401, "", "a bearer token is required")
        try:
            token = jwt.decode(unverified_token.strip(), self._key, algorithms=[ALGORITHM])
        except (JoseError, ValueError) as error:
            raise BearerError(401, "invalid_token", "the token is malformed or its signature is wrong") from error
        claims = token.claims
        if token.header.get("typ") != ACCESS_TOKEN_TYPE:
            raise BearerError(401, "invalid_token", "this is not an access token")
        if claims["exp"] <= time.time():
            raise BearerError(401, "invalid_token", "the token has expired")
        if self._audience not in claims["aud"]:
            raise BearerError(401, "invalid_token", "the token is for another service")
        scopes = frozenset(claims["scope"].split())
        if scope not in scopes:
            raise BearerError(403, "insufficient_scope", f"the scope {scope} is required")
        return AccessToken(claims["sub"], claims["client_id"], scopes)
