"""Sending an answer in as few steps as it takes: its head with the first of its body, and without asking first.

Each step lets go of the interpreter's lock and has to get it back, which is what short answers wait for while uploads
go on; and a client that gets a head alone wakes up for it, only to wait for the rest.

It relies on gunicorn's `wsgi.Response`; where that is not as expected, gunicorn's own answers serve as well.
"""

import socket
import time
from collections.abc import Sequence
from typing import Any

from gunicorn.http import wsgi

from app.domain.security_headers import security_headers
from app.server.body import is_tls
from app.streaming.rate import RateFloor

#: How long a client may leave a small body unsent, in seconds. Uploads have limits of their own.
STALL_SECONDS = 30.0
#: How long a client may take nothing of an answer, in seconds. nginx takes the next of a download when a third of its
#: own send buffer is free again, so a client that reads 20 KB/s seems idle for most of a minute.
UNREAD_SECONDS = 60.0
#: How fast a client has to take an answer; see RateFloor.
MIN_BYTES_PER_SECOND = 4 * 1024

# Headers whose values are words of the code, or nearly: never those of one request, which may be secret.
_ALIKE = frozenset({"Cache-Control", "Content-Language", "Content-Type", "Vary", *security_headers(is_https=True)})
_MOST_RIGHT = 100
_RIGHT: set[tuple[str, str]] = set()
_OVERRIDDEN = ("process_headers", "send_headers", "_emit_body", "sendfile", "close")


class _Kept:
    """In a socket's place, keeps what is sent."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes) -> None:
        self.data += data


class OneSendResponse(wsgi.Response):  # type: ignore[misc]
    """gunicorn's response, with its head kept until there is a body to go with it, or none to come.

    What the kernel takes at once is sent without a time-out. For the rest the socket gets one of UNREAD_SECONDS.
    Raises TimeoutError for a client that takes nothing for so long, or less than MIN_BYTES_PER_SECOND.
    """

    sock: Any
    monotonic = staticmethod(time.monotonic)
    _kept_head = b""
    # There is none until the client has been waited for.
    _floor: RateFloor | None = None
    _sent_since_wait = 0

    def process_headers(self, headers: Sequence[tuple[str, str]]) -> None:
        """As gunicorn does it, and in the same order; but of what most answers have in common it is asked once."""
        unknown: list[tuple[str, str]] = []
        for header in headers:
            if header not in _RIGHT:
                unknown.append(header)
                continue
            self._check(unknown)
            self.headers.append(header)
            unknown = []
        self._check(unknown)

    def _check(self, headers: list[tuple[str, str]]) -> None:
        if not headers:
            return
        super().process_headers(headers)
        for header in headers:
            if header[0] in _ALIKE and header in self.headers and len(_RIGHT) < _MOST_RIGHT:
                _RIGHT.add(header)

    def send_headers(self) -> None:
        """Make the head, and keep it."""
        if self.headers_sent:
            return
        sock, self.sock = self.sock, _Kept()
        try:
            super().send_headers()
            self._kept_head = self.sock.data
        finally:
            self.sock = sock

    def _emit_body(self, data: bytes) -> None:
        framed = (b"%X\r\n" % len(data), data, b"\r\n") if self.chunked else (data,)
        self._send(*framed)

    def sendfile(self, respiter: Any) -> bool:
        """As gunicorn does it, by the kernel, once the head is out."""
        self.send_headers()
        self._send()
        self.sock.settimeout(UNREAD_SECONDS)
        return bool(super().sendfile(respiter))

    def close(self) -> None:
        """End the answer; now at the latest its head goes out."""
        self.send_headers()
        if self.chunked:
            self._send(b"0\r\n\r\n")
        else:
            self._send()

    def _send(self, *parts: bytes) -> None:
        left = [memoryview(part) for part in (self._kept_head, *parts) if part]
        self._kept_head = b""
        if not left:
            return
        if self.sock.gettimeout() is None and not is_tls(self.sock):
            try:
                sent = self.sock.sendmsg(left, (), socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            self._sent_since_wait += sent
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if not left:
                return
            left[0] = left[0][sent:]
        self._send_slowly(memoryview(b"".join(left)) if len(left) > 1 else left[0])

    def _send_slowly(self, data: memoryview) -> None:
        self._floor = self._floor or RateFloor(MIN_BYTES_PER_SECOND)
        self.sock.settimeout(UNREAD_SECONDS)
        while data:
            began = self.monotonic()
            sent = self.sock.send(data)
            # A wait is set against what was sent before it: of what the client has made room for since, this may be
            # the first piece of many.
            if self._floor.is_broken_by(self._sent_since_wait, self.monotonic() - began):
                raise TimeoutError("the client takes the answer too slowly")
            self._sent_since_wait = sent
            data = data[sent:]


def send_heads_with_bodies() -> bool:
    """Have gunicorn send its answers so, in this process from now on. Returns whether it does."""
    if not all(hasattr(wsgi.Response, name) for name in _OVERRIDDEN):
        return False
    wsgi.Response = OneSendResponse
    return True
