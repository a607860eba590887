"""Access for views: the gateway that the composition root built, and the context of the request's upstream calls."""

from typing import cast

from flask import Flask, current_app, g, request

from app.bootstrap import Gateway
from app.domain.call import CallContext, Deadline

EXTENSION = "visiona"


def gateway() -> Gateway:
    """Return the gateway of the current application."""
    # By the application itself: each look through Flask's proxies costs as much as all the rest of this.
    application: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return cast(Gateway, application.extensions[EXTENSION])


def call_context() -> CallContext:
    """Return this request's deadline and correlation headers; the deadline runs from the first time it is asked for."""
    context = g._get_current_object()
    if "call_context" not in context:
        here = gateway()
        correlation = {"X-Request-ID": context.request_id}
        if context.get("traceparent"):
            correlation["traceparent"] = context.traceparent
        deadline = Deadline(here.settings.request_deadline_seconds, here.monotonic)
        context.call_context = CallContext(deadline, correlation)
    return cast(CallContext, context.call_context)


def is_api_path(path: str | None = None) -> bool:
    """Is this request for the API, where the caller is a program even if its Accept header says otherwise?

    Whoever has the request's path at hand may say it.
    """
    path = request.path if path is None else path
    return path == "/api" or path.startswith("/api/")
