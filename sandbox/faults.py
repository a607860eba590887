"""WSGI middleware that simulates failures as the fault rules say.

A rule either replaces the service ("instead": the request is not handled), or changes its response ("after": the job IS
created, but the client does not learn of it). Requests under `/_sandbox/` are never changed. A wait ends early if the
server stops or the client closes the connection.
"""

import gzip
import json
import math
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from sandbox.calls import CALLS, CONTROL_PREFIX, name_call, note_user
from sandbox.fault_rules import Drip, Fault, RequestFacts, RuleBook
from sandbox.request_body import RequestBody
from sandbox.server import ENDING_KEY, Ending, HangUp

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]
FindUser = Callable[["WSGIEnvironment", str], str | None]

PEEK_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 64 * 1024
_LOOK_UP_SECONDS: Final = 0.05


class FaultInjector:
    """Middleware between the call log and a service."""

    def __init__(self, app: "WSGIApplication", service: str, find_user: FindUser, stopping: threading.Event) -> None:
        """`find_user` finds the user of a request from (environ, call); it may peek into the body."""
        self._app = app
        self._service = service
        self._find_user = find_user
        self._stopping = stopping
        self.rules = RuleBook(CALLS[service])

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        call = name_call(self._service, environ["REQUEST_METHOD"], path)
        if call is None or path.startswith(CONTROL_PREFIX):
            return self._app(environ, start_response)
        rule = self.rules.take(self._facts(environ, call))
        if rule is None:
            return self._app(environ, start_response)
        environ["sandbox.call"].fault = rule.number
        return _Misbehaviour(rule.fault, environ, self._stopping).answer(self._app, start_response)

    def _facts(self, environ: "WSGIEnvironment", call: str) -> RequestFacts:
        def find_user() -> str | None:
            user_id = self._find_user(environ, call)
            if user_id is not None:
                note_user(environ, user_id)
            return user_id

        return RequestFacts(call, find_user, lambda: peek_form(environ))


def peek_form(environ: "WSGIEnvironment") -> dict[str, str]:
    """Return the fields of a small URL-encoded body without consuming it."""
    body: RequestBody = environ["wsgi.input"]
    return dict(parse_qsl(body.peek(PEEK_BYTES).decode("utf-8", "replace"), keep_blank_values=True))


