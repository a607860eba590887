"""The responses to requests that gunicorn cannot parse, as problem documents with our headers.

They say what is wrong by their status alone. No language is known at that point, so they are in English.
"""

import json
from collections.abc import Mapping

from app.errors import GatewayError, InternalError, InvalidRequestError

_SERVER_ERROR, _UNKNOWN_TRANSFER_CODING = 500, 501


class PageCatcher:
    """A stand-in for a client's socket that records the status and the reason of gunicorn's error page."""

    status, reason = _SERVER_ERROR, "Internal Server Error"

    def gettimeout(self) -> float:
        """Return what a non-blocking socket returns."""
        return 0.0

    def sendall(self, page: bytes) -> None:
        """Read the status line of a page."""
        _, status, reason = page.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        self.status, self.reason = int(status), reason


def refusal(status: int, reason: str, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a whole response that ends the connection."""
    is_ours = status >= _SERVER_ERROR and status != _UNKNOWN_TRANSFER_CODING
    error: GatewayError = (
        InternalError(reason) if is_ours else InvalidRequestError(f"it is not a valid HTTP request ({reason})")
    )
    entry = error.entry
    document = {
        "type": f"urn:visiona:problem:{entry.code}",
        "title": entry.title["en"],
        "status": status,
        "detail": entry.detail["en"].replace("{problem}", error.reason),
        "code": entry.code,
        "i18n_key": entry.i18n_key,
        "retryable": entry.retryable,
        "blame": entry.blame.value,
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    lines = [
        f"HTTP/1.1 {status} {reason}",
        "Connection: close",
        "Content-Type: application/problem+json",
        "Content-Language: en",
        "Cache-Control: no-store",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
