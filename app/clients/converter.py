"""The converter: starting, watching, listing and promoting conversion jobs.

Responses are read liberally (docs/upstreams.md has the contract). Every failure leaves as a GatewayError; this module
alone decides which one.
"""

import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from app.clients.object_keys import is_safe_object_key
from app.clients.retry import Call, Retrier, count_failure, failures_as
from app.clients.tokens import FRESH_SECONDS, ServiceTokens
from app.clients.transport import UnusableResponseFailure, Upstream, UpstreamFailure, UpstreamResponse
from app.clients.upload import UploadTransport
from app.domain.call import CallContext
from app.domain.job import Job, bounded_text, parse_job, parse_job_error
from app.errors import (
    ActiveJobConflictError,
    ConverterBusyError,
    ConverterRejectedError,
    ConverterUnavailableError,
    GatewayError,
    JobNotCompletedError,
    JobNotFoundError,
    PayloadTooLargeError,
    PromoteFailedError,
    UploadOutcomeUnknownError,
)
from app.streaming.multipart import UploadMessage, canonical_content_type
from app.streaming.progress import UploadProgress

SCOPE_WRITE = "converter:job.write"
SCOPE_READ = "converter:job.read"

#: Before a larger body, or one of unknown size, the token must be fresh. If it is refused, the body was sent in vain.
LARGE_BODY_BYTES = 64_000_000
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class ConverterConflictError(ActiveJobConflictError):
    """The converter answered that this user has a running job; `job` is None if it does not say which."""

    def __init__(self, job: Job | None) -> None:
        super().__init__("the converter answered 409")
        self.job = job


@dataclass(frozen=True, slots=True)
class Promotion:
    """Where the result of a completed job is. `object_key` is safe to ask the FAA for; the others may be unknown."""

    object_key: str
    filename: str | None
    size: int | None
    sha256: str | None
    content_type: str | None


