"""Check what a client announces of an upload against the limits of the upload itself.

Only what the announcement contains can be refused here. Whether the converter accepts a field or the model's bytes is
known when it has them.
"""

from collections.abc import Iterator
from typing import cast
from urllib.parse import parse_qsl

from flask import request

from app.api.requests import MAX_SMALL_BODY_BYTES, GatewayRequest, optional_number
from app.config import Settings
from app.domain.identity import claims_identity
from app.errors import InvalidRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from app.streaming.events import MessageEvents, parts, too_many_parts
from app.streaming.inbound import too_large
from app.streaming.multipart import MODEL_PART, check_name, media_type, parse_boundary, require_known_charset
from app.streaming.part_headers import MAX_NAME_BYTES, MAX_PART_HEADER_BYTES, header_too_large, require_name

#: How much of the model's beginning a client may send along.
MAX_HEAD_BYTES = 4 * 1024 * 1024
#: The limit of a form with such a beginning.
MAX_FORM_BYTES = MAX_HEAD_BYTES + 256 * 1024
MAX_FIELDS = 64

_READ_BYTES = 64 * 1024


def require_within_limits(settings: Settings) -> None:
    """Check that the upload that this request's form announces is within the limits.

    The form has `filename`, `size` (bytes of all parts together), `parts` (their number) and `head` (the model's first
    bytes, as a file), all of them optional; the rest are fields as the upload will have them. It has at most MAX_FIELDS
    of them, with MAX_SMALL_BODY_BYTES in all. A request without a body announces nothing.

    Raises UnsupportedMediaTypeError for a body that is not a form, PayloadTooLargeError, and InvalidRequestError for a
    malformed form, a malformed number, and a field that the upload could not have either.
    """
    fields: dict[str, str] = {}
    for name, value in _fields():
        require_name(name, is_utf8=not any("\ud800" <= character <= "\udfff" for character in name[:MAX_NAME_BYTES]))
        # The upload drops every part that claims to be an identity, whatever its value; so it is ignored here, too.
        if not claims_identity(name):
            check_name(name)
            fields.setdefault(name, value)
    size, parts_announced = optional_number(fields, "size"), optional_number(fields, "parts")
    if size is not None and size > settings.max_upload_bytes:
        raise too_large(settings.max_upload_bytes)
    if parts_announced is not None and parts_announced > settings.max_parts:
        raise too_many_parts(settings.max_parts)
    disposition = f'Content-Disposition: form-data; name="{MODEL_PART}"; filename="{fields.get("filename", "")}"'
    if len(disposition.encode("utf-8", "replace")) > MAX_PART_HEADER_BYTES:
        raise header_too_large()


def _fields() -> Iterator[tuple[str, str]]:
    """Give the fields of the request's form; its files are read and discarded."""
    kind = media_type(request.content_type)
    if kind == "application/x-www-form-urlencoded":
        yield from _urlencoded_fields(request.stream.read())
    elif kind == "multipart/form-data":
        yield from _multipart_fields(parse_boundary(request.content_type))
    elif request.content_type or request.stream.read(1):
        raise UnsupportedMediaTypeError("a form is expected: application/x-www-form-urlencoded or multipart/form-data")


def _urlencoded_fields(body: bytes) -> list[tuple[str, str]]:
    if body.count(b"&") >= MAX_FIELDS:
        raise PayloadTooLargeError(f"at most {MAX_FIELDS} fields")
    if not body:
        return []
    try:
        # Bytes that are not UTF-8 become surrogates, which no name may have.
        text = body.decode("utf-8", "surrogateescape")
        return parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="surrogateescape")
    except ValueError:
        raise InvalidRequestError("the form is malformed") from None


def _multipart_fields(boundary: str) -> Iterator[tuple[str, str]]:
    body = cast(GatewayRequest, request).stream_of(MAX_FORM_BYTES)
    source = iter(lambda: body.read(_READ_BYTES), b"")
    bytes_left = MAX_SMALL_BODY_BYTES
    for part, content in parts(MessageEvents(source, boundary, MAX_FIELDS)):
        if part.filename is not None or part.content_type == "application/octet-stream":
            size = sum(map(len, content))
            if part.name == "head" and size > MAX_HEAD_BYTES:
                raise PayloadTooLargeError(f"head may have at most {MAX_HEAD_BYTES} bytes")
            continue
        require_known_charset(part)
        value = bytearray()
        for chunk in content:
            value += chunk
            if len(value) > bytes_left:
                raise PayloadTooLargeError(f"the fields may have at most {MAX_SMALL_BODY_BYTES} bytes in total")
        bytes_left -= len(value)
        yield part.name, value.decode("utf-8", "replace")
