"""Access for views: the gateway that the composition root built, and the context of the request's upstream calls."""

from typing import cast

from flask import current_app, g, request

from app.bootstrap import Gateway
from app.domain.call import CallContext, Deadline

EXTENSION = "visiona"


def gateway() -> Gateway:
    """Return the gateway of the current application."""
    return cast(Gateway, current_app.extensions[EXTENSION])


def call_context() -> CallContext:
    """Return this request's deadline and correlation headers; the deadline runs from the first time it is asked for."""
    if "call_context" not in g:
        here = gateway()
        correlation = {"X-Request-ID": g.request_id}
        if g.get("traceparent"):
            correlation["traceparent"] = g.traceparent
        deadline = Deadline(here.settings.request_deadline_seconds, here.monotonic)
        g.call_context = CallContext(deadline, correlation)
    return cast(CallContext, g.call_context)


def is_api_path() -> bool:
    """Return whether this request is for the API, where callers are programs, whatever their Accept header says."""
    return request.path == "/api" or request.path.startswith("/api/")
