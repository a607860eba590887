"""Reading small request bodies and queries without spooling, and refusing what is malformed."""

from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from flask import Request, json, request

from app.errors import InvalidRequestError

#: The most that any body but an upload may have; /check's `head` (4 MiB) is the largest of them.
MAX_SMALL_BODY_BYTES = 4 * 1024 * 1024 + 256 * 1024
MAX_FORM_PARTS = 64


class GatewayRequest(Request):
    """Flask's request, with limits on parsed bodies and with form files kept in memory instead of on disk.

    An upload is never parsed by it: `app/api/conversion.py` hands the WSGI input on as it is.
    """

    max_content_length = MAX_SMALL_BODY_BYTES
    max_form_memory_size = MAX_SMALL_BODY_BYTES
    max_form_parts = MAX_FORM_PARTS

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        del total_content_length, content_type, filename, content_length
        return BytesIO()


def json_object() -> dict[str, Any]:
    """The request's JSON object. Raises InvalidRequestError for anything else."""
    try:
        payload = json.loads(request.get_data())
    except (ValueError, RecursionError):
        raise InvalidRequestError("the body is not JSON") from None
    if not isinstance(payload, dict):
        raise InvalidRequestError("the body is not a JSON object")
    return payload


def optional_number(form: Mapping[str, str], name: str) -> int | None:
    """The whole number in a form's field; None without one. Raises InvalidRequestError if it is no such number."""
    text = form.get(name, "")
    if not text.strip():
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequestError(f"{name} must be a whole number")
    return int(text)
