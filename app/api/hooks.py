"""What happens before and after each view, in one place and in this order, so that new routes are covered too."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import structlog
from flask import Flask, Response, g, request

from app.api import guard, tracing
from app.api.context import EXTENSION
from app.api.fair_share import RequestsInProgress
from app.api.requests import require_short_headers
from app.bootstrap import Gateway
from app.config import Settings
from app.domain.security_headers import security_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def register(app: Flask, settings: Settings) -> None:
    """Act on every request of `app`. Call this before any other hook is registered."""
    here = cast(Gateway, app.extensions[EXTENSION])
    in_progress = RequestsInProgress()
    with_headers = _with_headers(app.wsgi_app, security_headers(is_https=settings.is_https))
    app.wsgi_app = in_progress.until_complete(with_headers)  # type: ignore[assignment, method-assign]

    @app.before_request
    def _before() -> Response | None:
        environ = request.environ
        g.trace = trace = tracing.begin(request.method, request.path, environ)
        require_short_headers(environ)
        return guard.check(here, trace, environ, in_progress)

    @app.after_request
    def _after(response: Response) -> Response:
        environ, trace = request.environ, g.trace
        guard.add_headers(response, trace, environ, settings)
        in_progress.note(environ, response)
        tracing.end(trace, environ, response)
        return response

    @app.teardown_request
    def _forget(_error: BaseException | None) -> None:
        structlog.contextvars.clear_contextvars()


def _with_headers(wsgi_app: "WSGIApplication", headers: Mapping[str, str]) -> "WSGIApplication":
    """Return the application with these headers in each response that does not set them itself."""

    def with_headers(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def start(status: str, given: list[tuple[str, str]], *exc_info: Any) -> Any:
            present = {name.lower() for name, _ in given}
            missing = [(name, value) for name, value in headers.items() if name.lower() not in present]
            return start_response(status, given + missing, *exc_info)

        return wsgi_app(environ, start)

    return with_headers
