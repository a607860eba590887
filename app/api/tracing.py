"""The id of every request, its log line, and the headers of every response.

The id comes from X-Request-ID if that is well-formed; otherwise it is generated. It is in the response, in every log
line of the request and in every call to an upstream. A thread serves many requests, so the log context is cleared at
the end of each.
"""

import functools
import hashlib
import random
import re
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from flask import Flask, Response, g, request
from flask.globals import request_ctx

from app.domain.security_headers import security_headers
from app.metrics import request_ended
from app.server.body import SERVER_READS_ON_BYTES, end_connection

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# W3C Trace Context, version 00 (section 3.2); all-zero ids are invalid there.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# Headers whose values werkzeug looks at.
_ADDRESSES = frozenset({"location", "content-location"})
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


@functools.lru_cache(maxsize=1_024)
def user_hash(user_id: str) -> str:
    """A short name for a user in logs: the same for the same user, and not the user's id."""
    return hashlib.sha256(b"visiona-log:" + user_id.encode()).hexdigest()[:16]


def _new_request_id() -> str:
    # No secret, and `random` seeds itself anew in each worker: what `secrets` costs besides is a system call, at which
    # another thread takes the interpreter.
    return f"{random.getrandbits(128):032x}"


def _has_much_unread() -> bool:
    """May more of the body be unread than the server reads on for (64 KB) to keep the connection?"""
    environ = request.environ
    if "HTTP_TRANSFER_ENCODING" in environ:
        return True
    # Most requests have no body, and nothing to be looked at.
    return bool(environ.get("CONTENT_LENGTH")) and (
        (request.content_length or 0) - int(g.get("bytes_in", 0)) > SERVER_READS_ON_BYTES
    )


def response_class(*, is_https: bool) -> type[Response]:
    """Make the class of all answers of an application: each leaves with the security headers that it does not set."""
    by_name = [(name.lower(), (name, value)) for name, value in security_headers(is_https=is_https).items()]

    class GatewayResponse(Response):
        def get_wsgi_response(self, environ: "WSGIEnvironment") -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
            # On the plain list, as the last thing: headers in werkzeug's form cost as much as all the rest of a poll.
            present = {name.lower() for name, _ in self.headers}
            if self.status_code == HTTPStatus.OK and "content-length" in present and present.isdisjoint(_ADDRESSES):
                # There is nothing left for werkzeug to complete.
                body, status, headers = self.get_app_iter(environ), self.status, list(self.headers)
            else:
                body, status, headers = super().get_wsgi_response(environ)
            headers += [header for name, header in by_name if name not in present]
            return body, status, headers

    return GatewayResponse


def register(app: Flask) -> None:
    """Trace every request of `app`. To be registered before anything else that acts on requests."""

    @app.before_request
    def _begin() -> None:
        structlog.contextvars.clear_contextvars()
        context, environ = g._get_current_object(), request.environ
        context.started = time.perf_counter()
        given = environ.get("HTTP_X_REQUEST_ID", "")
        context.request_id = given if _REQUEST_ID.fullmatch(given) else _new_request_id()
        traceparent = environ.get("HTTP_TRACEPARENT", "")
        context.traceparent = traceparent if _TRACEPARENT.fullmatch(traceparent) else None
        if context.traceparent:
            trace_id = context.traceparent.split("-")[1]
            structlog.contextvars.bind_contextvars(request_id=context.request_id, trace_id=trace_id)
        else:
            structlog.contextvars.bind_contextvars(request_id=context.request_id)

    @app.after_request
    def _close_after_early_answer(response: Response) -> Response:
        if _has_much_unread():
            end_connection(request.environ)
        return response

    @app.after_request
    def _end(response: Response) -> Response:
        context, asked = g._get_current_object(), request_ctx.request
        response.headers.add("X-Request-ID", context.get("request_id", ""))
        seconds = time.perf_counter() - context.started
        route, code = asked.url_rule.rule if asked.url_rule else None, context.get("problem_code")
        request_ended(route, asked.method, response.status_code, code, seconds)
        if asked.path not in _QUIET_PATHS:
            user_id = context.get("user_id")
            log.info(
                "request",
                method=asked.method,
                # The route and not the path, which contains ids and text from the client.
                route=route,
                status=response.status_code,
                problem=code,
                duration_ms=round(seconds * 1000, 1),
                bytes_in=context.get("bytes_in", asked.content_length),
                bytes_out=response.content_length,
                user=user_hash(user_id) if user_id else None,
            )
        return response

    @app.teardown_request
    def _forget(_error: BaseException | None) -> None:
        structlog.contextvars.clear_contextvars()
