"""The headers that every answer carries, whoever in the process makes it: what a browser may do with it.

`deploy/nginx.conf` repeats them for the answers that nginx makes by itself; a test compares the two.
"""

from collections.abc import Mapping
from types import MappingProxyType

_HSTS = "max-age=31536000; includeSubDomains"

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    # For browsers that do not know `frame-ancestors`.
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def security_headers(*, is_https: bool) -> Mapping[str, str]:
    """The headers by name; with Strict-Transport-Security where browsers reach us by https (RFC 6797, section 7.2)."""
    return MappingProxyType(_ALWAYS | ({"Strict-Transport-Security": _HSTS} if is_https else {}))
