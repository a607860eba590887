"""The common part of the stand-ins: a Flask application with a home page, wrapped in fault rules and a call log."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, render_template

from sandbox.calls import CallLog
from sandbox.control import control_blueprint
from sandbox.faults import FaultInjector, FindUser
from sandbox.request_body import IncompleteBodyError
from sandbox.settings import Account

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@dataclass(frozen=True)
class FirstPage:
    """The text of `GET /`: that this is a sandbox, and for which service."""

    title: str
    stands_for: str
    stands_for_zh: str
    links: tuple[tuple[str, str], ...]
    accounts: tuple[Account, ...] = ()


def new_flask(page: FirstPage) -> Flask:
    """Return an application with the common part."""
    app = Flask("sandbox")
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    # Paths are not normalized: `//` must reach the service, which refuses it. A redirect would hide it.
    app.url_map.merge_slashes = False

    @app.get("/")
    def first_page() -> str:
        return render_template("first_page.html", page=page)

    @app.errorhandler(IncompleteBodyError)
    def incomplete_body(_: IncompleteBodyError) -> tuple[Response, int]:
        return jsonify(error={"code": "incomplete_body", "message": "The request body ended early."}), 400

    return app


def wrap(app: Flask, service: str, find_user: FindUser, stopping: threading.Event) -> "WSGIApplication":
    """Return the application as it is served: with call log and fault rules."""
    wsgi_app: Any = app.wsgi_app
    injector = FaultInjector(wsgi_app, service, find_user, stopping)
    call_log = CallLog(injector, service)
    app.register_blueprint(control_blueprint(lambda: call_log, lambda: injector.rules))
    return call_log
