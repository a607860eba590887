"""Check what a client announces of an upload against the limits of the upload itself.

Only what the announcement contains can be refused here. Whether the converter accepts a field or the model's bytes is
known when it has them.
"""

from collections.abc import Iterator
from urllib.parse import parse_qsl

from flask import request

from app.api.forms import MAX_FIELDS, FormFile, read_form
from app.api.inspection import MAX_SKELETON_BYTES, skeleton_file
from app.api.requests import optional_number
from app.config import Settings
from app.domain.identity import claims_identity
from app.errors import InvalidRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from app.services.advising import ModelReader
from app.streaming.events import too_many_parts
from app.streaming.inbound import too_large
from app.streaming.multipart import MODEL_PART, check_name, media_type
from app.streaming.part_headers import MAX_NAME_BYTES, MAX_PART_HEADER_BYTES, header_too_large, require_name

#: How much of the model's beginning a client may send along.
MAX_HEAD_BYTES = 4 * 1024 * 1024
#: The limit of a form with such a beginning and a skeleton.
MAX_FORM_BYTES = MAX_HEAD_BYTES + MAX_SKELETON_BYTES + 256 * 1024


def require_within_limits(settings: Settings, reader: ModelReader) -> None:
    """Check that the upload that this request's form announces is within the limits.

    The form has `filename`, `size` (bytes of all parts together), `parts` (their number) and the files `head` (the
    model's first bytes) and `skeleton` (for `reader`), all of them optional; the rest are fields as the upload will
    have them. It has at most MAX_FIELDS of them, with MAX_SMALL_BODY_BYTES in all. A request without a body announces
    nothing.

    Raises UnsupportedMediaTypeError for a body that is not a form, PayloadTooLargeError, and InvalidRequestError for a
    malformed form, a malformed number, and a field that the upload could not have either.
    """
    fields: dict[str, str] = {}
    for name, value in _fields(reader):
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
    reader.note(fields)


def _fields(reader: ModelReader) -> Iterator[tuple[str, str]]:
    """Give the fields of the request's form; of its files, `reader` gets the skeleton."""
    kind = media_type(request.content_type)
    if kind == "application/x-www-form-urlencoded":
        yield from _urlencoded_fields(request.stream.read())
    elif kind == "multipart/form-data":
        head = FormFile("head", MAX_HEAD_BYTES, lambda _file_name: len)
        yield from read_form(head, skeleton_file(reader), max_bytes=MAX_FORM_BYTES)
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
