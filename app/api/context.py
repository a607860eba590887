"""Access for views: the gateway that the composition root built, and the request's id and context of upstream calls."""

from dataclasses import dataclass
from typing import cast

from flask import current_app, g

from app.bootstrap import Gateway
from app.domain.call import CallContext, Deadline

EXTENSION = "visiona"


@dataclass(slots=True)
class Trace:
    """What identifies the current request to upstreams and in the log, and what its log line reports."""

    method: str
    path: str
    started: float
    request_id: str
    traceparent: str | None = None
    problem_code: str | None = None
    #: The received bytes of an upload. Other requests have Content-Length.
    bytes_in: int | None = None

    @property
    def correlation(self) -> dict[str, str]:
        """The headers with which upstreams can find the request."""
        ids = {"X-Request-ID": self.request_id}
        return ids | {"traceparent": self.traceparent} if self.traceparent else ids


def gateway() -> Gateway:
    """Return the gateway of the current application."""
    return cast(Gateway, current_app.extensions[EXTENSION])


def call_context() -> CallContext:
    """Return this request's deadline and correlation headers; the deadline runs from the first time it is asked for."""
    context: CallContext | None = g.get("call_context")
    if context is None:
        here = gateway()
        deadline = Deadline(here.settings.request_deadline_seconds, here.monotonic)
        context = g.call_context = CallContext(deadline, trace().correlation)
    return context


def trace() -> Trace:
    """Return the trace of this request."""
    return cast(Trace, g.trace)
