"""What those who run the gateway ask it: is the process alive, can it serve."""

from collections.abc import Callable

import structlog
from flask import Blueprint, Response, jsonify

from app.api.context import gateway
from app.errors import GatewayError
from app.streaming.draining import is_draining

log = structlog.get_logger(__name__)

blueprint = Blueprint("operations", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers; nothing else is asked."""
    return _uncached(jsonify(status="ok"))


@blueprint.get("/readyz")
def readyz() -> Response:
    """Can this process serve? Each of its own dependencies brings its ping; upstreams do not decide."""
    here = gateway()
    checks: dict[str, Callable[[], None]] = {"database": here.checks.database, "storage": here.checks.storage}
    states = {name: _state(check) for name, check in checks.items()}
    is_ready = all(state == "ok" for state in states.values()) and not is_draining()
    status = "draining" if is_draining() else "ready" if is_ready else "unavailable"
    response = _uncached(
        jsonify(
            status=status,
            checks=states,
            conversion="enabled" if here.conversions else "disabled",
        )
    )
    response.status_code = 200 if is_ready else 503
    return response


def _state(check: Callable[[], None]) -> str:
    try:
        check()
    except GatewayError as failure:
        log.warning("readiness.failed", code=failure.code, reason=failure.reason[:200])
        return failure.code
    return "ok"


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
