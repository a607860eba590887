"""Health, readiness and metrics, for operators and their monitoring."""

import structlog
from flask import Blueprint, Response, jsonify, request

from app import metrics
from app.api.context import gateway
from app.clients.health import Experience
from app.clients.retry import UPSTREAMS
from app.server.draining import is_draining
from app.services.readiness import OK

log = structlog.get_logger(__name__)

_INCOMPLETE = "Each worker counts for itself: set PROMETHEUS_MULTIPROC_DIR (see docs/operations.md)."

blueprint = Blueprint("operations", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Return 200 while the process is alive. Nothing else is checked."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Return whether this process can serve. Its own parts decide that; the upstreams are only shown."""
    here = gateway()
    states = here.readiness.states()
    is_ready = all(state == OK for state in states.values()) and not is_draining()
    status = "draining" if is_draining() else "ready" if is_ready else "unavailable"
    response = jsonify(
        status=status,
        checks=states,
        conversion="enabled" if here.conversions else "disabled",
        upstreams={name: _experience(here.upstream_health.last(name)) for name in UPSTREAMS},
    )
    response.status_code = 200 if is_ready else 503
    return response


@blueprint.get("/metrics")
def show_metrics() -> Response:
    """Return the metrics of all workers, for Prometheus. deploy/nginx.conf does not let the public see them."""
    is_one_of_several = bool(request.environ.get("wsgi.multiprocess"))
    try:
        text, content_type = metrics.exposition(request.headers.get("Accept", ""), is_one_of_several=is_one_of_several)
    except metrics.IncompleteMetricsError:
        log.warning("metrics.incomplete", problem=_INCOMPLETE)
        text, content_type = f"{_INCOMPLETE}\n".encode(), "text/plain; charset=utf-8"
        return Response(text, status=503, content_type=content_type)
    return Response(text, content_type=content_type)


def _experience(last: Experience | None) -> dict[str, object]:
    if last is None:
        return {"last": None, "seconds_ago": None}
    return {"last": last.outcome, "seconds_ago": round(last.seconds_ago, 1)}
