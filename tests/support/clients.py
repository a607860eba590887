"""Clients for tests: a session like a browser's, and a raw connection that sends any bytes."""

import http.client
import json
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import requests

SECONDS = 30.0


class Client(requests.Session):
    """A session at one gateway: paths instead of URLs, no redirects unless asked for, and always a timeout.

    Every request goes on a connection of its own, so that a test's requests are spread over the gateway's workers and
    no test passes only because one worker remembers. Every cookie and every sign-in state that it is given goes to
    `on_secret`. For one thread; `clone` for others.
    """

    def __init__(self, base_url: str, on_secret: Callable[[str], None] = lambda _: None) -> None:
        super().__init__()
        self.base_url = base_url
        self.trust_env = False
        self.headers["Connection"] = "close"
        self._on_secret = on_secret
        self.hooks["response"].append(self._note_secrets)

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        options.setdefault("timeout", SECONDS)
        options["allow_redirects"] = options.get("allow_redirects") is True
        return super().request(method, self.base_url + url if url.startswith("/") else url, **options)

    def get(self, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        # requests' own get() would follow redirects.
        return self.request("GET", url, **options)

    def options(self, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        return self.request("OPTIONS", url, **options)

    def promote(self, job_id: str) -> requests.Response:
        """Store the result of a job in the library."""
        return self.post(f"/api/conversion/{job_id}/promote-to-models")

    def clone(self) -> "Client":
        """Return another client in the same session."""
        twin = Client(self.base_url, self._on_secret)
        twin.cookies.update(self.cookies)
        return twin

    @property
    def cookie_header(self) -> str:
        """Return this client's Cookie header, for raw requests."""
        request = self.prepare_request(requests.Request("GET", f"{self.base_url}/"))
        return request.headers.get("Cookie", "")

    def sign_in(self, username: str, password: str | None = None) -> Self:
        """Sign in as a person would, by the login page."""
        page = self.get("/auth/login", allow_redirects=True)
        assert page.status_code == 200, (page.status_code, page.text[:500])
        form = {"username": username, "password": password or username}
        landed = self.post(page.url, data=form, allow_redirects=True)
        assert landed.url.startswith(self.base_url), landed.url.partition("?")[0]
        assert self.get("/api/me").status_code == 200
        return self

    def _note_secrets(self, response: requests.Response, **_: Any) -> None:
        for cookie in response.cookies:
            self._on_secret(cookie.value or "")
        query = parse_qs(urlsplit(response.headers.get("Location", "")).query)
        for name in ("state", "nonce", "code", "access_token"):
            for value in query.get(name, []):
                self._on_secret(value)


@dataclass(frozen=True)
class RawResponse:
    """A response as received: the headers in their order, names as sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


class RawConnection:
    """One TCP connection that sends exactly the given bytes."""

    def __init__(self, base_url: str, *, host: str | None = None, seconds: float = SECONDS) -> None:
        """Connect. `host` is what the Host header says, if it is not `base_url`'s."""
        parts = urlsplit(base_url)
        self._host = host or parts.netloc
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    @property
    def local_port(self) -> int:
        return int(self.socket.getsockname()[1])

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def send_head(self, method: str, path: str, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> Self:
        """Send a request line and headers; Host is ours unless given."""
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs.insert(0, ("Host", self._host))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
        return self.send("\r\n".join([*lines, "", ""]).encode())

    def send_chunk(self, data: bytes) -> Self:
        """Send one chunk of a chunked body (RFC 9112, section 7.1)."""
        return self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def finish_sending(self) -> Self:
        """Close our side (FIN). Responses can still be read."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def read_response(self, method: str = "GET") -> RawResponse:
        """Read one response."""
        response = http.client.HTTPResponse(self.socket, method=method)
        try:
            response.begin()
            return RawResponse(response.status, response.getheaders(), response.read())
        finally:
            response.close()
