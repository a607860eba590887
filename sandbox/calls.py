"""The names of the calls that the stand-ins answer, and a log of the received calls.

Tests read from the log what the gateway did: which call, when, for which user, with which request id. The log never
holds an Authorization value, a cookie, or a secret from the query. It is bounded and in memory.
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from sandbox.settings import CONVERTER, FILE_ACCESS, MEMBER_CENTER

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CONTROL_PREFIX: Final = "/_sandbox/"
REMEMBERED_CALLS: Final = 5000

_JOB: Final = r"/api/v1/jobs/(?P<job_id>[^/]+)"
CALLS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    MEMBER_CENTER: {
        "discovery": ("GET", r"/\.well-known/openid-configuration"),
        "jwks": ("GET", r"/oauth/jwks"),
        "authorize": ("GET|POST", r"/oauth/authorize"),
        "token": ("POST", r"/oauth/token"),
        "userinfo": ("GET|POST", r"/oauth/userinfo"),
        "end_session": ("GET|POST", r"/oauth/logout"),
        "download_tokens": ("POST", r"/file-access/download-tokens"),
    },
    CONVERTER: {
        "create_job": ("POST", r"/api/v1/jobs"),
        "list_jobs": ("GET", r"/api/v1/jobs"),
        "get_job": ("GET", _JOB),
        "promote": ("POST", _JOB + "/promote"),
    },
    FILE_ACCESS: {"get_file": ("GET|HEAD", r"/files/.*")},
}

_SECRET_HEADERS: Final = {"Authorization", "Cookie", "Proxy-Authorization"}
_SECRET_PARAMETERS: Final = {"access_token", "code", "id_token_hint", "client_secret", "password"}
_USER_KEY: Final = "sandbox.user_id"


def name_call(service: str, method: str, path: str) -> str | None:
    """Return the name of the call that a request makes, or None for a page or an unknown path."""
    for call, (methods, pattern) in CALLS[service].items():
        if re.fullmatch(methods, method) and re.fullmatch(pattern, path, re.DOTALL):
            return call
    return None


def note_user(environ: "WSGIEnvironment", user_id: str) -> None:
    """Record the user of the current request, once a service knows the user."""
    environ[_USER_KEY] = user_id


def noted_user(environ: "WSGIEnvironment") -> str | None:
    user_id: str | None = environ.get(_USER_KEY)
    return user_id


@dataclass
class Call:
    """One received call."""

    number: int
    name: str | None
    method: str
    path: str
    headers: dict[str, str]
    client_port: int
    received_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    started: float = field(default_factory=monotonic)
    status: int | None = None
    user_id: str | None = None
    fault: int | None = None
    duration_seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "call": self.name,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "user_id": self.user_id,
            "fault": self.fault,
            "headers": self.headers,
            "client_port": self.client_port,
            "time": self.received_at,
            "monotonic": self.started,
            "duration_seconds": self.duration_seconds,
        }


class CallLog:
    """WSGI middleware that records the calls to one service. Thread-safe."""

    def __init__(self, app: "WSGIApplication", service: str) -> None:
        self._app = app
        self._service = service
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=REMEMBERED_CALLS)
        self._number = 0

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith(CONTROL_PREFIX):
            return self._app(environ, start_response)
        call = self._remember(environ)
        environ["sandbox.call"] = call

        def noting_start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            call.status = int(status[:3])
            call.user_id = noted_user(environ)
            return start_response(status, headers, exc_info)

        try:
            chunks = self._app(environ, noting_start_response)
        except BaseException:
            _end(call, environ)
            raise
        return _Watched(chunks, lambda: _end(call, environ))

    def as_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [call.as_json() for call in self._calls]

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()

    def _remember(self, environ: "WSGIEnvironment") -> Call:
        raw_path, _, query = environ["RAW_URI"].partition("?")
        method = environ["REQUEST_METHOD"]
        with self._lock:
            self._number += 1
            call = Call(
                number=self._number,
                name=name_call(self._service, method, environ["PATH_INFO"]),
                method=method,
                path=raw_path + ("?" + _without_secrets(query) if query else ""),
                headers=_shown_headers(environ),
                client_port=environ["REMOTE_PORT"],
            )
            self._calls.append(call)
        return call


def _end(call: Call, environ: "WSGIEnvironment") -> None:
    call.user_id = noted_user(environ)
    call.duration_seconds = round(monotonic() - call.started, 6)


def _shown_headers(environ: "WSGIEnvironment") -> dict[str, str]:
    shown = {}
    for key, value in environ.items():
        if key.startswith("HTTP_") or key in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            name = key.removeprefix("HTTP_").replace("_", "-").title()
            shown[name] = "(present)" if name in _SECRET_HEADERS else str(value)
    return shown


def _without_secrets(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(name, "(present)" if name in _SECRET_PARAMETERS else value) for name, value in pairs])


class _Watched:
    """A response body that calls back when it ends, for whatever reason."""

    def __init__(self, chunks: Iterable[bytes], on_end: Callable[[], None]) -> None:
        self._chunks = chunks
        self._on_end = on_end

    def __iter__(self) -> Any:
        return iter(self._chunks)

    def close(self) -> None:
        try:
            if hasattr(self._chunks, "close"):
                self._chunks.close()
        finally:
            self._on_end()