def peek_json(environ: "WSGIEnvironment") -> dict[str, Any]:
    """Return the members of a small JSON body without consuming it; empty if it is not an object."""
    body: RequestBody = environ["wsgi.input"]
    try:
        value = json.loads(body.peek(PEEK_BYTES))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class _Misbehaviour:
    """One fault, applied to one request."""

    def __init__(self, fault: Fault, environ: "WSGIEnvironment", stopping: threading.Event) -> None:
        self._fault = fault
        self._environ = environ
        self._stopping = stopping

    def answer(self, app: "WSGIApplication", start_response: "StartResponse") -> Iterable[bytes]:
        fault = self._fault
        if fault.when == "after":
            status, headers, chunks = _true_response(app, self._environ)
        else:
            if fault.early:
                self._environ[ENDING_KEY] = Ending(fault.early)
                _discard(self._environ["wsgi.input"], fault.early_after)
            elif fault.read_body:
                _discard(self._environ["wsgi.input"])
            status, headers, chunks = _made_up_response(fault)
        try:
            status, headers, chunks = self._spoil(status, headers, chunks)
            self._wait(fault.delay_seconds)
            if fault.stall_at is None:
                self._wait(fault.stall_seconds)
            self._cut_before_headers(status)
        except BaseException:
            _close(chunks)
            raise
        start_response(status, headers)
        return _Stream(self._paced(chunks), chunks)

    def _spoil(self, status: str, headers: Headers, chunks: Iterable[bytes]) -> tuple[str, Headers, Iterable[bytes]]:
        """Return the response, before its body is delayed or cut."""
        fault = self._fault
        if fault.status is not None:
            status = _status_line(fault.status)
        size: int | None = None
        if fault.when == "after" and (fault.body is not None or fault.body_size is not None):
            _close(chunks)
            chunks, size = _given_body(fault)
        if fault.only_first_bytes is not None:
            whole = b"".join(_first_bytes(chunks, fault.only_first_bytes))
            _close(chunks)
            chunks, size = [whole], len(whole)
        if fault.gzip:
            packed = gzip.compress(b"".join(chunks), mtime=0)
            _close(chunks)
            chunks, size = [packed], len(packed)
            headers = _with(headers, {"Content-Encoding": "gzip"})
        if size is not None:
            headers = _with(headers, {"Content-Length": str(size)})
        if fault.content_length is not None:
            headers = _with(headers, {"Content-Length": str(fault.content_length)})
        return status, _with(headers, fault.headers), chunks

    def _cut_before_headers(self, status: str) -> None:
        match self._fault.cut:
            case "before_headers":
                raise HangUp
            case "reset":
                raise HangUp(reset=True)
            case "after_status_line":
                connection: socket.socket = self._environ["werkzeug.socket"]
                connection.sendall(f"HTTP/1.1 {status}\r\n".encode("latin-1"))
                raise HangUp

    def _paced(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the body as it is sent: stalled, dripping, or cut at a byte."""
        fault = self._fault
        if fault.cut == "after_headers":
            yield b""
            raise HangUp
        breaks = {fault.stall_at} if fault.stall_at is not None else set()
        if fault.cut == "mid_body":
            breaks.add(fault.cut_at)
        sent = 0
        pending = iter(_split_at(chunks, breaks, fault.drip))
        while True:
            if fault.stall_at is not None and sent == fault.stall_at:
                yield b""
                self._wait(fault.stall_seconds)
            if fault.cut == "mid_body" and sent == fault.cut_at:
                yield b""
                raise HangUp
            piece = next(pending, None)
            if piece is None:
                return
            if fault.drip and sent:
                self._wait(fault.drip.interval_seconds)
            yield piece
            sent += len(piece)

    def _wait(self, seconds: float) -> None:
        """Wait; raise HangUp if the server stops or the client closes the connection."""
        connection: socket.socket = self._environ["werkzeug.socket"]
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._stopping.wait(min(left, _LOOK_UP_SECONDS)):
                raise HangUp
            if select.select([connection], [], [], 0)[0]:
                try:
                    gone = not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                except OSError:
                    gone = True
                if gone:
                    raise HangUp


class _Stream:
    """An iterator over the changed body that also closes the original one."""

    def __init__(self, paced: Iterator[bytes], chunks: Iterable[bytes]) -> None:
        self._paced = paced
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._paced

    def close(self) -> None:
        _close(self._chunks)


def _true_response(app: "WSGIApplication", environ: "WSGIEnvironment") -> tuple[str, Headers, Iterable[bytes]]:
    captured: list[tuple[str, Headers]] = []

    def start_response(status: str, headers: Headers, exc_info: Any = None) -> Any:  # noqa: ARG001 - WSGI's signature
        captured.append((status, headers))

    chunks = app(environ, start_response)
    status, headers = captured[-1]
    return status, headers, chunks


def _made_up_response(fault: Fault) -> tuple[str, Headers, Iterable[bytes]]:
    has_body = fault.body is not None or fault.body_size is not None
    status = fault.status or (200 if has_body else 503)
    chunks, size = _given_body(fault)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(size))]
    return _status_line(status), headers, chunks


def _given_body(fault: Fault) -> tuple[Iterable[bytes], int]:
    if fault.body_size is not None:
        return _filler(fault.body_size), fault.body_size
    if fault.body is not None:
        return [fault.body], len(fault.body)
    if fault.status is not None and fault.status < 400:
        return [b""], 0
    text = json.dumps(
        {"error": {"code": "sandbox_fault", "message": "This answer was ordered by a fault rule."}}
    ).encode()
    return [text], len(text)


def _filler(size: int) -> Iterator[bytes]:
    """Yield valid JSON of exactly `size` bytes, if possible, without holding it in memory."""
    start, end = b'{"filler":"', b'"}'
    if size < len(start) + len(end):
        yield b" " * size
        return
    yield start
    left = size - len(start) - len(end)
    while left:
        piece = min(left, _PIECE_BYTES)
        yield b"x" * piece
        left -= piece
    yield end


def _first_bytes(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:limit]
        limit -= len(chunk)
        if limit <= 0:
            return


def _split_at(chunks: Iterable[bytes], breaks: set[int], drip: Drip | None) -> Iterator[bytes]:
    """Yield the same bytes in pieces that end at every break and are not larger than a drop."""
    position = 0
    for chunk in chunks:
        start = 0
        while start < len(chunk):
            end = len(chunk) if drip is None else min(len(chunk), start + drip.size)
            for stop in breaks:
                if position < stop < position + end - start:
                    end = start + stop - position
            yield chunk[start:end]
            position += end - start
            start = end


def _with(headers: Headers, changes: dict[str, str | None] | dict[str, str]) -> Headers:
    replaced = {name.lower() for name in changes}
    kept = [(name, value) for name, value in headers if name.lower() not in replaced]
    return kept + [(name, value) for name, value in changes.items() if value is not None]


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unusual"


def _discard(body: RequestBody, limit: float = math.inf) -> None:
    """Read a body to its end, or up to that many bytes."""
    left = limit
    while left > 0 and (data := body.read(int(min(left, _PIECE_BYTES * 4)))):
        left -= len(data)


def _close(chunks: Iterable[bytes]) -> None:
    if hasattr(chunks, "close"):
        chunks.close()
