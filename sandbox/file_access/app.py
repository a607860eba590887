"""The File Access Agent's routes: files by object key, for a service's bearer token or a browser's download token.

A request for several ranges gets the whole file, as RFC 9110, section 14.2, allows.
"""

import re
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.http import parse_date, parse_etags
from werkzeug.routing import BaseConverter

from sandbox.access_tokens import AccessTokenVerifier, BearerError
from sandbox.calls import note_user
from sandbox.data_directory import DataDirectory
from sandbox.download_tokens import DownloadTokens
from sandbox.file_access.objects import Objects, StoredObject
from sandbox.object_keys import InvalidObjectKeyError, verify_object_key
from sandbox.site import FirstPage, new_flask

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_PIECE_BYTES: Final = 256 * 1024
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_FILES: Final = "/files/"


class _AnyPath(BaseConverter):
    """Matches the rest of the path, with leading and doubled slashes: the rules for keys refuse those."""

    regex = r"[\s\S]*?"
    part_isolating = False


class RangeNotSatisfiableError(Exception):
    """The range is outside of the file."""


def create_app(data: DataDirectory, base_url: str) -> Flask:
    """Return the application; it reads files from the data directory."""
    app = new_flask(_first_page(base_url))
    app.url_map.converters["any_path"] = _AnyPath
    verifier = AccessTokenVerifier(data, "file-access")
    tokens = DownloadTokens(data)
    objects = Objects(data)

    @app.get("/files/<any_path:_>")
    def get_file(_: str) -> ResponseReturnValue:
        object_key = _object_key_of(request.environ)
        unverified_token = request.args.get("access_token")
        if unverified_token is None:
            verifier.verify(request.headers.get("Authorization"), "files:download.read")
            _note_owner(object_key)
        else:
            note_user(request.environ, _verify_download_token(tokens, unverified_token, object_key))
        stored = objects.find(object_key)
        if stored is None:
            return _error(404, "file_not_found", "No file has this key.")
        return _serve(stored, objects)

    @app.put("/_sandbox/files/<any_path:_>")
    def put_file(_: str) -> ResponseReturnValue:
        object_key = _object_key_of(request.environ, "/_sandbox/files/")
        content_type = request.content_type or "application/octet-stream"
        stored = objects.put(object_key, iter(lambda: request.stream.read(_PIECE_BYTES), b""), content_type)
        return jsonify(object_key=object_key, size=stored.size, sha256=stored.sha256, etag=stored.etag), 201

    @app.delete("/_sandbox/files/<any_path:_>")
    def remove_file(_: str) -> ResponseReturnValue:
        objects.remove(_object_key_of(request.environ, "/_sandbox/files/"))
        return "", 204

    @app.errorhandler(BearerError)
    def bearer_refused(error: BearerError) -> ResponseReturnValue:
        response, status = _error(error.status, error.code or "unauthorized", error.description)
        response.headers["WWW-Authenticate"] = error.challenge
        return response, status

    @app.errorhandler(InvalidObjectKeyError)
    def key_refused(error: InvalidObjectKeyError) -> ResponseReturnValue:
        return _error(400, "invalid_object_key", str(error))

    return app


def find_user(environ: "WSGIEnvironment", call: str) -> str | None:
    """Return the user of a request: the second segment of a promoted result's key."""
    try:
        segments = _object_key_of(environ).split("/") if call == "get_file" else []
    except InvalidObjectKeyError:
        return None
    return segments[1] if len(segments) > 2 else None


def _first_page(base_url: str) -> FirstPage:
    return FirstPage(
        title="File Access Agent",
        stands_for="It stands in for the File Access Agent, which serves converted models by their object key.",
        stands_for_zh="它代替檔案存取服務：依物件鍵提供轉換後的模型。",
        links=(("Calls received", f"{base_url}/_sandbox/calls"), ("Fault rules", f"{base_url}/_sandbox/faults")),
    )


