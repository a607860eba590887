"""Send a streamed upload to an upstream, and notice a response that comes early.

Each upload has a connection of its own, because no request may follow an early response or a body that was cut off.
The body is sent chunked, so an upstream that gets no last chunk knows that it is incomplete (RFC 9112, section 8).

Before every send, and while the client's next bytes are awaited, the connection is checked for an early response:
http.client alone would go on sending for as long as an upstream that has responded neither reads nor closes.
"""

import contextlib
import functools
import http.client
import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context

from app.clients.transport import (
    NotConnectedFailure,
    ResponseLostFailure,
    ServerFailure,
    Timeouts,
    UpstreamResponse,
    WholeHeaderResponse,
    bounded_connection,
    make_session,
    read_response,
    translated,
)
from app.clients.watchdog import Watchdog
from app.streaming import Chunk
from app.streaming.ending import Ending
from app.streaming.progress import UploadProgress, UpstreamSpokeError


class Upload(Protocol):
    """A body to send, in chunks that may be lent (see Chunk), and its progress."""

    progress: UploadProgress

    def __iter__(self) -> Iterator[Chunk]: ...


class UploadTransport:
    """Posts streamed bodies to one upstream. Thread-safe; every call has its own connection."""

    def __init__(self, base_url: str, watchdog: Watchdog, ca_file: Path | None = None) -> None:
        self._base_url = base_url
        self._watchdog = watchdog
        self._session = make_session(_UploadAdapter(watchdog, ca_file))

    def post(self, path: str, upload: Upload, *, timeouts: Timeouts, headers: Mapping[str, str]) -> UpstreamResponse:
        """Send `upload` and return the response, which may come before all of it is sent.

        What iterating `upload` raises passes through, and the connection is closed without the last chunk; it must not
        be an OSError. Raises NotConnectedFailure only if iterating was not begun, else ResponseLostFailure;
        ServerFailure for 5xx; UnusableResponseFailure.
        """
        with translated():
            response = self._session.post(
                self._base_url + path,
                data=cast(Any, upload),
                headers={**headers, "Connection": "close"},
                timeout=(timeouts.connect_seconds, timeouts.idle_seconds),
                allow_redirects=False,
                stream=True,
            )
        with response, self._watchdog.limit(timeouts.idle_seconds) as guard, translated(guard, is_reading_body=True):
            guard.watch(cast(Any, response.raw.connection).response_socket)
            received = read_response(response, guard)
        if received.status >= 500:
            raise ServerFailure(f"status {received.status}", status=received.status)
        return received


