"""Read the responses of MC's token endpoints: tokens, how long they live, and refusals (docs/upstreams.md)."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.clients.tokens import MAX_LIFE_SECONDS, IssuedToken
from app.clients.transport import UnusableResponseFailure, UpstreamResponse
from app.domain.job import parse_timestamp

#: How long a token lives whose response doesn't say: `expires_in` is optional (RFC 6749, section 5.1).
DEFAULT_TOKEN_SECONDS = 60.0
_MAX_TOKEN_CHARACTERS = 16 * 1024
# RFC 6750, section 2.1 allows less. A header needs no more than this: visible ASCII, no line breaks.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
_ERROR_CODE = re.compile(r"[a-z_]{1,64}")


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A response of a token endpoint: a 2xx, or a 4xx other than 429. Without JSON in a 4xx, `members` is empty."""

    status: int
    members: Mapping[str, Any] = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Return whether the status is a 2xx."""
        return self.status < 300

    @property
    def error_code(self) -> str:
        """Return the OAuth error code (RFC 6749, section 5.2), or a phrase if there is none."""
        return error_code(self.members.get("error"))


@dataclass(frozen=True, slots=True)
class DownloadToken:
    """A token that lets its bearer fetch one object for a short time. Opaque: it may hold any character."""

    token: str = field(repr=False)
    expires_in: float


def read_download_token(response: UpstreamResponse, default_seconds: float, now: datetime) -> DownloadToken:
    """Return the download token of a successful response, with its life by `now`.

    Raises UnusableResponseFailure for one without a usable token, or with one that has expired.
    """
    payload = response.json_object()
    token = payload.get("token")
    if not isinstance(token, str) or not 0 < len(token) <= _MAX_TOKEN_CHARACTERS or re.search(r"[\r\n\0]", token):
        raise UnusableResponseFailure("there is no usable token in the response", status=response.status)
    expires_at = parse_timestamp(payload.get("expires_at"))
    if expires_at is not None:
        seconds = (expires_at - now).total_seconds()
    else:
        seconds = parse_seconds(payload.get("expires_in_seconds")) or default_seconds
    if seconds <= 0:
        raise UnusableResponseFailure("the token has already expired", status=response.status)
    return DownloadToken(token, seconds)


def read_service_token(response: TokenResponse, asked_at: float) -> IssuedToken:
    """Return the service token of a successful response; raises UnusableResponseFailure if there is no usable one."""
    access_token, life = response.members.get("access_token"), response.members.get("expires_in")
    expires_in = DEFAULT_TOKEN_SECONDS if life is None else parse_seconds(life)
    if not is_bearer_token(access_token) or expires_in is None:
        raise UnusableResponseFailure("access_token or expires_in is unusable", status=response.status)
    return IssuedToken(str(access_token), issued_at=asked_at, expires_in=expires_in)


def is_bearer_token(value: object) -> bool:
    """Return whether an Authorization header can carry this value."""
    return isinstance(value, str) and len(value) <= _MAX_TOKEN_CHARACTERS and bool(_HEADER_SAFE.fullmatch(value))


def error_code(code: object) -> str:
    """Return an OAuth error code, or a phrase for anything else: a callback may hold anything."""
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else "an unknown error"


def parse_seconds(value: object) -> float | None:
    """Return a positive, finite number of seconds, also from a decimal string; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[ \t]*[0-9]{1,12}(\.[0-9]{1,12})?[ \t]*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Bounded before it becomes a float: JSON's integers may be larger than any float.
    return float(min(value, MAX_LIFE_SECONDS)) if value > 0 else None
