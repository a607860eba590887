"""What a client says of an upload that it has not begun, held to the limits that the upload itself would meet.

Only what stands in the announcement can be refused here: what the converter thinks of a field or of the model's bytes,
the converter alone knows, and says when it has them.
"""

from flask import request

from app.api.requests import optional_number
from app.config import Settings
from app.domain.identity import claims_identity
from app.errors import PayloadTooLargeError
from app.streaming.events import MAX_PART_HEADER_BYTES, header_too_large, too_many_parts
from app.streaming.inbound import too_large
from app.streaming.multipart import MAX_FIELD_BYTES, MODEL_PART, check_name, field_too_large

#: How much of the model's beginning may come along.
MAX_HEAD_BYTES = 4 * 1024 * 1024

_ABOUT_THE_UPLOAD = frozenset({"filename", "size", "parts", "head"})


def require_within_limits(settings: Settings) -> None:
    """Return if the upload that this request's form announces keeps within the limits.

    The form has `filename`, `size` (bytes of all parts together), `parts` (their number) and `head` (the model's first
    bytes, as a file), all of them optional; the rest are fields as the upload will have them.

    Raises PayloadTooLargeError, and InvalidRequestError for a number that is none or a field's name that the upload
    could not have either.
    """
    form = request.form
    size, parts = optional_number(form, "size"), optional_number(form, "parts")
    if size is not None and size > settings.max_upload_bytes:
        raise too_large(settings.max_upload_bytes)
    if parts is not None and parts > settings.max_parts:
        raise too_many_parts(settings.max_parts)
    disposition = f'Content-Disposition: form-data; name="{MODEL_PART}"; filename="{form.get("filename", "")}"'
    if len(disposition.encode("utf-8", "replace")) > MAX_PART_HEADER_BYTES:
        raise header_too_large()
    # A claim to be somebody is dropped from the upload, whatever it looks like, and so it is here.
    fields = [(name, value) for name, value in form.items(multi=True) if not claims_identity(name)]
    for name, value in fields:
        if name not in _ABOUT_THE_UPLOAD:
            check_name(name)
            if len(value.encode("utf-8", "replace")) > MAX_FIELD_BYTES:
                raise field_too_large()
    for head in request.files.getlist("head"):
        if len(head.stream.read(MAX_HEAD_BYTES + 1)) > MAX_HEAD_BYTES:
            raise PayloadTooLargeError(f"head may have {MAX_HEAD_BYTES} bytes")
