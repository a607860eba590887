"""The id of every request, its metrics and its log line.

The id comes from X-Request-ID if that is well-formed; otherwise it is generated. It is in the response, in every log
line of the request and in every call to an upstream. A thread serves many requests, so the log context is cleared at
the end of each.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import structlog
from flask import Response, g, request

from app.api.context import Trace
from app.metrics import request_ended
from app.server.body import SERVER_READS_ON_BYTES, end_connection

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# W3C Trace Context, version 00 (section 3.2); all-zero ids are invalid there.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


def user_hash(user_id: str) -> str:
    """Return a short name for a user in logs: the same for the same user, and not the user's id."""
    return hashlib.sha256(b"visiona-log:" + user_id.encode()).hexdigest()[:16]


def begin(method: str, path: str, environ: Mapping[str, Any]) -> Trace:
    """Return the trace of a new request, and add its ids to the log lines of this thread."""
    started = time.perf_counter()
    request_id, traceparent = environ.get("HTTP_X_REQUEST_ID", ""), environ.get("HTTP_TRACEPARENT", "")
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = secrets.token_hex(16)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    if not _TRACEPARENT.fullmatch(traceparent):
        return Trace(method, path, started, request_id)
    structlog.contextvars.bind_contextvars(trace_id=traceparent.split("-")[1])
    return Trace(method, path, started, request_id, traceparent)


def end(trace: Trace, environ: Mapping[str, Any], response: Response) -> None:
    """Add the request's id to its response, and count and log the request.

    The connection ends with the response if so much of the body may be unread (64 KB) that the server closes it.
    """
    response.headers["X-Request-ID"] = trace.request_id
    announced_bytes = request.content_length
    unread_bytes = (announced_bytes or 0) - (trace.bytes_in or 0)
    if unread_bytes >= SERVER_READS_ON_BYTES or "HTTP_TRANSFER_ENCODING" in environ:
        end_connection(environ)
    seconds = time.perf_counter() - trace.started
    # The route and not the path, which contains ids and text from the client.
    rule = request.url_rule
    route = rule.rule if rule else None
    request_ended(route, trace.method, response.status_code, trace.problem_code, seconds)
    if trace.path not in _QUIET_PATHS:
        user_id = g.get("user_id")
        log.info(
            "request",
            method=trace.method,
            route=route,
            status=response.status_code,
            problem=trace.problem_code,
            duration_ms=round(seconds * 1000, 1),
            bytes_in=announced_bytes if trace.bytes_in is None else trace.bytes_in,
            bytes_out=response.content_length,
            user=user_hash(user_id) if user_id else None,
        )
