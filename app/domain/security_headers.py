"""The security headers of every response, which tell browsers what they may do with it.

`deploy/nginx.conf` repeats them for the responses that nginx makes itself; a test compares the two.
"""

from collections.abc import Mapping
from types import MappingProxyType

_HSTS = "max-age=31536000; includeSubDomains"

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    # For browsers without support for `frame-ancestors`.
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def security_headers(*, is_https: bool) -> Mapping[str, str]:
    """Return the headers by name. Strict-Transport-Security is for https only (RFC 6797, section 7.2)."""
    return MappingProxyType(_ALWAYS | ({"Strict-Transport-Security": _HSTS} if is_https else {}))
