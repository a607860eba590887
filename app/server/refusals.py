"""The answers that gunicorn makes by itself, in our form: to a head that it cannot parse, or that is too large.

Its own are pages that repeat a part of the request and have none of our headers. Here they are problem documents like
all others, which say what is wrong by their status alone. They come before any language is known, and in English.

It relies on gunicorn's `util.write_error`; where that is not as expected, gunicorn's own pages serve as well.
"""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from gunicorn import util

from app.errors import GatewayError, InternalError, InvalidRequestError

_EXPECTED_PARAMETERS = ["sock", "status_int", "reason", "mesg"]
_SERVER_ERROR, _UNKNOWN_TRANSFER_CODING = 500, 501


def answer_refusals(headers: Mapping[str, str]) -> bool:
    """Have gunicorn answer in our form, with `headers`, in this process from now on. Returns whether it does."""
    known = list(inspect.signature(util.write_error).parameters) if hasattr(util, "write_error") else []
    if known != _EXPECTED_PARAMETERS or not hasattr(util, "write_nonblock"):
        return False

    def write_error(sock: Any, status_int: int, reason: str, mesg: str) -> None:
        del mesg  # it repeats what the client has sent
        util.write_nonblock(sock, refusal(status_int, reason, headers))

    util.write_error = write_error
    return True


def refusal(status: int, reason: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of the whole answer, which ends the connection, with gunicorn's status and its phrase for that."""
    is_ours = status >= _SERVER_ERROR and status != _UNKNOWN_TRANSFER_CODING
    error: GatewayError = (
        InternalError(reason) if is_ours else InvalidRequestError(f"it is not a valid HTTP request ({reason})")
    )
    entry = error.entry
    document = {
        "type": f"urn:visiona:problem:{entry.code}",
        "title": entry.title["en"],
        "status": status,
        "detail": entry.detail["en"].replace("{problem}", error.texts.get("problem", "")),
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
