"""Failures as answers: RFC 9457 problem documents in the caller's language, from the one catalogue.

Every failure that leaves the gateway passes `problem_response`, and is logged there, once.
"""

import math
from typing import Any

import structlog
from flask import Flask, Response, g, json, request
from werkzeug.datastructures import LanguageAccept
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from app import metrics
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
    """The language of this answer: `zh-TW` where the caller prefers any Chinese, else `en`."""
    if len(request.environ.get("HTTP_ACCEPT_LANGUAGE", "")) > MAX_HEADER_BYTES:
        return "en"
    accepted: LanguageAccept = request.accept_languages
    for tag, quality in accepted:
        if quality <= 0:
            continue
        primary = tag.split("-", 1)[0].lower()
        if primary == "zh":
            return "zh-TW"
        if primary == "en":
            return "en"
    return "en"


def request_id() -> str:
    """The id that finds this request in the logs."""
    return str(g.get("request_id", ""))


def problem_document(error: GatewayError) -> dict[str, Any]:
    """The members of the problem document for `error`, in the caller's language."""
    return {
        **error.entry.as_problem(language(), texts=error.texts, request_id=request_id()),
        **{name: as_document(value) for name, value in error.extensions.items()},
    }


def problem_response(error: GatewayError) -> Response:
    """Answer with the problem document for `error`, and log the failure."""
    g.problem_code = error.code
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
    """Translate what routing and request parsing raise into our own failures."""
    if isinstance(error, MethodNotAllowed):
        return MethodNotAllowedError(allowed=tuple(error.valid_methods or ()))
    by_status: dict[int, GatewayError] = {
        404: NotFoundError(),
        413: PayloadTooLargeError("the request body is larger than this address takes"),
        415: UnsupportedMediaTypeError(),
    }
    if error.code in by_status:
        return by_status[error.code]
    if error.code is not None and 400 <= error.code < 500:
        return InvalidRequestError("it is not well-formed HTTP or JSON")
    return InternalError(f"HTTP exception {error.code}")


def not_found_for_path(path: str) -> GatewayError:
    """The 404 of a path below a job or a model: the same as for an absent one, whatever the path's tail is."""
    if path.startswith("/api/conversion/"):
        return JobNotFoundError("the path has no route")
    if path.startswith("/api/models/"):
        return ModelNotFoundError("the path has no route")
    return NotFoundError()


def register(app: Flask) -> None:
    """Make every failure of `app` leave as a problem document."""
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
        # The message of a foreign exception may hold anything; the redactor goes over it as over every line.
        log.error("request.crashed", exc_info=error)
        return problem_response(InternalError(type(error).__name__))
