"""Read small request bodies and headers without spooling, and refuse them if they are malformed or too large."""

from collections.abc import Mapping
from typing import IO, Any, cast

from flask import Request, json, request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.utils import cached_property
from werkzeug.wsgi import get_input_stream

from app.errors import InvalidRequestError, PayloadTooLargeError

#: The largest request body, except for uploads and /check, which have their own limits.
MAX_SMALL_BODY_BYTES = 64 * 1024
#: The largest value of a header that the gateway or a library parses. Real ones have a few hundred bytes.
MAX_HEADER_BYTES = 1024

_BOUNDED_HEADERS = {
    "CONTENT_TYPE": "Content-Type",
    "HTTP_ACCEPT": "Accept",
    "HTTP_ACCEPT_LANGUAGE": "Accept-Language",
    "HTTP_CONTENT_ENCODING": "Content-Encoding",
    "HTTP_IF_MATCH": "If-Match",
    "HTTP_IF_MODIFIED_SINCE": "If-Modified-Since",
    "HTTP_IF_NONE_MATCH": "If-None-Match",
    "HTTP_IF_RANGE": "If-Range",
    "HTTP_IF_UNMODIFIED_SINCE": "If-Unmodified-Since",
    "HTTP_RANGE": "Range",
}


def require_short_headers(environ: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError for too long a value in a header that is parsed."""
    for key in _BOUNDED_HEADERS.keys() & environ.keys():
        if len(environ[key]) > MAX_HEADER_BYTES:
            raise InvalidRequestError(f"{_BOUNDED_HEADERS[key]} may have at most {MAX_HEADER_BYTES} bytes")


class GatewayRequest(Request):
    """Flask's request, with a limit on its body, and with cookies that are parsed in one pass.

    It never parses an upload: `app/api/conversion.py` reads the WSGI input itself.
    """

    max_content_length = MAX_SMALL_BODY_BYTES

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body. Reading raises PayloadTooLargeError past the limit, and InvalidRequestError for broken framing."""
        return self.stream_of(MAX_SMALL_BODY_BYTES)

    def stream_of(self, max_bytes: int) -> IO[bytes]:
        """Return the body like `stream`, but with this limit. Call it once, before the body is read."""
        arriving = cast(IO[bytes], _Arriving(self.environ["wsgi.input"], max_bytes))
        # werkzeug cuts a chunked body off at its limit without an error. With one byte more, ours is raised first.
        return get_input_stream(self.environ | {"wsgi.input": arriving}, max_content_length=max_bytes + 1)

    @cached_property
    def cookies(self) -> ImmutableMultiDict[str, str]:
        """The cookies in the order of the header (RFC 6265, section 5.4), so the first of each name counts.

        werkzeug's parser takes seconds for a header of blanks, because it backtracks at each one. Unlike it, this one
        leaves quotation marks in place; the gateway's cookies have none.
        """
        pairs = (pair.partition("=") for pair in self.environ.get("HTTP_COOKIE", "").split(";"))
        return ImmutableMultiDict([(name.strip(" \t"), value.strip(" \t")) for name, _, value in pairs])


class _Arriving:
    """Counts a body as it arrives, and translates gunicorn's exceptions about chunks and trailers."""

    def __init__(self, body: IO[bytes], max_bytes: int) -> None:
        self._body = body
        self._bytes_left = max_bytes

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._body.read(size)
        except OSError:  # werkzeug takes these for a client that disconnected
            raise
        except Exception as error:  # gunicorn raises classes of its own for malformed bodies
            raise InvalidRequestError("the request body is malformed") from error
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise PayloadTooLargeError("the request body is larger than this address accepts")
        return data


def json_object() -> dict[str, Any]:
    """Return the request's JSON object. Raises InvalidRequestError for any other body."""
    try:
        payload = json.loads(request.get_data())
    except (ValueError, RecursionError):
        raise InvalidRequestError("the body is not JSON") from None
    if not isinstance(payload, dict):
        raise InvalidRequestError("the body is not a JSON object")
    return payload


def optional_number(form: Mapping[str, str], name: str) -> int | None:
    """Return the whole number in a form's field, or None if it is empty. Raises InvalidRequestError for other text."""
    text = form.get(name, "")
    if not text.strip():
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequestError(f"{name} must be a whole number")
    return int(text)
