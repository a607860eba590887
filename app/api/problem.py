"""Respond to failures with RFC 9457 problem documents in the caller's language, from the error catalog.

Each failure is logged once, in `problem_response`.
"""

import math
from functools import lru_cache
from typing import Any

import structlog
from flask import Flask, Response, g, json, request
from werkzeug.datastructures import LanguageAccept
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.http import parse_accept_header

from app import metrics
from app.api.context import trace
from app.api.documents import as_document
from app.api.requests import MAX_HEADER_BYTES
from app.errors import (
    Blame,
    GatewayError,
    InternalError,
    InvalidRequestError,
    JobNotFoundError,
    MethodNotAllowedError,
    ModelNotFoundError,
    NotFoundError,
    PayloadTooLargeError,
    RangeNotSatisfiableError,
    UnsupportedContentEncodingError,
    UnsupportedMediaTypeError,
    catalogue,
)

log = structlog.get_logger(__name__)

_LEVELS = {Blame.USER: "info", Blame.UPSTREAM: "warning", Blame.GATEWAY: "error"}
_MAX_REASON_CHARACTERS = 200


def language() -> str:
    """Return the language of this response: `zh-TW` if the caller prefers any Chinese, else `en`."""
    header = request.environ.get("HTTP_ACCEPT_LANGUAGE", "")
    return "en" if len(header) > MAX_HEADER_BYTES else _preferred(header)


@lru_cache(maxsize=256)
def _preferred(accept_language: str) -> str:
    # Polls need it each time, and browsers send few different headers.
    for tag, quality in parse_accept_header(accept_language, LanguageAccept):
        if quality <= 0:
            continue
        primary = tag.split("-", 1)[0].lower()
        if primary == "zh":
            return "zh-TW"
        if primary == "en":
            return "en"
    return "en"


def request_id() -> str:
    """Return the id that this request has in the logs."""
    return trace().request_id


def problem_document(error: GatewayError) -> dict[str, Any]:
    """Return the members of the problem document for `error`, in the caller's language."""
    return {
        **error.entry.as_problem(language(), texts=error.texts, request_id=request_id()),
        **{name: as_document(value, language()) for name, value in error.extensions.items()},
    }


def problem_response(error: GatewayError) -> Response:
    """Return the response with the problem document for `error`, and log the failure.

    The console may turn the response into a page (`app/console/problem_page.py`), which needs the failure.
    """
    g.failure = error
    trace().problem_code = error.code
    metrics.FAILURES(error.code, error.entry.blame.value).inc()
    _log(error)
    document = problem_document(error)
    response = Response(
        json.dumps(document, separators=(",", ":")), status=document["status"], mimetype="application/problem+json"
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Language"] = language()
    response.headers["Vary"] = "Accept-Language, Cookie"
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if isinstance(error, MethodNotAllowedError) and error.allowed:
        response.headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, UnsupportedContentEncodingError):
        response.headers["Accept-Encoding"] = "identity"
    if isinstance(error, RangeNotSatisfiableError):
        response.headers["Content-Range"] = f"bytes */{error.size}"
    return response


def _log(error: GatewayError) -> None:
    level = _LEVELS[error.entry.blame]
    getattr(log, level)(
        "request.refused" if error.entry.blame is Blame.USER else "request.failed",
        failure=type(error).__name__,
        code=error.code,
        reason=error.reason[:_MAX_REASON_CHARACTERS],
        cause=type(error.__cause__).__name__ if error.__cause__ else None,
    )


def from_http_exception(error: HTTPException) -> GatewayError:
    """Translate an exception of werkzeug's routing or request parsing into a failure of the gateway."""
    if isinstance(error, MethodNotAllowed):
        return MethodNotAllowedError(allowed=tuple(error.valid_methods or ()))
    by_status: dict[int, GatewayError] = {
        404: NotFoundError(),
        413: PayloadTooLargeError("the request body is larger than this address accepts"),
        415: UnsupportedMediaTypeError(),
    }
    if error.code in by_status:
        return by_status[error.code]
    if error.code is not None and 400 <= error.code < 500:
        return InvalidRequestError("it is not well-formed HTTP or JSON")
    return InternalError(f"HTTP exception {error.code}")


def not_found_for_path(path: str) -> GatewayError:
    """Return the failure for a path without a route: below a job or a model, the one for an absent job or model."""
    if path.startswith("/api/conversion/"):
        return JobNotFoundError("the path has no route")
    if path.startswith("/api/models/"):
        return ModelNotFoundError("the path has no route")
    return NotFoundError()


def register(app: Flask) -> None:
    """Turn each failure of a request to `app` into a problem document."""
    for entry in catalogue().values():
        metrics.FAILURES(entry.code, entry.blame.value)

    @app.errorhandler(GatewayError)
    def _gateway_error(error: GatewayError) -> Response:
        return problem_response(error)

    @app.errorhandler(HTTPException)
    def _http_exception(error: HTTPException) -> Response:
        translated = from_http_exception(error)
        if isinstance(translated, NotFoundError):
            translated = not_found_for_path(request.path)
        return problem_response(translated)

    @app.errorhandler(Exception)
    def _crash(error: Exception) -> Response:
        # The message of such an exception may contain anything; the log's redactor removes secrets from it.
        log.error("request.crashed", exc_info=error)
        return problem_response(InternalError(type(error).__name__))
