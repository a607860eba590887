"""MC as the gateway's services use it: tokens for our own calls, and download tokens for the browser's.

Signing people in is not here: that is the edge's business (`app/api/signin.py`). No token, secret or object key is
ever logged; only lengths, scopes and times are.
"""

import itertools
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import structlog

from app import metrics
from app.clients.retry import Call, Retrier, count_failure
from app.clients.tokens import IssuedToken, ServiceTokens
from app.clients.transport import (
    BodyCutFailure,
    NotJSONFailure,
    ServerFailure,
    Timeouts,
    UnusableResponseFailure,
    Upstream,
    UpstreamFailure,
    UpstreamResponse,
)
from app.domain.call import CallContext
from app.domain.job import parse_timestamp
from app.errors import (
    DownloadTokenFailedError,
    IDPMisconfiguredError,
    IDPUnavailableError,
    MCTokenUnavailableError,
    ServiceClientUnauthorizedError,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

SCOPE_DELEGATE_DOWNLOADS = "files:download.delegate"
DEFAULT_DOWNLOAD_SECONDS = 300
#: How long a token lives whose answer doesn't say: `expires_in` is optional (RFC 6749, section 5.1).
DEFAULT_TOKEN_SECONDS = 60.0
_MAX_TOKEN_CHARACTERS = 16 * 1024
#: RFC 6750, section 2.1 says less, but all that a header needs is: visible ASCII, no line breaks.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
#: The longest life that is believed; what says more is refreshed daily anyway.
_MAX_LIFE_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class DownloadToken:
    """A token that lets its bearer fetch one object for a short time. Opaque: it may hold any character."""

    token: str = field(repr=False)
    expires_in: float


class MemberCenterClient:
    """Talks to MC on behalf of the gateway itself. Thread-safe."""

    def __init__(
        self,
        upstream: Upstream,
        retrier: Retrier,
        *,
        authorization: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`authorization` is the header of the token requests."""
        self._upstream = upstream
        self._retrier = retrier
        self._authorization = authorization
        self._clock = clock
        self._monotonic = monotonic
        self.tokens = ServiceTokens(self._fetch_service_token, monotonic, wait=self._wait)

    def mint_download_token(
        self,
        *,
        tenant_id: str,
        user_id: str,
        object_key: str,
        context: CallContext,
        expires_in_seconds: int = DEFAULT_DOWNLOAD_SECONDS,
    ) -> DownloadToken:
        """Have MC sign a token with which `user_id` may GET this one object.

        Raises ServiceClientUnauthorizedError (401 or 403 to a fresh service token; one that is refused is dropped),
        IDPUnavailableError (to another one), DownloadTokenFailedError (other 4xx), MCTokenUnavailableError (5xx, 429,
        network, unusable answer), DeadlineExceededError, and whatever getting the service token raises, unchanged.
        """
        request = {
            "tenant_id": tenant_id,
            "user_id": user_id,
            "object_key": object_key,
            "method": "GET",
            "expires_in_seconds": expires_in_seconds,
        }

        def with_token(service_token: str) -> UpstreamResponse:
            metrics.DOWNLOAD_TOKENS("asked").inc()

            @_observed("download-tokens", SCOPE_DELEGATE_DOWNLOADS)
            def attempt(timeouts: Timeouts) -> UpstreamResponse:
                return self._upstream.call(
                    "POST",
                    "/file-access/download-tokens",
                    timeouts=timeouts,
                    headers={"Authorization": f"Bearer {service_token}", **context.correlation},
                    json=request,
                )

            answer = self._retrier.run(Call.DOWNLOAD_TOKEN, context.deadline, attempt)
            if 400 <= answer.status < 500:
                _log_event("endpoint_error", "download-tokens", SCOPE_DELEGATE_DOWNLOADS, status=answer.status)
            return answer

        started = self._monotonic()
        try:
            answer = self.tokens.call(
                SCOPE_DELEGATE_DOWNLOADS,
                context,
                with_token,
                lambda answer: answer.refuses_token,
                is_repeatable=False,
            )
            _require_not_limited(answer)
            if 400 <= answer.status < 500:
                raise DownloadTokenFailedError(f"download-tokens answered {answer.status}")
            download = self._read_download_token(answer, expires_in_seconds)
        except UpstreamFailure as failure:
            count_failure(Call.DOWNLOAD_TOKEN, failure)
            _log_given_up("download-tokens", SCOPE_DELEGATE_DOWNLOADS, failure)
            raise MCTokenUnavailableError(f"{failure.kind}: {failure}") from failure
        metrics.DOWNLOAD_TOKENS("obtained").inc()
        log.info(
            "conversion.mc_token.delegated_obtained",
            endpoint="download-tokens",
            token_len=len(download.token),
            expires_in=round(download.expires_in),
            duration=round(self._monotonic() - started, 3),
        )
        return download

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for the service token that another thread fetches; raises IDPUnavailableError if too many wait."""
        try:
            return self._retrier.bulkheads[Call.TOKEN.upstream].wait(Call.TOKEN, event, seconds)
        except UpstreamFailure as failure:
            raise IDPUnavailableError(f"{failure.kind}: {failure}") from failure

    def _fetch_service_token(self, scope: str, context: CallContext) -> IssuedToken:
        @_observed("token", scope)
        def attempt(timeouts: Timeouts) -> tuple[UpstreamResponse, float]:
            asked_at = self._monotonic()
            answer = self._upstream.call(
                "POST",
                "/oauth/token",
                timeouts=timeouts,
                headers={"Authorization": self._authorization, **context.correlation},
                form={"grant_type": "client_credentials", "scope": scope},
            )
            return answer, asked_at

        started = self._monotonic()
        try:
            # A token's life is counted from before it was asked for: the answer's way must not lengthen it.
            answer, asked_at = self._retrier.run(Call.TOKEN, context.deadline, attempt)
            _require_not_limited(answer)
            if answer.status in {401, 403}:
                _log_event("endpoint_error", "token", scope, status=answer.status)
                raise ServiceClientUnauthorizedError(f"the token endpoint answered {answer.status}")
            if 400 <= answer.status < 500:
                _log_event("endpoint_error", "token", scope, status=answer.status)
                raise IDPMisconfiguredError(f"the token endpoint answered {answer.status}")
            token = _read_service_token(answer, asked_at)
        except UpstreamFailure as failure:
            count_failure(Call.TOKEN, failure)
            _log_given_up("token", scope, failure)
            raise IDPUnavailableError(
                f"{failure.kind}: {failure}", retry_after_seconds=failure.retry_after_seconds
            ) from failure
        log.info(
            "conversion.mc_token.obtained",
            endpoint="token",
            scope=scope,
            token_len=len(token.access_token),
            expires_in=round(token.expires_in),
            duration=round(self._monotonic() - started, 3),
        )
        return token

    def _read_download_token(self, answer: UpstreamResponse, default_seconds: float) -> DownloadToken:
        if not 200 <= answer.status < 300:
            raise UnusableResponseFailure(f"status {answer.status}", status=answer.status)
        payload = answer.json_object()
        token = payload.get("token")
        if not isinstance(token, str) or not 0 < len(token) <= _MAX_TOKEN_CHARACTERS or re.search(r"[\r\n\0]", token):
            raise UnusableResponseFailure("there is no usable token in the answer", status=answer.status)
        seconds = self._life(payload, default_seconds)
        if seconds <= 0:
            raise UnusableResponseFailure("the token has already expired", status=answer.status)
        return DownloadToken(token, seconds)

    def _life(self, payload: dict[str, Any], default_seconds: float) -> float:
        expires_at = parse_timestamp(payload.get("expires_at"))
        if expires_at is not None:
            return (expires_at - self._clock()).total_seconds()
        return parse_seconds(payload.get("expires_in_seconds")) or default_seconds


def parse_seconds(value: object) -> float | None:
    """A positive, finite number of seconds, also as a decimal string; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[ \t]*[0-9]{1,12}(\.[0-9]{1,12})?[ \t]*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Bounded before it becomes a float: JSON's integers may be larger than any float.
    return float(min(value, _MAX_LIFE_SECONDS)) if value > 0 else None


def _require_not_limited(answer: UpstreamResponse) -> None:
    """Raise ServerFailure if MC asks us to wait (429): nothing is wrong with the request. It is not retried at once."""
    if answer.status == 429:
        raise answer.as_failure()


def _read_service_token(answer: UpstreamResponse, asked_at: float) -> IssuedToken:
    if not 200 <= answer.status < 300:
        raise UnusableResponseFailure(f"status {answer.status}", status=answer.status)
    payload = answer.json_object()
    access_token, life = payload.get("access_token"), payload.get("expires_in")
    expires_in = DEFAULT_TOKEN_SECONDS if life is None else parse_seconds(life)
    if not isinstance(access_token, str) or len(access_token) > _MAX_TOKEN_CHARACTERS:
        raise UnusableResponseFailure("there is no usable access_token in the answer", status=answer.status)
    if not _HEADER_SAFE.fullmatch(access_token) or expires_in is None:
        raise UnusableResponseFailure("access_token or expires_in is unusable", status=answer.status)
    return IssuedToken(access_token, issued_at=asked_at, expires_in=expires_in)


def _observed(endpoint: str, scope: str) -> Callable[[Callable[[Timeouts], T]], Callable[[Timeouts], T]]:
    """Log every try that fails, with its number; the decorated function is for one call of the retrier."""

    def decorate(attempt: Callable[[Timeouts], T]) -> Callable[[Timeouts], T]:
        numbers = itertools.count(1)

        def observed(timeouts: Timeouts) -> T:
            number = next(numbers)
            try:
                return attempt(timeouts)
            except UpstreamFailure as failure:
                _log_event(
                    _event_of(failure), endpoint, scope, attempt=number, kind=failure.kind, status=failure.status
                )
                raise

        return observed

    return decorate


def _event_of(failure: UpstreamFailure) -> str:
    if isinstance(failure, ServerFailure):
        return "endpoint_error"
    if isinstance(failure, BodyCutFailure):
        return "body_read_failed"
    return "invalid_shape" if isinstance(failure, UnusableResponseFailure) else "network_error"


def _log_given_up(endpoint: str, scope: str, failure: UpstreamFailure) -> None:
    if isinstance(failure, NotJSONFailure):
        event = "parse_failed"
    else:
        event = "invalid_shape" if isinstance(failure, UnusableResponseFailure) else "retry_exhausted"
    _log_event(event, endpoint, scope, kind=failure.kind, status=failure.status)


def _log_event(event: str, endpoint: str, scope: str, **details: object) -> None:
    name = "conversion.mc_token." + event
    log.warning(name, endpoint=endpoint, scope=scope, **details)
