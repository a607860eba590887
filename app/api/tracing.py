"""Every request's id, its one log line, and the headers that every answer has.

The id is taken from X-Request-ID when it is well-formed, else made; it is in the answer, in every log line of the
request and in every upstream call. A thread serves many requests, so the log context is cleared when one ends.
"""

import hashlib
import re
import time
import uuid

import structlog
from flask import Flask, Response, g, request

from app.domain.security_headers import security_headers
from app.streaming.inbound import SERVER_READS_ON_BYTES, end_connection

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# W3C Trace Context, version 00 (section 3.2); all-zero ids are invalid there.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


def user_hash(user_id: str) -> str:
    """A short name for a user in logs: the same for the same user, and not the user's id."""
    return hashlib.sha256(b"visiona-log:" + user_id.encode()).hexdigest()[:16]


def _has_much_unread() -> bool:
    """May more of the body be unread than the server reads on for (64 KB) to keep the connection?"""
    if "Transfer-Encoding" in request.headers:
        return True
    return (request.content_length or 0) - int(g.get("bytes_in", 0)) > SERVER_READS_ON_BYTES


def register(app: Flask, *, is_https: bool) -> None:
    """Trace every request of `app`. To be registered before anything else that acts on requests."""

    headers_of_every_answer = security_headers(is_https=is_https)

    @app.before_request
    def _begin() -> None:
        structlog.contextvars.clear_contextvars()
        g.started = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        traceparent = request.headers.get("traceparent", "")
        g.traceparent = traceparent if _TRACEPARENT.fullmatch(traceparent) else None
        structlog.contextvars.bind_contextvars(request_id=g.request_id)
        if g.traceparent:
            structlog.contextvars.bind_contextvars(trace_id=g.traceparent.split("-")[1])

    @app.after_request
    def _close_after_early_answer(response: Response) -> Response:
        if _has_much_unread():
            end_connection(request.environ)
        return response

    @app.after_request
    def _end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.get("request_id", "")
        present = {name.lower() for name in response.headers.keys()}  # noqa: SIM118 - pairs, otherwise
        for name, value in headers_of_every_answer.items():
            if name.lower() not in present:
                response.headers.add(name, value)
        if request.path not in _QUIET_PATHS:
            user_id = g.get("user_id")
            log.info(
                "request",
                method=request.method,
                # The route and not the path: ids stay out, and so does whatever a client writes there.
                route=request.url_rule.rule if request.url_rule else None,
                status=response.status_code,
                problem=g.get("problem_code"),
                duration_ms=round((time.perf_counter() - g.started) * 1000, 1),
                bytes_in=g.get("bytes_in", request.content_length),
                bytes_out=response.content_length,
                user=user_hash(user_id) if user_id else None,
            )
        return response

    @app.teardown_request
    def _forget(_error: BaseException | None) -> None:
        structlog.contextvars.clear_contextvars()
