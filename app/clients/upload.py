"""Sending one streamed body to an upstream, and hearing its answer even when it comes early.

Each upload has a connection of its own: after an early answer, or a body that was cut off, it must not serve anybody
else. The body is sent chunked, so an upstream that gets no final chunk knows that the body is incomplete (RFC 9112,
section 8).
"""

import ssl
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import certifi
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from app.clients.transport import (
    NotConnectedFailure,
    ResponseLostFailure,
    ServerFailure,
    Timeouts,
    UpstreamResponse,
    make_session,
    pool_class,
    read_response,
    translated,
)
from app.clients.upload_connection import upload_connection_class
from app.clients.watchdog import Watchdog
from app.streaming import Chunk
from app.streaming.interruption import Interruption


class UploadTransport:
    """Posts streamed bodies below one base URL. Thread-safe; every call has its own connection."""

    def __init__(self, base_url: str, watchdog: Watchdog, ca_file: Path | None = None) -> None:
        self._base_url = base_url
        self._watchdog = watchdog
        self._tls = _tls_context(ca_file) if base_url.startswith("https:") else None

    def post(
        self,
        path: str,
        chunks: Iterable[Chunk],
        *,
        timeouts: Timeouts,
        headers: Mapping[str, str],
        interruption: Interruption | None = None,
    ) -> UpstreamResponse:
        """Send `chunks` and return the answer, which may come before all are sent.

        `interruption` is told of the connection, so that `chunks` need not be waited for once there is an answer.
        What iterating `chunks` raises passes through, and the connection is closed without the final chunk; it
        must not be an OSError. Raises NotConnectedFailure only if no chunk was taken, else ResponseLostFailure;
        ServerFailure for 5xx; UnusableResponseFailure.
        """
        body = _Sending(chunks, interruption or Interruption())
        with make_session(_UploadAdapter(timeouts.idle_seconds, self._watchdog, self._tls)) as session:
            try:
                with translated():
                    response = session.post(
                        self._base_url + path,
                        # requests passes it on; the connection below it is ours, and takes views as well.
                        data=cast(Iterable[bytes], body),
                        headers={**headers, "Connection": "close"},
                        timeout=(timeouts.connect_seconds, timeouts.idle_seconds),
                        allow_redirects=False,
                        stream=True,
                    )
            except NotConnectedFailure as failure:
                # TLS may also fail in the middle, which looks the same but is not: bytes are gone.
                if body.has_begun:
                    raise ResponseLostFailure(str(failure), is_timeout=failure.is_timeout) from failure
                raise
            with (
                response,
                self._watchdog.limit(timeouts.idle_seconds) as guard,
                translated(guard, is_reading_body=True),
            ):
                guard.watch(getattr(response.raw.connection, "answering_socket", None))
                answer = read_response(response, guard)
        if answer.status >= 500:
            raise ServerFailure(f"status {answer.status}", status=answer.status)
        return answer


class _Sending:
    """An iterable without a length, so that requests sends it chunked; knows whether it was begun."""

    def __init__(self, chunks: Iterable[Chunk], interruption: Interruption) -> None:
        self._chunks = chunks
        self.interruption = interruption
        self.has_begun = False

    def __iter__(self) -> Iterator[Chunk]:
        self.has_begun = True
        yield from self._chunks


class _UploadAdapter(HTTPAdapter):
    def __init__(self, idle_seconds: float, watchdog: Watchdog, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._pool_classes = {
            scheme: pool_class(pool, upload_connection_class(connection, idle_seconds, watchdog), watchdog)
            for scheme, pool, connection in (
                ("http", HTTPConnectionPool, HTTPConnection),
                ("https", HTTPSConnectionPool, HTTPSConnection),
            )
        }
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._tls)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def cert_verify(self, conn: Any, url: str, verify: bool | str, cert: Any) -> None:
        """Leave the certificates to the shared context; requests would have it read all of them again."""
        del url, verify, cert
        conn.cert_reqs = "CERT_REQUIRED"


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """One for all uploads: reading the public authorities takes longer than a small upload."""
    context = create_urllib3_context()
    context.load_verify_locations(ca_file or certifi.where())
    return context
