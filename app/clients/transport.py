"""HTTP requests to an upstream, over a pooled session that depends on nothing but its arguments.

It uses no proxies or credentials from the environment, no redirects and no cookies. Every timeout is explicit, and
every response is bounded in size and not decoded. `translated` turns the exceptions of the libraries into an
UpstreamFailure, and the client of the upstream turns that into a failure of the gateway. No exception holds any part of
a body.
"""

import contextlib
import json as jsonlib
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException as HTTPClientException
from http.client import HTTPResponse, RemoteDisconnected
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from app.clients.watchdog import Guard, Watchdog
from app.connecting import ConnectsInTime

#: The largest response to a control call; real ones are small.
MAX_RESPONSE_BYTES = 1024 * 1024
#: Idle connections that a worker keeps open to one upstream: as many as its bulkheads and pulls use at once.
POOL_CONNECTIONS = 32
_READ_BYTES = 64 * 1024
_MAX_RETRY_AFTER_SECONDS = 3_600.0


class UpstreamFailure(Exception):  # noqa: N818 - the root of what is caught here and renamed by each client
    """A try without a usable response. `kind` names it in logs and metrics."""

    kind = "failure"
    #: How long the upstream asks to wait; None if it does not say.
    retry_after_seconds: float | None = None

    def __init__(self, reason: str, *, is_timeout: bool = False, status: int | None = None) -> None:
        super().__init__(reason)
        self.is_timeout = is_timeout
        self.status = status
        #: Set when it is counted, so that it is counted once.
        self.is_counted = False


class NotConnectedFailure(UpstreamFailure):
    """No connection was made (refused, unknown host, TLS failure, timeout), so nothing was sent."""

    kind = "not_connected"


class ResponseLostFailure(UpstreamFailure):
    """The connection failed, stalled or ended before the response was complete."""

    kind = "response_lost"


class BodyCutFailure(ResponseLostFailure):
    """The head of the response came, and not the whole body."""

    kind = "body_cut"


class ServerFailure(UpstreamFailure):
    """The upstream answered 5xx."""

    kind = "server_error"


class UnusableResponseFailure(UpstreamFailure):
    """The response is complete but cannot be used: too large, not JSON, of another shape, or encoded."""

    kind = "unusable"


class NotJSONFailure(UnusableResponseFailure):
    """The response is complete but is not JSON."""


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """A complete response to a control call."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def refuses_token(self) -> bool:
        """Return whether the upstream refuses the service token (401, 403)."""
        return self.status in {401, 403}

    @property
    def retry_after_seconds(self) -> float | None:
        """Return how long the upstream asks to wait, at most an hour; None if it does not say so.

        RFC 9110, section 10.2.3: seconds, or a date.
        """
        value = self.headers.get("Retry-After", "").strip()
        if re.fullmatch(r"[0-9]{1,9}", value):
            return min(float(value), _MAX_RETRY_AFTER_SECONDS)
        until = _http_date(value)
        if until is None:
            return None
        # Measured by the upstream's own clock, which may differ from ours.
        now = _http_date(self.headers.get("Date", "")) or datetime.now(UTC)
        return min(max(0.0, (until - now).total_seconds()), _MAX_RETRY_AFTER_SECONDS)

    def as_failure(self) -> ServerFailure:
        """Return this response as a failure, with how long to wait."""
        failure = ServerFailure(f"status {self.status}", status=self.status)
        failure.retry_after_seconds = self.retry_after_seconds
        return failure

    def json(self) -> Any:
        """Return the decoded body. Raises UnusableResponseFailure if it is not JSON."""
        try:
            return jsonlib.loads(self.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise NotJSONFailure("the response is not JSON", status=self.status) from None

    def json_object(self) -> dict[str, Any]:
        """Return the decoded body. Raises UnusableResponseFailure if it is not a JSON object."""
        decoded = self.json()
        if not isinstance(decoded, dict):
            raise UnusableResponseFailure("the response is not a JSON object", status=self.status)
        return decoded


def _http_date(value: str) -> datetime | None:
    """Return the moment of an HTTP-date in any of its three forms (RFC 9110, section 5.6.7); None if it is not one."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one try: to connect, between two arrivals of bytes, and in all (None: without limit)."""

    connect_seconds: float
    idle_seconds: float
    total_seconds: float | None