class ConverterClient:
    """Talks to the converter. Thread-safe.

    Every method may raise ConverterBusyError (429), ConverterUnavailableError (5xx, network, unusable or unexpected
    response), ServiceClientUnauthorizedError (401 or 403 to a fresh token), DeadlineExceededError, and what getting the
    service token raises.
    """

    def __init__(self, upstream: Upstream, uploads: UploadTransport, tokens: ServiceTokens, retrier: Retrier) -> None:
        self._upstream = upstream
        self._uploads = uploads
        self._tokens = tokens
        self._retrier = retrier

    def create_job(self, message: UploadMessage, context: CallContext) -> Job:
        """Stream one upload to the converter and return the job that it started.

        Retried only while no connection was made. Raises ConverterRejectedError (400, 422), PayloadTooLargeError (413),
        ConverterConflictError (409), IDPUnavailableError (401 or 403 to a token that was not fresh), and what reading
        the client's body raises. Any other response, or none, is ConverterUnavailableError if the message was not
        whole. After a whole one it is UploadOutcomeUnknownError, because the converter, or a proxy in front of it, may
        fail after it has started the job.
        """

        def with_token(token: str) -> UpstreamResponse:
            headers = {
                "Authorization": f"Bearer {token}",
                "Content-Type": message.content_type,
                **context.correlation,
            }
            return self._retrier.run(
                Call.CREATE_JOB,
                context.deadline,
                lambda timeouts: self._uploads.post("/api/v1/jobs", message, timeouts=timeouts, headers=headers),
            )

        announced_bytes = message.progress.announced_bytes
        is_large = announced_bytes is None or announced_bytes > LARGE_BODY_BYTES
        try:
            # The body can be sent only once.
            response = self._tokens.call(
                SCOPE_WRITE,
                context,
                with_token,
                lambda response: response.refuses_token,
                is_repeatable=False,
                max_age_seconds=FRESH_SECONDS if is_large else math.inf,
            )
            if 200 <= response.status < 300:
                return _read_job(response)
        except UpstreamFailure as failure:
            count_failure(Call.CREATE_JOB, failure)
            raise _no_outcome(message.progress, f"{failure.kind}: {failure}") from failure
        raise _refusal(response) or _no_outcome(message.progress, f"an unexpected status: {response.status}")

    def get_job(self, job_id: str, context: CallContext) -> Job:
        """Return the job as it is now. Raises JobNotFoundError if the converter does not know it (any more)."""
        response = self._authorized(Call.GET_JOB, SCOPE_READ, context, "GET", f"/api/v1/jobs/{quote(job_id, safe='')}")
        if response.status == 404:
            raise JobNotFoundError("the converter answered 404")
        with failures_as(ConverterUnavailableError, Call.GET_JOB):
            _require_success(response)
            job = _read_job(response)
            if job.job_id != job_id:
                raise UnusableResponseFailure("the response is about another job", status=response.status)
            return job

    def list_jobs(self, user_id: str, context: CallContext) -> list[Job]:
        """Return the converter's list of the user's jobs in progress, in its order, without those that can't be read.

        Whose they are is decided elsewhere (`app/domain/ownership.py`).
        """
        query = {"user_id": user_id, "status": "in_progress"}
        response = self._authorized(Call.LIST_JOBS, SCOPE_READ, context, "GET", "/api/v1/jobs", query=query)
        with failures_as(ConverterUnavailableError, Call.LIST_JOBS):
            _require_success(response)
            payload = response.json()
            entries = payload.get("jobs") if isinstance(payload, dict) else payload
            if not isinstance(entries, list):
                raise UnusableResponseFailure("the response is not a list of jobs", status=response.status)
            return [job for entry in entries if (job := parse_job(entry)) is not None]

    def promote(self, job_id: str, *, tenant_id: str, user_id: str, context: CallContext) -> Promotion:
        """Have the converter hand the result of a completed job to the FAA. Repeating it gives the same result.

        Raises JobNotFoundError (404), JobNotCompletedError (409), PromoteFailedError (other 4xx, or no usable object
        key in the response).
        """
        response = self._authorized(
            Call.PROMOTE,
            SCOPE_WRITE,
            context,
            "POST",
            f"/api/v1/jobs/{quote(job_id, safe='')}/promote",
            json={"tenant_id": tenant_id, "user_id": user_id},
        )
        if response.status == 404:
            raise JobNotFoundError("the converter answered 404 to promote")
        if response.status == 409:
            raise JobNotCompletedError("the converter answered 409 to promote")
        if 400 <= response.status < 500 and response.status != 429:
            raise PromoteFailedError(f"promote answered {response.status}")
        with failures_as(ConverterUnavailableError, Call.PROMOTE):
            _require_success(response)
            payload = response.json_object()
            if payload.get("job_id") not in (None, job_id) or payload.get("user_id") not in (None, user_id):
                raise PromoteFailedError("promote's response is about another job or user")
            return _read_promotion(payload)

    def wait(self, call: Call, event: threading.Event, seconds: float) -> bool:
        """Wait for another thread's `call` (see `Bulkhead.wait`); raises ConverterUnavailableError if too many wait."""
        with failures_as(ConverterUnavailableError, call):
            return self._retrier.wait(call, event, seconds)

    def _authorized(
        self,
        call: Call,
        scope: str,
        context: CallContext,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> UpstreamResponse:
        """Make a call with a service token. If the token is refused, make it once more with a new one."""

        def with_token(token: str) -> UpstreamResponse:
            headers = {"Authorization": f"Bearer {token}", **context.correlation}
            return self._retrier.run(
                call,
                context.deadline,
                lambda timeouts: self._upstream.call(
                    method, path, timeouts=timeouts, headers=headers, query=query, json=json
                ),
            )

        with failures_as(ConverterUnavailableError, call):
            return self._tokens.call(scope, context, with_token, lambda response: response.refuses_token)


def _require_success(response: UpstreamResponse) -> None:
    if response.status == 429:
        raise _busy(response)
    if not 200 <= response.status < 300:
        raise ConverterUnavailableError(f"an unexpected status: {response.status}")


def _busy(response: UpstreamResponse) -> ConverterBusyError:
    return ConverterBusyError("the converter answered 429", retry_after_seconds=response.retry_after_seconds)


def _no_outcome(progress: UploadProgress, reason: str) -> GatewayError:
    """Return the failure for a response that says neither that there is a job nor that there is none."""
    failure = UploadOutcomeUnknownError if progress.is_whole else ConverterUnavailableError
    return failure(f"{reason} ({progress})")


def _refusal(response: UpstreamResponse) -> GatewayError | None:
    """Return the failure if the response to an upload tells that no job has started, else None."""
    if response.status == 409:
        return ConverterConflictError(parse_job(_lenient_object(response).get("active_job")))
    if response.status == 413:
        return PayloadTooLargeError(
            "the upload is larger than the converter accepts", zh_tw="上傳內容超過轉換服務可接受的大小"
        )
    if response.status in {400, 422}:
        error = parse_job_error(_lenient_object(response).get("error"))
        return ConverterRejectedError(
            upstream_code=error.code if error else "rejected", upstream_message=error.message if error else ""
        )
    return _busy(response) if response.status == 429 else None


def _lenient_object(response: UpstreamResponse) -> dict[str, Any]:
    """Return the JSON object of a refusal, or an empty one: the status alone is enough."""
    try:
        return response.json_object()
    except UnusableResponseFailure:
        return {}


def _read_job(response: UpstreamResponse) -> Job:
    job = parse_job(response.json())
    if job is None:
        raise UnusableResponseFailure("there is no job in the response", status=response.status)
    return job


def _read_promotion(payload: Mapping[str, Any]) -> Promotion:
    object_key = payload.get("object_key")
    if not isinstance(object_key, str) or not is_safe_object_key(object_key):
        raise PromoteFailedError("promote gave no usable object key")
    size, sha256 = payload.get("size"), payload.get("sha256")
    return Promotion(
        object_key=object_key,
        filename=_text(payload.get("filename")),
        size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        sha256=sha256.lower() if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None,
        content_type=canonical_content_type(_text(payload.get("content_type")) or ""),
    )


def _text(value: object) -> str | None:
    return bounded_text(value) or None if isinstance(value, str) else None
