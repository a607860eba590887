"""Reading small request bodies and headers without spooling, and refusing what is malformed or too large."""

from collections.abc import Mapping
from typing import IO, Any, cast

from flask import Flask, Request, json, request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.utils import cached_property
from werkzeug.wsgi import get_input_stream

from app.errors import InvalidRequestError, PayloadTooLargeError

#: The most that a body may have where nothing else is said: uploads and /check have limits of their own.
MAX_SMALL_BODY_BYTES = 64 * 1024
#: The most that a header may have which something here or in a library takes apart. Real ones have a few hundred.
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


def register(app: Flask) -> None:
    """Refuse requests of `app` whose headers are too long to be taken apart."""

    @app.before_request
    def _require_short_headers() -> None:
        environ = request.environ
        for key in _BOUNDED_HEADERS.keys() & environ.keys():
            if len(environ[key]) > MAX_HEADER_BYTES:
                raise InvalidRequestError(f"{_BOUNDED_HEADERS[key]} may have {MAX_HEADER_BYTES} bytes")


class GatewayRequest(Request):
    """Flask's request, with a limit on its body, and with cookies that are read in one pass.

    An upload is never parsed by it: `app/api/conversion.py` hands the WSGI input on as it is.
    """

    max_content_length = MAX_SMALL_BODY_BYTES

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body. Reading raises PayloadTooLargeError past the limit, InvalidRequestError for broken framing."""
        return self.stream_of(MAX_SMALL_BODY_BYTES)

    def stream_of(self, max_bytes: int) -> IO[bytes]:
        """The body, as `stream`, with another limit. To be called before the body is read, once."""
        arriving = cast(IO[bytes], _Arriving(self.environ["wsgi.input"], max_bytes))
        # werkzeug would cut a chunked body off at its own limit without a word; with one byte more, ours comes first.
        return get_input_stream(self.environ | {"wsgi.input": arriving}, max_content_length=max_bytes + 1)

    @cached_property
    def cookies(self) -> ImmutableMultiDict[str, str]:
        """The cookies, the first of each name first (RFC 6265, section 5.4).

        werkzeug tries a blank at each place of a run of blanks, which takes seconds for what a header may have of them.
        It also takes off quotes, which no cookie of ours has.
        """
        pairs = (pair.partition("=") for pair in self.environ.get("HTTP_COOKIE", "").split(";"))
        return ImmutableMultiDict([(name.strip(" \t"), value.strip(" \t")) for name, _, value in pairs])


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
