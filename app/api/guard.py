"""Check every request before it reaches a view, so that new routes are guarded too.

In this order, a request is refused for a wrong host, no session (below `/api`), too many requests of its user, another
site (POST, PATCH and DELETE are accepted from our own pages and from clients that are not browsers), conversion that is
not enabled, and an encoded body.
"""

from urllib.parse import urlsplit

from flask import Flask, Response, g, request

from app.api import conversion, fair_share
from app.api.context import gateway, is_api_path
from app.api.session import current_session
from app.errors import BadHostError, CrossSiteRequestError, UnsupportedContentEncodingError

#: Accepted with any Host header: probes and scrapers use an address.
HOSTLESS_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_CORS_METHODS = "GET, POST, PATCH, DELETE"
_CORS_REQUEST_HEADERS = "Content-Type, If-Match, If-None-Match, Range, If-Range, X-Request-ID, traceparent"
_CORS_EXPOSED_HEADERS = "Retry-After, ETag, X-Request-ID, Content-Disposition, Content-Range"
_PREFLIGHT_SECONDS = "600"


def register(app: Flask) -> None:
    """Guard every request of `app`."""
    count_for_user = fair_share.register(app)

    @app.before_request
    def _guard() -> Response | None:
        if request.path not in HOSTLESS_PATHS:
            _require_our_host()
        if request.method == "OPTIONS" and _is_preflight():
            return _preflight()
        if is_api_path():
            # Also for OPTIONS: its response names the methods of a route.
            g.user_id = current_session().identity.user_id
            count_for_user(g.user_id)
        if request.method not in SAFE_METHODS:
            _require_same_site()
        if request.blueprint == conversion.blueprint.name:
            conversion.service()
        _require_no_encoding(request.headers.get("Content-Encoding", ""))
        return None

    @app.after_request
    def _share_with_allowed_origins(response: Response) -> Response:
        if is_api_path() or request.path.startswith("/auth/"):
            response.vary.add("Cookie")
            _add_cors(response)
        return response

    @app.after_request
    def _forbid_caching(response: Response) -> Response:
        """Say that the response must not be stored, unless the view has said otherwise."""
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _require_our_host() -> None:
    settings = gateway().settings
    host = _without_default_port(request.headers.get("Host", ""), "https" if settings.is_https else "http")
    if host != settings.public_host:
        raise BadHostError("the Host header is not ours")


def _require_same_site() -> None:
    """Refuse unsafe requests from pages of other sites, by Fetch Metadata, or by Origin for older browsers."""
    origin = _origin()
    if origin in gateway().settings.allowed_origins:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site not in {"same-origin", "none"}:
            raise CrossSiteRequestError("Sec-Fetch-Site is neither same-origin nor none")
        return
    if origin is not None and origin != _our_origin():
        raise CrossSiteRequestError("the Origin is not ours")


def _require_no_encoding(header: str) -> None:
    """Refuse a compressed or otherwise encoded body (RFC 9110, section 8.4), which the gateway cannot decode."""
    if any(coding.strip().lower() not in {"", "identity"} for coding in header.split(",")):
        raise UnsupportedContentEncodingError("the request has a Content-Encoding")


def _our_origin() -> str:
    parts = urlsplit(gateway().settings.public_base_url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _origin() -> str | None:
    """Return the Origin header in normal form, or None without one. An empty header is not our origin."""
    given = request.headers.get("Origin")
    if given is None:
        return None
    scheme, separator, host = given.lower().partition("://")
    return scheme + separator + _without_default_port(host, scheme)


def _without_default_port(host: str, scheme: str) -> str:
    """Return a host in lower case, without an empty port or the scheme's default port (RFC 9110, section 4.2.3)."""
    host = host.lower()
    name, colon, port = host.rpartition(":")
    return name if colon and port in {"", _DEFAULT_PORTS.get(scheme)} else host


def _is_preflight() -> bool:
    """Return whether this OPTIONS request is a browser's CORS preflight for a page of an allowed origin."""
    return "Access-Control-Request-Method" in request.headers and _origin() in gateway().settings.allowed_origins


def _preflight() -> Response:
    # A preflight has no cookie (Fetch standard, section 4.8), so the response must not depend on a session.
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = _CORS_METHODS
    response.headers["Access-Control-Allow-Headers"] = _CORS_REQUEST_HEADERS
    response.headers["Access-Control-Max-Age"] = _PREFLIGHT_SECONDS
    return response


def _add_cors(response: Response) -> None:
    allowed = gateway().settings.allowed_origins
    if not allowed:
        return
    response.vary.add("Origin")
    if _origin() in allowed:
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = _CORS_EXPOSED_HEADERS
        # With `same-origin`, the frontend's page could not read what CORS allows it to read.
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