class _UploadAdapter(HTTPAdapter):
    """Sends each request over a new connection, its body chunk by chunk. Thread-safe."""

    def __init__(self, watchdog: Watchdog, ca_file: Path | None) -> None:
        super().__init__()
        self._watchdog = watchdog
        self._http = bounded_connection(HTTPConnection, watchdog)
        self._https: Any = bounded_connection(HTTPSConnection, watchdog)
        # One context for all uploads: reading the public authorities takes longer than a small upload.
        self._tls = create_urllib3_context()
        self._tls.load_verify_locations(ca_file or certifi.where())

    def send(self, request: requests.PreparedRequest, *_: Any, timeout: Any = None, **__: Any) -> requests.Response:
        """Connect, send the head and the body, and return the response with its body unread.

        Raises an UpstreamFailure or an exception for `translated` to translate, and what iterating the body raises.
        """
        connect_seconds, idle_seconds = timeout
        connection = self._connection(str(request.url), connect_seconds)
        try:
            _connect(connection)
            connection.putrequest(str(request.method), request.path_url, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            first_byte = _send_body(cast(Any, request.body), connection.sock, idle_seconds)
            return self.build_response(request, self._response(connection, first_byte, idle_seconds))
        except BaseException:
            connection.close()
            raise

    def _connection(self, url: str, connect_seconds: float) -> Any:
        address = urlsplit(url)
        if address.scheme == "http":
            return self._http(str(address.hostname), address.port or 80, timeout=connect_seconds)
        return self._https(str(address.hostname), address.port or 443, timeout=connect_seconds, ssl_context=self._tls)

    def _response(self, connection: Any, first_byte: bytes, idle_seconds: float) -> urllib3.HTTPResponse:
        """Read the response's head, within the idle time in all: one that drips in would never be late otherwise."""
        # The connection forgets its socket with the head of its last response; the reader of the body needs it.
        connection.response_socket = sock = connection.sock
        connection.response_class = functools.partial(WholeHeaderResponse, first_byte=first_byte)
        sock.settimeout(idle_seconds)
        with self._watchdog.limit(idle_seconds) as guard, translated(guard):
            guard.watch(sock)
            head = http.client.HTTPConnection.getresponse(connection)
        return urllib3.HTTPResponse(
            head,
            headers=urllib3.HTTPHeaderDict(head.headers.items()),
            status=head.status,
            reason=head.reason,
            preload_content=False,
            decode_content=False,
            original_response=head,
            connection=connection,
            request_method="POST",
        )


def _connect(connection: HTTPConnection) -> None:
    """Connect. Raises NotConnectedFailure, also for a TLS handshake that fails: nothing of the request was sent."""
    try:
        with translated():
            connection.connect()
    except ResponseLostFailure as failure:
        raise NotConnectedFailure(str(failure), is_timeout=failure.is_timeout) from failure


def _send_body(upload: Upload, sock: socket.socket, idle_seconds: float) -> bytes:
    """Send all of an upload, or as much as the upstream takes until it responds.

    Returns the first byte of the response if that had to be read to notice it, else b"". Raises TimeoutError and other
    OSErrors of the connection, and what iterating `upload` raises; the message is then left without its end.
    """
    progress = upload.progress
    sender = (_TLSSender if isinstance(sock, ssl.SSLSocket) else _Sender)(sock, idle_seconds, progress.ending)
    sock.setblocking(False)
    with contextlib.suppress(UpstreamSpokeError):
        with progress.listening_to(sock, sender.hear):
            for chunk in upload:
                sender.send(chunk)
                progress.sent_bytes += len(chunk)
        sender.end()
    return sender.first_byte


class _Sender:
    """Sends chunks (RFC 9112, section 7.1) over a non-blocking socket.

    Raises UpstreamSpokeError once the upstream has responded or closed, TimeoutError if a chunk takes too long, and
    UploadEndedError.
    """

    first_byte = b""

    def __init__(self, sock: socket.socket, idle_seconds: float, ending: Ending | None = None) -> None:
        self._sock = sock
        self._ending = ending
        self._idle_seconds = idle_seconds
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN | select.POLLOUT)
        if ending is not None:
            self._poll.register(ending, select.POLLIN)

    def send(self, chunk: Chunk) -> None:
        """Send one chunk; an empty one is not sent, because it would be the last."""
        if chunk:
            self._send(b"%x\r\n" % len(chunk), chunk, b"\r\n")

    def end(self) -> None:
        """Send the last chunk."""
        self._send(b"0\r\n\r\n")

    def hear(self) -> None:
        """Raise UpstreamSpokeError; to be called when the socket is readable."""
        raise UpstreamSpokeError("the upstream has responded or closed the connection")

    def _send(self, *pieces: Chunk) -> None:
        ends_at = time.monotonic() + self._idle_seconds
        left = [memoryview(piece) for piece in pieces]
        while left:
            self._wait_until(ends_at)
            try:
                sent = self._sock.sendmsg(left)
            except BlockingIOError:
                continue
            except ConnectionError as error:  # it has closed; what it sent before that can still be read
                raise UpstreamSpokeError("the upstream has closed the connection") from error
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = left[0][sent:]

    def _wait_until(self, ends_at: float) -> None:
        """Wait until the socket is ready to send."""
        ready = self._poll.poll(max(0.0, ends_at - time.monotonic()) * 1000)
        if not ready:
            raise TimeoutError("the upstream accepts no more bytes")
        if self._ending is not None:
            self._ending.check()
        if ready[0][1] & ~select.POLLOUT:
            self.hear()


class _TLSSender(_Sender):
    """The same over TLS, where a readable socket may hold nothing for us, and a writable one may accept nothing."""

    _sock: ssl.SSLSocket

    def hear(self) -> None:
        """Raise UpstreamSpokeError unless the socket holds nothing but TLS's own records, such as session tickets."""
        try:
            self.first_byte = self._sock.recv(1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            raise UpstreamSpokeError("the upstream has closed the connection") from error
        super().hear()

    def _send(self, *pieces: Chunk) -> None:
        ends_at = time.monotonic() + self._idle_seconds
        # One buffer, because each send makes a record: copying costs nothing compared with encrypting.
        view = memoryview(b"".join(pieces))
        while view:
            self._wait_until(ends_at)
            try:
                view = view[self._sock.send(view) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                continue
            except OSError:
                # An upstream that has responded and closed resets what we still send; its response may be here.
                self.hear()
                raise
