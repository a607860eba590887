"""MC: requests for tokens and JSON documents, the gateway's service tokens, and download tokens for browsers.

`identity_provider`, which signs people in, sends its requests through this client. What MC's endpoints take and return
is in docs/upstreams.md. No token, secret or object key is ever logged; only lengths, scopes and times are.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from app import metrics
from app.clients.retry import Call, Retrier, failures_as
from app.clients.token_responses import DownloadToken, TokenResponse, read_download_token, read_service_token
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
from app.errors import (
    DownloadTokenFailedError,
    GatewayError,
    IDPMisconfiguredError,
    IDPUnavailableError,
    MCTokenUnavailableError,
    ServiceClientUnauthorizedError,
)

log = structlog.get_logger(__name__)

SCOPE_DELEGATE_DOWNLOADS = "files:download.delegate"
DEFAULT_DOWNLOAD_SECONDS = 300
_EVENT_PREFIX = "conversion.mc_token."


class MemberCenterClient:
    """Talks to MC. Thread-safe."""

    def __init__(
        self,
        upstream: Upstream,
        retrier: Retrier,
        *,
        issuer: str,
        service_authorization: str | None,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`upstream` has no base URL. `service_authorization` is the header of the requests for service tokens.

        Without it there are no service tokens and no download tokens.
        """
        self._upstream = upstream
        self._retrier = retrier
        self._issuer = issuer
        self._service_authorization = service_authorization
        self._clock = clock
        self._monotonic = monotonic
        self.tokens = ServiceTokens(self._fetch_service_token, monotonic, wait=partial(self.wait, Call.TOKEN))

    def get_json(
        self, call: Call, url: str, context: CallContext, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """GET a JSON object. Raises an UpstreamFailure for any other response, and DeadlineExceededError."""
        response = self._send(call, "GET", url, context, headers=headers)
        if response.status != 200:
            raise UnusableResponseFailure(f"status {response.status}", status=response.status)
        return response.json_object()

    def request_token(
        self,
        call: Call,
        endpoint: str,
        form: Mapping[str, str],
        authorization: str,
        context: CallContext,
        *,
        on_failure: Callable[[UpstreamFailure], None] = lambda _failure: None,
    ) -> TokenResponse:
        """POST `form` to a token endpoint (RFC 6749, section 3.2). `on_failure` is called for each try that fails.

        Raises an UpstreamFailure if the response is neither a success in JSON nor a refusal, and DeadlineExceededError.
        """
        headers = {"Authorization": authorization}
        response = self._send(call, "POST", endpoint, context, headers=headers, form=form, on_failure=on_failure)
        try:
            return TokenResponse(response.status, response.json_object())
        except UnusableResponseFailure:
            if response.status < 300:
                raise
            return TokenResponse(response.status, {})

    def wait(self, call: Call, event: threading.Event, seconds: float) -> bool:
        """Wait for another thread's `call` (see `Bulkhead.wait`); raises IDPUnavailableError if too many wait."""
        with failures_as(IDPUnavailableError, call):
            return self._retrier.wait(call, event, seconds)

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
        network, unusable response), DeadlineExceededError, and what getting the service token raises.
        """
        request = {
            "tenant_id": tenant_id,
            "user_id": user_id,
            "object_key": object_key,
            "method": "GET",
            "expires_in_seconds": expires_in_seconds,
        }
        report = _TokenLog("download-tokens", SCOPE_DELEGATE_DOWNLOADS)

        def send(service_token: str) -> UpstreamResponse:
            metrics.DOWNLOAD_TOKENS("asked").inc()
            response = self._send(
                Call.DOWNLOAD_TOKEN,
                "POST",
                self._issuer + "/file-access/download-tokens",
                context,
                headers={"Authorization": f"Bearer {service_token}"},
                json=request,
                on_failure=report.failed_try,
            )
            if response.status >= 400:
                report.warn("endpoint_error", status=response.status)
            return response

        started = self._monotonic()
        with report.failures_as(MCTokenUnavailableError, Call.DOWNLOAD_TOKEN):
            response = self.tokens.call(
                SCOPE_DELEGATE_DOWNLOADS, context, send, lambda response: response.refuses_token, is_repeatable=False
            )
            if response.status >= 400:
                raise DownloadTokenFailedError(f"download-tokens answered {response.status}")
            download = read_download_token(response, expires_in_seconds, self._clock())
        metrics.DOWNLOAD_TOKENS("obtained").inc()
        report.obtained("delegated_obtained", download.token, download.expires_in, self._monotonic() - started)
        return download

    def _fetch_service_token(self, scope: str, context: CallContext) -> IssuedToken:
        report = _TokenLog("token", scope)
        # A token's life is counted from before it was asked for: the time on the way must not lengthen it.
        asked_at = self._monotonic()
        with report.failures_as(IDPUnavailableError, Call.TOKEN):
            response = self.request_token(
                Call.TOKEN,
                self._issuer + "/oauth/token",
                {"grant_type": "client_credentials", "scope": scope},
                self._service_authorization or "",
                context,
                on_failure=report.failed_try,
            )
            if not response.is_success:
                report.warn("endpoint_error", status=response.status)
                error = ServiceClientUnauthorizedError if response.status in {401, 403} else IDPMisconfiguredError
                raise error(f"the token endpoint answered {response.status}, {response.error_code}")
            token = read_service_token(response, asked_at)
        report.obtained("obtained", token.access_token, token.expires_in, self._monotonic() - asked_at)
        return token

    def _send(
        self,
        call: Call,
        method: str,
        url: str,
        context: CallContext,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Any = None,
        on_failure: Callable[[UpstreamFailure], None] = lambda _failure: None,
    ) -> UpstreamResponse:
        """Return a response whose status is a 2xx or a 4xx other than 429. Raises an UpstreamFailure for any other."""

        def send(timeouts: Timeouts) -> UpstreamResponse:
            return self._upstream.call(
                method,
                url,
                timeouts=timeouts,
                headers={"Accept": "application/json", **context.correlation, **(headers or {})},
                form=form,
                json=json,
            )

        response = self._retrier.run(call, context.deadline, send, on_failure=on_failure)
        if response.status == 429:
            # MC asks us to wait; nothing is wrong with the request. It is not retried at once.
            raise response.as_failure()
        if not (200 <= response.status < 300 or response.status >= 400):
            # A redirect is not followed: it would carry codes and secrets to wherever it points.
            raise UnusableResponseFailure(f"status {response.status}", status=response.status)
        return response


class _TokenLog:
    """Logs one request for a token: each try that failed, with its number, and the outcome."""

    def __init__(self, endpoint: str, scope: str) -> None:
        self._endpoint = endpoint
        self._scope = scope
        self._tries = 0

    def failed_try(self, failure: UpstreamFailure) -> None:
        self._tries += 1
        if isinstance(failure, ServerFailure):
            event = "endpoint_error"
        elif isinstance(failure, BodyCutFailure):
            event = "body_read_failed"
        else:
            event = "invalid_shape" if isinstance(failure, UnusableResponseFailure) else "network_error"
        self.warn(event, try_number=self._tries, kind=failure.kind, status=failure.status)

    @contextmanager
    def failures_as(self, error: type[GatewayError], call: Call) -> Iterator[None]:
        """Raise `error` for an UpstreamFailure, logged as the last one."""
        with failures_as(error, call):
            try:
                yield
            except UpstreamFailure as failure:
                if isinstance(failure, NotJSONFailure):
                    event = "parse_failed"
                else:
                    event = "invalid_shape" if isinstance(failure, UnusableResponseFailure) else "retry_exhausted"
                self.warn(event, kind=failure.kind, status=failure.status)
                raise

    def obtained(self, event: str, token: str, expires_in: float, seconds: float) -> None:
        name = _EVENT_PREFIX + event
        log.info(
            name,
            endpoint=self._endpoint,
            scope=self._scope,
            token_len=len(token),
            expires_in=round(expires_in),
            duration=round(seconds, 3),
        )

    def warn(self, event: str, **details: object) -> None:
        name = _EVENT_PREFIX + event
        log.warning(name, endpoint=self._endpoint, scope=self._scope, **details)
