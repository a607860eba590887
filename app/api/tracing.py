"""The id of every request, its log line, and the headers of every response.

The id comes from X-Request-ID if that is well-formed; otherwise it is generated. It is in the response, in every log
line of the request and in every call to an upstream. A thread serves many requests, so the log context is cleared at
the end of each.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import structlog
from flask import Flask, Response, g, request

from app.config import Settings
from app.domain.security_headers import security_headers
from app.metrics import request_ended
from app.server.body import SERVER_READS_ON_BYTES, end_connection

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# W3C Trace Context, version 00 (section 3.2); all-zero ids are invalid there.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


def user_hash(user_id: str) -> str:
    """Return a short name for a user in logs: the same for the same user, and not the user's id."""
    return hashlib.sha256(b"visiona-log:" + user_id.encode()).hexdigest()[:16]


def _has_much_unread() -> bool:
    """Return whether so much of the body may be unread (64 KB) that the server closes the connection."""
    if "Transfer-Encoding" in request.headers:
        return True
    return (request.content_length or 0) - int(g.get("bytes_in", 0)) >= SERVER_READS_ON_BYTES


def _with_headers(wsgi_app: "WSGIApplication", headers: Mapping[str, str]) -> "WSGIApplication":
    """Return the application with these headers in each response that does not set them itself."""

    def with_headers(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def start(status: str, given: list[tuple[str, str]], *exc_info: Any) -> Any:
            present = {name.lower() for name, _ in given}
            missing = [(name, value) for name, value in headers.items() if name.lower() not in present]
            return start_response(status, given + missing, *exc_info)

        return wsgi_app(environ, start)

    return with_headers


def register(app: Flask, settings: Settings) -> None:
    """Trace every request of `app`. Call this before anything else that acts on requests is registered."""
    app.wsgi_app = _with_headers(app.wsgi_app, security_headers(is_https=settings.is_https))  # type: ignore[assignment, method-assign]

    @app.before_request
    def _begin() -> None:
        structlog.contextvars.clear_contextvars()
        g.started = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        structlog.contextvars.bind_contextvars(request_id=g.request_id)
        traceparent = request.headers.get("traceparent", "")
        g.traceparent = traceparent if _TRACEPARENT.fullmatch(traceparent) else None
        if g.traceparent:
            structlog.contextvars.bind_contextvars(trace_id=g.traceparent.split("-")[1])

    @app.after_request
    def _close_after_early_response(response: Response) -> Response:
        if _has_much_unread():
            end_connection(request.environ)
        return response

    @app.after_request
    def _end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        seconds = time.perf_counter() - g.started
        route, code = request.url_rule.rule if request.url_rule else None, g.get("problem_code")
        request_ended(route, request.method, response.status_code, code, seconds)
        if request.path not in _QUIET_PATHS:
            user_id = g.get("user_id")
            log.info(
                "request",
                method=request.method,
                # The route and not the path, which contains ids and text from the client.
                route=route,
                status=response.status_code,
                problem=code,
                duration_ms=round(seconds * 1000, 1),
                bytes_in=g.get("bytes_in", request.content_length),
                bytes_out=response.content_length,
                user=user_hash(user_id) if user_id else None,
            )
        return response

    @app.teardown_request
    def _forget(_error: BaseException | None) -> None:
        structlog.contextvars.clear_contextvars()
