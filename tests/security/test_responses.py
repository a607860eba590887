"""Every response has each security header once, also those of nginx and gunicorn, and is a readable problem."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests

from app.domain.security_headers import security_headers
from app.errors import LANGUAGES, PayloadTooLargeError, catalogue
from tests.security.conftest import WAYS, Door
from tests.support.clients import Client, RawConnection, RawResponse
from tests.support.nginx import Nginx
from tests.support.processes import free_port, wait_until
from tests.support.stack import Stack

BY_TLS = "by TLS"
MEMBERS = {"type", "title", "status", "detail", "code", "i18n_key", "retryable", "blame", "request_id"}


class TLSDoor(Door):
    """The way that browsers use."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, WAYS[0])
        assert stack.nginx is not None
        self._tls_url = stack.nginx.tls_url
        self._context = ssl.create_default_context(cafile=stack.nginx.certificate)

    def connect(self) -> RawConnection:
        connection = RawConnection(self._tls_url)
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname="localhost")
        return connection


@pytest.fixture(params=[*WAYS, BY_TLS])
def any_door(stack: Stack, request: pytest.FixtureRequest) -> Door:
    return TLSDoor(stack) if request.param == BY_TLS else Door(stack, request.param)


#: Method, path, headers, and the statuses of which one must come: by the application, by gunicorn, by nginx.
ANSWERS = {
    "page": ("GET", "/", [], {200}),
    "file of the page": ("GET", "/console/x/js/app.js", [], {200}),
    "probe": ("GET", "/healthz", [("Host", "10.0.0.1")], {200}),
    "sign-in": ("GET", "/auth/login", [], {302}),
    "failed sign-in": ("GET", "/auth/authorize?state=x", [("Accept", "text/html")], {400}),
    "no session": ("GET", "/api/me", [], {401}),
    "no route": ("GET", "/nothing", [], {404}),
    "another host": ("GET", "/", [("Host", "evil.example")], {400}),
    "another method": ("PUT", "/healthz", [], {405}),
    "TRACE": ("TRACE", "/", [], {405}),
    "metrics": ("GET", "/metrics", [("Host", "evil.example")], {200, 404}),
    "too many headers": ("GET", "/", [(f"X-{number}", "y") for number in range(70)], {431}),
    "a header that is too long": ("GET", "/", [("X", "y" * 9_000)], {400, 431}),
    "an address that is too long": ("GET", "/?" + "y" * 9_000, [], {414}),
    "a head that is too long": ("GET", "/", [(f"X-{number}", "y" * 8_000) for number in range(8)], {200, 400}),
    "two hosts": ("GET", "/", [("Host", "a"), ("Host", "b")], {400}),
    "a header without a name": ("GET", "/", [("", "x"), ("Content-Length", "x")], {400}),
    "an unknown transfer coding": ("POST", "/", [("Transfer-Encoding", "x")], {501}),
    "an expectation that nobody meets": ("GET", "/api/me", [("Expect", "x")], {401, 417}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_response_has_each_security_header_once(any_door: Door, name: str) -> None:
    """Also those of nginx and gunicorn; Strict-Transport-Security wherever a browser sees https."""
    method, path, headers, statuses = ANSWERS[name]

    response = any_door.ask(method, path, *headers)

    assert response.status in statuses
    for header, value in security_headers(is_https=True).items():
        found = [given for given_name, given in response.headers if given_name.lower() == header.lower()]
        if header == "Strict-Transport-Security" and not isinstance(any_door, TLSDoor) and not found:
            continue  # without TLS of its own, nginx cannot know of any
        if header == "Referrer-Policy" and path.startswith("/auth/"):
            value = "no-referrer"  # noqa: PLW2901
        assert found == [value], header
    assert (
        "text/html" not in (response.header("Content-Type") or "")
        or b"<script" not in response.body.split(b"</head>")[-1]
    )


def test_what_gunicorn_refuses_is_a_problem_that_repeats_nothing_of_the_request(stack: Stack) -> None:
    around = Door(stack, WAYS[1])
    for name, status in (("a header that is too long", 431), ("an address that is too long", 414), ("two hosts", 400)):
        method, path, headers, _ = ANSWERS[name]
        response = around.ask(method, path, *headers)
        assert (response.status, response.header("Content-Type")) == (status, "application/problem+json")
        assert response.header("Cache-Control") == "no-store"
        assert response.json()["status"] == status
        assert set(response.json()) == MEMBERS - {"request_id"}
    marked = around.talk(b"GET /<marker> HTTP/7.7\r\nHost: x\r\n\r\n")
    assert marked.startswith(b"HTTP/1.1 400 ")
    assert b"marker" not in marked


def test_a_malformed_small_body_is_the_senders_mistake(stack: Stack, alice: Client) -> None:
    """For every fault in chunks or trailers the response is 400, and the gateway does not crash."""
    around = Door(stack, WAYS[1])
    for body in (
        b"x\r\n",
        b"2;a\nb\r\na=\r\n0\r\n\r\n",
        b"2\na=\r\n0\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"2\r\na=0\r\n\r\n",
    ):
        for method, path in (("POST", "/api/conversion/check"), ("PATCH", "/api/models/some-model")):
            with around.connect() as connection:
                head = {
                    "Host": around.host,
                    "Cookie": alice.cookie_header,
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Transfer-Encoding": "chunked",
                }
                response = connection.send_head(method, path, head).send(body).finish_sending().read_response(method)
            assert (response.status, response.json()["code"]) == (400, "invalid_request"), (body, path)


def test_no_head_that_nginx_passes_on_is_too_large_for_gunicorn(stack: Stack) -> None:
    """For sizes around nginx's limit, it is always nginx that refuses."""
    through = Door(stack, WAYS[0])
    responses = [through.ask("GET", "/healthz", ("X", "y" * length)).status for length in range(8_180, 8_194)]
    lines = [through.ask("GET", "/healthz?" + "y" * length).status for length in range(8_160, 8_184)]

    assert sorted(set(responses)) == [200, 400]
    assert sorted(set(lines)) == [200, 414]


# --- nginx alone: without an upstream, with a silent one, and with one that returns what it gets


@dataclass
class Upstream:
    """Takes the gateway's place: responds with 502 like the gateway, and records requests."""

    port: int
    requests: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told.requests.append((self.path, self.headers.items()))
            body = b'{"code":"converter_unavailable"}'
            self.send_response(502)
            headers = {"X-Request-ID": "the-gateways", "Content-Type": "application/problem+json"}
            headers |= {**security_headers(is_https=True), "Content-Length": str(len(body)), "Vary": "Cookie"}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the base class looks for these names

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told = Upstream(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield told
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx"), upstream.port) as made:
        yield made


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """An nginx without a gateway."""
    with Nginx(tmp_path_factory.mktemp("lonely"), free_port()) as made:
        yield made


def get(url: str, path: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url + path, headers=headers, allow_redirects=False, timeout=10)


@pytest.mark.parametrize(
    ("accepts", "language", "title"),
    [
        ("en-GB,en;q=0.9", "en", "The service cannot be reached"),
        ("zh-TW,zh;q=0.9,en;q=0.8", "zh-TW", "無法連線到服務"),
        ("de", "en", "The service cannot be reached"),
    ],
)
def test_without_a_gateway_nginx_answers_with_a_problem_in_the_readers_language(
    lonely: Nginx, accepts: str, language: str, title: str
) -> None:
    """502 with Retry-After, an id that is in nginx's log, and no-store."""
    response = get(lonely.url, "/api/me", **{"Accept-Language": accepts})

    document = json.loads(response.content)
    assert response.status_code == document["status"] == 502
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "5"
    assert response.headers["Cache-Control"] == "no-store"
    assert set(document) == MEMBERS
    assert (document["title"], document["code"]) == (title, "gateway_unavailable")
    assert (document["i18n_key"], document["blame"], document["retryable"]) == ("busy", "gateway", True)
    assert document["request_id"] == response.headers["X-Request-ID"]
    # nginx writes its line after the response.
    wait_until(lambda: document["request_id"] in lonely.access_log.read_text(encoding="utf-8"), "the line is there")


def test_an_upload_without_a_gateway_gets_the_same_problem(lonely: Nginx) -> None:
    with RawConnection(lonely.url) as connection:
        response = (
            connection.send_head("POST", "/api/conversion/init", {"Content-Length": "2"}).send(b"ab").read_response()
        )
    assert (response.status, response.json()["code"]) == (502, "gateway_unavailable")


def test_a_gateway_that_does_not_answer_in_time_is_a_504(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        patience = {"proxy_read_timeout 90s;": "proxy_read_timeout 1s;"}
        with Nginx(tmp_path, silent.getsockname()[1], replacements=patience) as nginx:
            response = get(nginx.url, "/api/me")
    document = response.json()
    assert response.status_code == document["status"] == 504
    assert (document["code"], response.headers["Retry-After"]) == ("gateway_unavailable", "5")


def test_a_body_that_is_far_too_large_is_refused_by_nginx_in_the_gateways_words(lonely: Nginx) -> None:
    """The code, key, blame and titles of the catalogue, in both languages."""
    entry = PayloadTooLargeError("").entry
    for language in LANGUAGES:
        headers = {"Content-Length": str(6 * 1024**2), "Accept-Language": language}
        with RawConnection(lonely.url) as connection:
            response = connection.send_head("PATCH", "/api/models/m", headers).read_response()
        document = response.json()
        assert response.status == document["status"] == entry.status
        assert (document["code"], document["i18n_key"], document["title"]) == (
            entry.code,
            entry.i18n_key,
            entry.title[language],
        )
        assert (document["blame"], document["retryable"]) == (entry.blame.value, entry.retryable)
        assert document["detail"].startswith(entry.detail[language].split("{")[0])
        assert response.header("Retry-After") is None


HEAD = "HTTP/1.1\r\nHost: localhost\r\nAccept-Language: {language}\r\n"
#: What nginx refuses by itself: the request, the status, the code.
REFUSED: dict[str, tuple[str, int, str]] = {
    "metrics": (f"GET /metrics {HEAD}\r\n", 404, "not_found"),
    "TRACE": (f"TRACE / {HEAD}\r\n", 405, "method_not_allowed"),
    "an address that is too long": (f"GET /{'y' * 9_000} HTTP/1.1\r\n\r\n", 414, "invalid_request"),
    "a header that is too long": (f"GET / {HEAD}X: {'y' * 9_000}\r\n\r\n", 400, "invalid_request"),
    "two hosts": (f"GET / {HEAD}Host: x\r\n\r\n", 400, "invalid_request"),
    "an unknown transfer coding": (f"POST / {HEAD}Transfer-Encoding: x\r\n\r\n", 501, "invalid_request"),
    "an address above the root": ("GET /../x HTTP/1.1\r\n\r\n", 400, "invalid_request"),
    "its own page's address": (f"GET /.refused {HEAD}\r\n", 404, "not_found"),
    "no HTTP": ("\x16\x03<marker>\r\n\r\n", 400, "invalid_request"),
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_nginx_refuses_is_a_problem_in_the_catalogues_words(lonely: Nginx, name: str, language: str) -> None:
    sent, status, code = REFUSED[name]
    response = ask_raw(lonely.port, sent.replace("{language}", language))
    document, entry = response.json(), catalogue()[code]
    assert response.status == document["status"] == status
    assert response.header("Content-Type") == "application/problem+json"
    assert set(document) == MEMBERS
    assert (document["code"], document["type"]) == (code, f"urn:visiona:problem:{code}")
    assert (document["i18n_key"], document["retryable"]) == (entry.i18n_key, entry.retryable)
    assert document["blame"] == entry.blame.value
    # A first line that cannot be taken is answered before any language is told.
    spoken = language if "{language}" in sent else "en"
    assert document["title"] == entry.title[spoken]
    assert document["detail"].startswith(entry.detail[spoken].split("{")[0])
    assert document["request_id"] == response.header("X-Request-ID")
    assert b"marker" not in response.body


def test_plain_http_where_tls_is_spoken_is_a_problem_too(lonely: Nginx) -> None:
    response = ask_raw(lonely.tls_port, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (response.status, response.json()["code"]) == (400, "invalid_request")


def test_a_response_of_the_gateways_passes_unchanged(nginx: Nginx) -> None:
    """A 502 of the gateway is not one of nginx: nothing is added, repeated or replaced."""
    response = get(nginx.url, "/api/me")

    assert (response.status_code, response.json()) == (502, {"code": "converter_unavailable"})
    names = [name.lower() for name in response.headers]
    assert sorted(set(names) & {"retry-after", "cache-control"}) == []
    assert response.headers["X-Request-ID"] == "the-gateways"
    for name, value in security_headers(is_https=True).items():
        assert response.raw.headers.getlist(name) == [value]


@pytest.mark.parametrize("host", ["evil.example", "localhost:1", "evil.example\\", "localhost@evil.example"])
def test_the_way_to_tls_leads_to_our_own_name(lonely: Nginx, host: str) -> None:
    """For any Host or address: a cache in between could store the redirect for others."""
    responses = [
        ask_raw(lonely.redirect_port, f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        for target in ("/a?b=c", "http://evil.example/a?b=c", "//evil.example/a")
    ]
    for response in responses:
        if response.status != 400:
            location = urlsplit(response.header("Location") or "")
            assert (response.status, location.scheme, location.netloc) == (308, "https", "localhost")
            assert response.header("X-Content-Type-Options") == "nosniff"


def ask_raw(port: int, head: str) -> RawResponse:
    with RawConnection(f"http://127.0.0.1:{port}") as connection:
        return connection.send(head.encode()).read_response()


def test_the_gateway_hears_of_the_way_from_nginx_alone(nginx: Nginx, upstream: Upstream) -> None:
    """Each forwarding header arrives once, with nginx's value, or not at all."""
    given = {
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "ftp",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Server": "evil.example",
        "X-Forwarded-User": "u-bob",
        "X-Forwarded-Ssl": "on",
        "X-Forwarded-Protocol": "ssl",
        "X-Forwarded-Prefix": "/evil",
        "X-Real-IP": "203.0.113.7",
        "Forwarded": "for=203.0.113.7",
        "Proxy": "http://evil.example",
        "SCRIPT_NAME": "/evil",
        "X_Forwarded_For": "203.0.113.7",
    }
    get(nginx.url, "/forwarded", **given)

    headers = [
        (name.lower(), value) for path, found in upstream.requests if path == "/forwarded" for name, value in found
    ]
    about_the_way = sorted(pair for pair in headers if pair[0] in {name.lower() for name in given})
    assert about_the_way == [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", urlsplit(nginx.url).netloc),
        ("x-forwarded-proto", "http"),
        ("x-real-ip", "127.0.0.1"),
    ]


@pytest.mark.parametrize("path", ["/api/models/m", "/api/conversion/init", "/api/conversion/j/promote-to-models"])
@pytest.mark.parametrize(
    ("method", "expected"), [("GET", None), ("POST", "close"), ("PATCH", "close"), ("DELETE", "close")]
)
def test_a_request_that_changes_something_shares_its_connection_with_no_other(
    nginx: Nginx, upstream: Upstream, method: str, path: str, expected: str | None
) -> None:
    """nginx 1.29.7 and later reuses connections of each group, unless the request or the response says `close`."""
    requests.request(method, nginx.url + path, timeout=10)

    _, headers = upstream.requests[-1]
    assert dict(headers).get("Connection") == expected


@pytest.mark.parametrize("name", ["metrics", "readyz"])
def test_no_spelling_of_a_closed_path_passes(nginx: Nginx, upstream: Upstream, name: str) -> None:
    """A path that nginx lets through is another path for the gateway too, by any decoding."""
    first = f"%{ord(name[0]):02x}{name[1:]}"
    spellings = [f"/{name}", f"/{name}?x", f"/{name}#x", f"//{name}", f"/./{name}", f"/x/../{name}", f"/{first}"]
    spellings += [f"/%2e/{name}", f"/x/%2e%2e/{name}", f"/x/..%2f{name}", f"/{name}/", f"/{name}%20"]
    spellings += [f"/{name.upper()}", f"/{name};x", f"/%2f{name}", f"http://localhost/{name}"]
    spellings += [f"http://localhost//{name}", f"/{name}%23"]
    upstream.requests.clear()

    responses = [
        ask_raw(nginx.port, f"GET {spelling} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status
        for spelling in spellings
    ]

    assert responses[0] == 404
    assert set(responses) <= {404, 400, 502}
    passed = [path for path, _ in upstream.requests]
    assert passed, "the spellings that are other paths do pass"
    assert not [path for path in passed if unquote(urlsplit(path).path) == f"/{name}" or path.startswith("http")]


@pytest.mark.parametrize(
    ("cipher", "is_taken"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-AES128-SHA", False),
        ("ECDHE-ECDSA-AES256-SHA384", False),
    ],
)
def test_tls_is_authenticated_encryption_only(lonely: Nginx, cipher: str, is_taken: bool) -> None:
    """TLS 1.2 with CBC, which nginx accepts by default, is refused."""
    context = ssl.create_default_context(cafile=lonely.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with socket.create_connection(("127.0.0.1", lonely.tls_port), timeout=10) as plain:
        if is_taken:
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                assert secured.cipher()[0] == cipher  # type: ignore[index]
        else:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname="localhost")
