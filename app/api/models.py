"""`/api/models`: the caller's model library. Each view parses, calls one method, and builds one response."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import quote

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.http import http_date
from werkzeug.wsgi import ClosingIterator

from app.api.context import call_context, gateway
from app.api.documents import model_document
from app.api.filters import model_filter
from app.api.preconditions import is_unchanged
from app.api.requests import json_object
from app.domain.model import Model
from app.errors import RangeNotSatisfiableError
from app.services.paging import parse_limit

PIECE_BYTES = 128 * 1024
# werkzeug refuses a suffix range that is longer than the file; by RFC 9110 it stands for the whole file.
_SINGLE_RANGE = re.compile(r"bytes=(?=\S*[0-9])(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")

blueprint = Blueprint("models", __name__, url_prefix="/api/models")


@blueprint.get("")
def page() -> Response:
    """Return a page of the caller's models, newest first, of all or of those that the query selects."""
    limit, cursor = parse_limit(request.args.get("limit")), request.args.get("cursor")
    models, next_cursor = gateway().library.page(g.user_id, limit, cursor, model_filter())
    return jsonify(models=[model_document(model) for model in models], next_cursor=next_cursor)


@blueprint.get("/<model_id>")
def get(model_id: str) -> Response:
    """Return one model."""
    return jsonify(model_document(gateway().library.get(g.user_id, model_id)))


@blueprint.patch("/<model_id>")
def rename(model_id: str) -> Response:
    """Change a model's name."""
    name = json_object().get("name")
    return jsonify(model_document(gateway().library.rename(g.user_id, model_id, name)))


@blueprint.delete("/<model_id>")
def delete(model_id: str) -> Response:
    """Remove a model and its file."""
    gateway().library.delete(g.user_id, model_id, call_context())
    return Response(status=204)


@blueprint.get("/<model_id>/file")
def file(model_id: str) -> Response:
    """Return a model's bytes, or one range of them (RFC 9110, section 14)."""
    model = gateway().library.get(g.user_id, model_id)
    response = Response(mimetype=model.content_type)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Disposition"] = content_disposition(model.filename)
    # A file that a user uploaded must never run as a page of the gateway.
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.set_etag(model.sha256)
    response.last_modified = model.created_at
    if is_unchanged(model.sha256, model.created_at):
        response.status_code = HTTPStatus.NOT_MODIFIED
        return response
    start, length = _asked_range(model)
    if length < model.size:
        response.status_code = HTTPStatus.PARTIAL_CONTENT
        response.headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{model.size}"
    response.headers["Content-Length"] = str(length)
    if request.method != "HEAD":
        opened = gateway().library.open_file(model, start=start, length=length)
        response.response = ClosingIterator(_pieces(opened.chunks), [opened.close])
    return response


def content_disposition(filename: str) -> str:
    """Return the header of an attachment: the name in ASCII for old clients, and in full as RFC 8187 encodes it."""
    ascii_name = "".join(c if 32 <= ord(c) < 127 and c not in '"\\%' else "_" for c in filename)
    encoded = quote(filename, safe="!#$&+-.^_`|~")
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{encoded}"


def _asked_range(model: Model) -> tuple[int, int]:
    """Return the offset and length that the caller asks for: the whole file unless it names one valid range of bytes.

    RFC 9110, section 14.2. Raises RangeNotSatisfiableError for a valid range that begins past the end.
    """
    whole = (0, model.size)
    asked = _SINGLE_RANGE.fullmatch(request.headers.get("Range", ""))
    if request.method != "GET" or asked is None:
        return whole
    if_range = request.headers.get("If-Range")
    if if_range is not None and if_range not in {f'"{model.sha256}"', http_date(model.created_at)}:
        return whole
    first, last = asked["first"], asked["last"]
    if not first:
        start, end = max(0, model.size - int(last or 0)), model.size
    else:
        start, end = int(first), min(int(last) + 1 if last else model.size, model.size)
        if last and int(last) < start:
            return whole
    if start >= end:
        raise RangeNotSatisfiableError(model.size)
    return start, end - start


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut the chunks so small that a slow reader takes each piece within the worker's send timeout."""
    for chunk in chunks:
        for start in range(0, len(chunk), PIECE_BYTES):
            yield chunk[start : start + PIECE_BYTES]
