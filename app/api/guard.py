"""Check every request before it reaches a view, so that new routes are guarded too.

In this order, a request is refused for a wrong host, no session (below `/api`), too many requests of its user, another
site (POST, PATCH and DELETE are accepted from our own pages and from clients that are not browsers), conversion that is
not enabled, and an encoded body.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Response, g, request

from app.api import conversion
from app.api.context import Trace
from app.api.fair_share import RequestsInProgress
from app.api.session import current_session
from app.bootstrap import Gateway
from app.config import Settings
from app.errors import BadHostError, CrossSiteRequestError, UnsupportedContentEncodingError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Accepted with any Host header: probes and scrapers use an address.
HOSTLESS_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_CORS_METHODS = "GET, POST, PATCH, DELETE"
_CORS_REQUEST_HEADERS = "Content-Type, If-Match, If-None-Match, Range, If-Range, X-Request-ID, X-Upload-ID, traceparent"
_CORS_EXPOSED_HEADERS = "Retry-After, ETag, X-Request-ID, Content-Disposition, Content-Range"
_PREFLIGHT_SECONDS = "600"


def check(here: Gateway, trace: Trace, environ: "WSGIEnvironment", in_progress: RequestsInProgress) -> Response | None:
    """Return the response to a preflight, and None to other requests. Raises a GatewayError if it is refused."""
    settings = here.settings
    if trace.path not in HOSTLESS_PATHS:
        _require_our_host(environ, settings)
    if trace.method == "OPTIONS" and _is_preflight(environ, settings):
        return _preflight()
    if _is_api(trace.path):
        # Also for OPTIONS: its response names the methods of a route.
        g.user_id = user_id = current_session().identity.user_id
        in_progress.enter(user_id, environ)
    if trace.method not in SAFE_METHODS:
        _require_same_site(environ, settings)
    if request.blueprint == conversion.blueprint.name:
        conversion.service()
    if "HTTP_CONTENT_ENCODING" in environ:
        _require_no_encoding(environ["HTTP_CONTENT_ENCODING"])
    return None


def add_headers(response: Response, trace: Trace, environ: Mapping[str, Any], settings: Settings) -> None:
    """Share the response with pages of the allowed origins, and forbid caching unless the view allows it."""
    if _is_api(trace.path) or trace.path.startswith("/auth/"):
        # Not by `response.vary`, which parses the header: this is done for each poll.
        named = response.headers.get("Vary", "")
        if "Cookie" not in named:
            response.headers["Vary"] = f"{named}, Cookie" if named else "Cookie"
        if settings.allowed_origins:
            _add_cors(response, environ, settings)
    response.headers.setdefault("Cache-Control", "no-store")


def _is_api(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


def _require_our_host(environ: Mapping[str, Any], settings: Settings) -> None:
    host = _without_default_port(environ.get("HTTP_HOST", ""), "https" if settings.is_https else "http")
    if host != settings.public_host:
        raise BadHostError("the Host header is not ours")


def _require_same_site(environ: Mapping[str, Any], settings: Settings) -> None:
    """Refuse unsafe requests from pages of other sites, by Fetch Metadata, or by Origin for older browsers."""
    origin = _origin(environ)
    if origin in settings.allowed_origins:
        return
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        if site not in {"same-origin", "none"}:
            raise CrossSiteRequestError("Sec-Fetch-Site is neither same-origin nor none")
        return
    if origin is not None and origin != _our_origin(settings):
        raise CrossSiteRequestError("the Origin is not ours")


def _require_no_encoding(header: str) -> None:
    """Refuse a compressed or otherwise encoded body (RFC 9110, section 8.4), which the gateway cannot decode."""
    if any(coding.strip().lower() not in {"", "identity"} for coding in header.split(",")):
        raise UnsupportedContentEncodingError("the request has a Content-Encoding")


def _our_origin(settings: Settings) -> str:
    parts = urlsplit(settings.public_base_url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _origin(environ: Mapping[str, Any]) -> str | None:
    """Return the Origin header in normal form, or None without one. An empty header is not our origin."""
    given: str | None = environ.get("HTTP_ORIGIN")
    if given is None:
        return None
    scheme, separator, host = given.lower().partition("://")
    return scheme + separator + _without_default_port(host, scheme)


def _without_default_port(host: str, scheme: str) -> str:
    """Return a host in lower case, without an empty port or the scheme's default port (RFC 9110, section 4.2.3)."""
    host = host.lower()
    name, colon, port = host.rpartition(":")
    return name if colon and port in {"", _DEFAULT_PORTS.get(scheme)} else host


def _is_preflight(environ: Mapping[str, Any], settings: Settings) -> bool:
    """Return whether this OPTIONS request is a browser's CORS preflight for a page of an allowed origin."""
    return "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ and _origin(environ) in settings.allowed_origins


def _preflight() -> Response:
    # A preflight has no cookie (Fetch standard, section 4.8), so the response must not depend on a session.
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = _CORS_METHODS
    response.headers["Access-Control-Allow-Headers"] = _CORS_REQUEST_HEADERS
    response.headers["Access-Control-Max-Age"] = _PREFLIGHT_SECONDS
    return response


def _add_cors(response: Response, environ: Mapping[str, Any], settings: Settings) -> None:
    response.vary.add("Origin")
    if _origin(environ) in settings.allowed_origins:
        response.headers["Access-Control-Allow-Origin"] = environ["HTTP_ORIGIN"]
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = _CORS_EXPOSED_HEADERS
        # With `same-origin`, the frontend's page could not read what CORS allows it to read.
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