def _object_key_of(environ: "WSGIEnvironment", prefix: str = _FILES) -> str:
    """Return the key of the path, percent-decoded once and strictly; raise InvalidObjectKeyError if it is invalid."""
    # PATH_INFO is decoded leniently and does not show whether a slash was encoded, so read the raw target.
    raw_path = environ["RAW_URI"].partition("?")[0]
    # An absolute-form target has a scheme and host in front of the path.
    raw_key = raw_path[raw_path.index(prefix) + len(prefix) :]
    if re.search(r"%(?![0-9A-Fa-f]{2})", raw_key):
        raise InvalidObjectKeyError("the path has a percent sign that encodes nothing")
    if re.search(r"%2f", raw_key, re.IGNORECASE):
        raise InvalidObjectKeyError("slashes separate segments and are not encoded")
    try:
        return verify_object_key(unquote_to_bytes(raw_key.encode("latin-1")).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidObjectKeyError("the path is not UTF-8") from error


def _note_owner(object_key: str) -> None:
    segments = object_key.split("/")
    if len(segments) > 2:
        note_user(request.environ, segments[1])


def _verify_download_token(tokens: DownloadTokens, unverified_token: str, object_key: str) -> str:
    """Return the user of the token; raise BearerError (401 unknown or expired, 403 for another object)."""
    token = tokens.find(unverified_token)
    if token is None or token.expires_at <= time.time():
        raise BearerError(401, "invalid_token", "the download token is unknown or has expired")
    if token.object_key != object_key or request.method != token.method:
        raise BearerError(403, "insufficient_scope", "the download token is for another object or method")
    return token.user_id


def _serve(stored: StoredObject, objects: Objects) -> ResponseReturnValue:
    headers = {
        "ETag": stored.etag,
        "Last-Modified": formatdate(stored.modified_at, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": stored.content_type,
        "Content-Disposition": _attachment(stored.filename),
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if parse_etags(request.headers.get("If-None-Match")).contains_weak(stored.etag.strip('"')):
        return Response(status=304, headers=headers)
    try:
        selected = _selected_range(stored)
    except RangeNotSatisfiableError:
        response, status = _error(416, "range_not_satisfiable", "The range lies outside of the file.")
        response.headers["Content-Range"] = f"bytes */{stored.size}"
        return response, status
    start, stop = selected or (0, stored.size)
    status = 200
    if selected:
        status = 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    headers["Content-Length"] = str(stop - start)
    body = iter(()) if request.method == "HEAD" else _read(objects, stored, start, stop)
    return Response(body, status=status, headers=headers, direct_passthrough=True)


def _selected_range(stored: StoredObject) -> tuple[int, int] | None:
    """Return the half-open range to send, or None for the whole file."""
    # Only GET has ranges, and a Range that is not understood is ignored (RFC 9110, section 14.2).
    match = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if request.method != "GET" or not match or match.group() == "bytes=-" or not _is_still_current(stored):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, stored.size - int(last)), stored.size
    else:
        start = int(first)
        stop = min(stored.size, int(last) + 1) if last else stored.size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiableError
    return start, stop


def _is_still_current(stored: StoredObject) -> bool:
    condition = request.headers.get("If-Range")
    if condition is None:
        return True
    if condition.startswith(('"', "W/")):
        return condition == stored.etag  # strong comparison: a weak tag never matches
    date = parse_date(condition)
    return date is not None and int(date.timestamp()) == int(stored.modified_at)


def _read(objects: Objects, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
    with objects.path_of(stored).open("rb") as file:
        file.seek(start)
        left = stop - start
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece


def _attachment(filename: str) -> str:
    """Return both forms of the name (RFC 6266, appendix D): ASCII for old clients, UTF-8 (RFC 8187) for the others."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='!#$&+-.^_`|~')}"


def _error(status: int, code: str, message: str) -> tuple[Response, int]:
    return jsonify(error={"code": code, "message": message}), status