class Upstream:
    """One upstream's base URL and connection pool. Thread-safe; connects when first used."""

    def __init__(
        self,
        base_url: str,
        *,
        watchdog: Watchdog,
        pool_size: int = POOL_CONNECTIONS,
        ca_file: Path | None = None,
    ) -> None:
        """`ca_file` replaces the public certification authorities.

        With an empty `base_url` each call names an absolute URL, as MC's discovery does.
        """
        self.base_url = base_url
        self._watchdog = watchdog
        self.session = make_session(WatchedAdapter(watchdog, pool_size), ca_file)

    def call(
        self,
        method: str,
        path: str,
        *,
        timeouts: Timeouts,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> UpstreamResponse:
        """Make one try of a control call and return the response.

        Raises an UpstreamFailure; ServerFailure for every 5xx.
        """
        with self._watchdog.limit(timeouts.total_seconds or timeouts.idle_seconds) as guard, translated(guard):
            response = self.session.request(
                method,
                self.url(path, query),
                headers=dict(headers),
                data=form,
                json=json,
                timeout=(timeouts.connect_seconds, timeouts.idle_seconds),
                allow_redirects=False,
                stream=True,
            )
            with response, translated(guard, is_reading_body=True):
                whole = read_response(response, guard)
        if whole.status >= 500:
            raise whole.as_failure()
        return whole

    def open(
        self, path: str, *, timeouts: Timeouts, header_seconds: float, headers: Mapping[str, str]
    ) -> requests.Response:
        """Begin a GET. The caller reads the body (inside `translated`) and must close the response.

        Connecting and the head of the response may take `header_seconds`. Raises an UpstreamFailure, not for a status.
        """
        with self._watchdog.limit(header_seconds) as guard, translated(guard):
            response = self.session.get(
                self.url(path),
                headers=dict(headers),
                timeout=(timeouts.connect_seconds, timeouts.idle_seconds),
                allow_redirects=False,
                stream=True,
            )
            if guard.has_fired:
                response.close()
                raise ResponseLostFailure("the head took too long", is_timeout=True)
            return response

    def url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Return the absolute URL of a percent-encoded path below the base URL."""
        return self.base_url + path + ("?" + urlencode(query) if query else "")

    def close(self) -> None:
        """Close the pooled connections."""
        self.session.close()


def read_response(response: requests.Response, guard: Guard | None) -> UpstreamResponse:
    """Read a response of bounded size to its end. Call it inside `translated`."""
    if response.headers.get("Content-Encoding", "identity").lower() not in {"identity", ""}:
        response.close()
        raise UnusableResponseFailure(
            "the response is encoded, although identity was asked for", status=response.status_code
        )
    body = bytearray()
    while chunk := response.raw.read(_READ_BYTES, decode_content=False):
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            response.close()
            raise UnusableResponseFailure("the response is too large", status=response.status_code)
    if guard is not None and guard.has_fired:
        raise BodyCutFailure("the response took too long", is_timeout=True)
    return UpstreamResponse(response.status_code, response.headers, bytes(body))


@contextlib.contextmanager
def translated(guard: Guard | None = None, *, is_reading_body: bool = False) -> Iterator[None]:
    """Raise an UpstreamFailure for every exception of requests, urllib3, http.client and the sockets, chained."""
    try:
        yield
    except UpstreamFailure:
        raise
    except _FOREIGN as error:
        failure = _failure_for(error, has_fired=guard is not None and guard.has_fired)
        if is_reading_body and not isinstance(failure, UnusableResponseFailure):
            failure = BodyCutFailure(str(failure), is_timeout=failure.is_timeout)
        raise failure from error


_FOREIGN = (requests.RequestException, urllib3.exceptions.HTTPError, HTTPClientException, OSError)
_NOT_CONNECTED = (
    requests.ConnectTimeout,
    requests.exceptions.SSLError,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.SSLError,
)
_TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
_OUR_OWN = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationParseError,
)


def _failure_for(error: Exception, *, has_fired: bool) -> UpstreamFailure:
    causes = _causes(error)
    names = " < ".join(dict.fromkeys(type(cause).__name__ for cause in causes))
    is_timeout = has_fired or any(isinstance(cause, _TIMEOUTS) for cause in causes)
    if any(isinstance(cause, _NOT_CONNECTED) for cause in causes):
        return NotConnectedFailure(names, is_timeout=is_timeout)
    if any(isinstance(cause, _OUR_OWN) for cause in causes):
        return UnusableResponseFailure(names)
    return ResponseLostFailure(names, is_timeout=is_timeout)


def _causes(error: BaseException) -> list[BaseException]:
    """Return the exception and those that it wraps: requests and urllib3 put the cause into `args` or `reason`."""
    found: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        current = pending.pop(0)
        if isinstance(current, BaseException) and current not in found:
            found.append(current)
            pending += [*current.args, getattr(current, "reason", None), current.__cause__]
    return found


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: requests would read all of a redirect's body into memory, even if it must not follow it."""
        del resp
        return None


def make_session(adapter: HTTPAdapter, ca_file: Path | None = None) -> requests.Session:
    """Return a session without environment, cookies and encodings."""
    session = _Session()
    session.trust_env = False
    session.verify = str(ca_file) if ca_file else True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.headers.update({"Accept-Encoding": "identity", "Accept": "*/*", "User-Agent": "visiona-gateway"})
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class WatchedAdapter(HTTPAdapter):
    """A pooling adapter whose connections tell the watchdog which socket the calling thread waits for."""

    def __init__(self, watchdog: Watchdog, pool_size: int) -> None:
        self._pool_classes = {
            "http": _watched_pool(HTTPConnectionPool, HTTPConnection, watchdog),
            "https": _watched_pool(HTTPSConnectionPool, HTTPSConnection, watchdog),
        }
        # A few hosts: MC's discovery may name others than its own.
        super().__init__(pool_connections=4, pool_maxsize=pool_size, pool_block=False, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool manager use our connection classes."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes


class WholeHeaderResponse(HTTPResponse):
    """A response whose head must be complete.

    http.client accepts a head that the end of the connection cuts off. If the cut is before Content-Length, it reports
    a success with an empty body.
    """

    def __init__(self, *args: Any, first_byte: bytes = b"", **kwargs: Any) -> None:
        """`first_byte` is what was read of the response already."""
        super().__init__(*args, **kwargs)
        self._first_byte = first_byte

    def begin(self) -> None:
        """Read the head. Raises RemoteDisconnected if the connection ends within it."""
        stream: Any = self.fp
        self.fp = cast(Any, _HeaderLines(stream, self._first_byte))
        try:
            super().begin()
        finally:
            if getattr(self, "fp", None) is not None:  # None if it has closed itself
                self.fp = stream


class _HeaderLines:
    """A stream that raises RemoteDisconnected at its end."""

    def __init__(self, stream: Any, first_byte: bytes) -> None:
        self._stream = stream
        self._first_byte = first_byte
        self.close = stream.close

    def readline(self, limit: int) -> bytes:
        line: bytes = self._first_byte + self._stream.readline(limit)
        self._first_byte = b""
        if not line:
            raise RemoteDisconnected("the connection ended within the head")
        return line


def bounded_connection(base: type[HTTPConnection], watchdog: Watchdog) -> type[HTTPConnection]:
    """Return a connection class like `base` whose timeout bounds all of connecting: every address, and TLS."""

    class Bounded(ConnectsInTime, base):  # type: ignore[valid-type,misc]
        def connect(self) -> None:
            with contextlib.ExitStack() as self._while_connecting:
                guard = self._while_connecting.enter_context(watchdog.limit(cast(float, self.timeout)))
                try:
                    super().connect()
                except TimeoutError as error:
                    # urllib3 would report a timeout within the TLS handshake as one of the response.
                    raise urllib3.exceptions.ConnectTimeoutError(self, "TLS took too long") from error
                except Exception:
                    if not guard.has_fired:
                        raise
                if guard.has_fired:
                    raise urllib3.exceptions.ConnectTimeoutError(self, "TLS took too long")

        def _new_conn(self) -> socket.socket:
            sock = super()._new_conn()
            # A copy, because TLS takes the descriptor out of this object before its handshake.
            watchdog.watch(self._while_connecting.enter_context(sock.dup()))
            return sock

    return Bounded


def _watched_pool(
    base: type[HTTPConnectionPool], connection: type[HTTPConnection], watchdog: Watchdog
) -> type[HTTPConnectionPool]:
    class Watched(bounded_connection(connection, watchdog)):  # type: ignore[misc]
        response_class = WholeHeaderResponse

        def connect(self) -> None:
            super().connect()
            watchdog.watch(self.sock)

        def request(self, *args: Any, **kwargs: Any) -> None:
            watchdog.watch(self.sock)  # of a pooled connection; `connect` names that of a new one
            super().request(*args, **kwargs)

    class Pool(base):  # type: ignore[valid-type,misc]
        ConnectionCls = Watched

        def _put_conn(self, conn: Any) -> None:
            # From here on another thread may use the connection.
            watchdog.watch(None)
            super()._put_conn(conn)

    return Pool
