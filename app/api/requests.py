"""Reading small request bodies and queries without spooling, and refusing what is malformed."""

from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any, cast

from flask import Request, json, request
from werkzeug.utils import cached_property
from werkzeug.wsgi import get_input_stream

from app.errors import InvalidRequestError, PayloadTooLargeError

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

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body. Reading raises PayloadTooLargeError past the limit, InvalidRequestError for broken framing."""
        arriving = cast(IO[bytes], _Arriving(self.environ["wsgi.input"], MAX_SMALL_BODY_BYTES))
        # werkzeug would cut a chunked body off at its own limit without a word; with one byte more, ours comes first.
        return get_input_stream(self.environ | {"wsgi.input": arriving}, max_content_length=MAX_SMALL_BODY_BYTES + 1)

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        del total_content_length, content_type, filename, content_length
        return BytesIO()


class _Arriving:
    """A body as the server reads it, counted; the server's complaints about chunks and trailers become ours."""

    def __init__(self, body: IO[bytes], max_bytes: int) -> None:
        self._body = body
        self._bytes_left = max_bytes

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._body.read(size)
        except OSError:  # werkzeug knows these as the client's end
            raise
        except Exception as error:  # gunicorn has its own classes for what is malformed
            raise InvalidRequestError("the request body is malformed") from error
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise PayloadTooLargeError("the request body is larger than this address takes")
        return data


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
