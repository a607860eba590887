"""nginx's limits on requests: they stop a flood and no ordinary user.

nginx is the deployed one. The server behind it accepts every request, so that only the limits refuse.
Requests come from addresses of the loopback network other than 127.0.0.1, which is not limited.
"""

import asyncio
import json
import re
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count

import pytest

from app.errors import LANGUAGES, TooManyRequestsError
from tests.support.nginx import Nginx
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(120)

_ADDRESSES = count(2)
#: One user's page: the document, what it loads, and what it then asks of the API.
PAGE = ["/", *(f"/console/v/{name}" for name in ("console.css", "app.js", "texts/en.json", "logo.svg"))]
PAGE += ["/console/errors.json", "/api/me", "/api/models", "/api/conversion/active", "/api/conversion/jobs"]
PAGE += [f"/api/conversion/job-{number}" for number in range(4)]
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of a connection with 200, once its body has come."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if length := re.search(rb"(?i)\r\ncontent-length: (\d+)", head):
                await reader.readexactly(int(length[1]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-ID: r\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:  # also at the end of the tests, when an idle connection's task is cancelled
        writer.close()


@pytest.fixture(scope="module")
def upstream_port() -> Iterator[int]:
    loop = asyncio.new_event_loop()
    # A loop of its own thread: another test's browser may keep one running in this thread.
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    listening = asyncio.start_server(_answer, "127.0.0.1", 0, backlog=1_000)
    server = asyncio.run_coroutine_threadsafe(listening, loop).result(10)
    yield server.sockets[0].getsockname()[1]

    async def finish() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(finish(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, upstream_port: int) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("limited"), upstream_port) as made:
        yield made


@pytest.fixture
def address() -> str:
    """Return an address that no test has used yet."""
    return f"127.0.0.{next(_ADDRESSES)}"


def session(name: str) -> dict[str, str]:
    """Return a Cookie header with a session's cookie, as long as a real one, among others."""
    return {"Cookie": f"a=b; __Host-visiona_session={'p' * 300}.{name:0>6}.{name:x>43}; c=d"}


def connect(nginx: Nginx, address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", nginx.port), timeout=30, source_address=(address, 0))


def head(path: str, headers: dict[str, str], method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def ask(nginx: Nginx, address: str, requests: Sequence[bytes]) -> list[bytes]:
    """Return the responses to requests that are pipelined on one connection (RFC 9112, section 9.3.2)."""
    received = b""
    with connect(nginx, address) as connection:
        connection.sendall(b"".join(requests))
        while len(STATUS.findall(received)) < len(requests) or not received.endswith((b"ok", b"}")):
            piece = connection.recv(1 << 20)
            assert piece, received[-500:]
            received += piece
    return [b"HTTP/1.1 " + response for response in received.split(b"HTTP/1.1 ")[1:]]


def statuses(responses: Iterable[bytes]) -> Counter[int]:
    return Counter(int(response[9:12]) for response in responses)


def flood(nginx: Nginx, address: str, requests: Iterator[bytes], number: int) -> tuple[Counter[int], float]:
    """Send requests as fast as they are answered. Return their statuses and the seconds that it took."""
    began, found = time.monotonic(), Counter[int]()
    while found.total() < number:
        # Fewer than nginx's keepalive_requests.
        found += statuses(ask(nginx, address, [next(requests) for _ in range(min(500, number - found.total()))]))
    return found, time.monotonic() - began


def test_two_hundred_users_of_one_address_sign_in_and_load_the_page_at_once(nginx: Nginx, address: str) -> None:
    """14 requests each, and the two of a sign-in. None is refused."""
    assert len(PAGE) == 14
    found: Counter[int] = Counter()
    for user in range(200):
        signing_in = [head(path, {}) for path in ("/auth/login", "/auth/authorize?code=c&state=s")]
        found += statuses(ask(nginx, address, signing_in + [head(path, session(f"u{user}")) for path in PAGE]))
    assert found == {200: 200 * 16}


def test_a_browser_that_reopens_thirty_tabs_is_not_limited(nginx: Nginx, address: str) -> None:
    """Also if every request of the page were an API request."""
    tabs = [ask(nginx, address, [head("/api/me", session("tabs"))] * len(PAGE)) for _ in range(30)]
    assert statuses(response for responses in tabs for response in responses) == {200: 30 * len(PAGE)}


def test_five_hundred_uploads_of_one_address_are_under_way_at_once(nginx: Nginx, address: str) -> None:
    with ExitStack() as opened:
        connections = [opened.enter_context(connect(nginx, address)) for _ in range(500)]
        for user, connection in enumerate(connections):
            headers = {
                **session(f"up{user}"),
                "Content-Length": "2000",
                "Content-Type": "multipart/form-data; boundary=b",
            }
            connection.sendall(head("/api/conversion/init", headers, "POST") + b"x" * 1_000)
        for connection in connections:
            connection.sendall(b"x" * 1_000)
        assert Counter(connection.recv(12) for connection in connections) == {b"HTTP/1.1 200": 500}


def test_an_address_that_floods_the_sign_in_is_limited(nginx: Nginx, address: str) -> None:
    sign_in = head("/auth/authorize?code=the-code&state=s", {})
    found, seconds = flood(nginx, address, iter(lambda: sign_in, None), 1_500)
    assert 600 <= found[200] <= 601 + 20 * seconds
    assert found[429] == 1_500 - found[200]
    assert statuses(ask(nginx, address, [head("/api/me", session("bystander"))])) == {200: 1}
    assert statuses(ask(nginx, f"127.0.1.{address.rpartition('.')[2]}", [sign_in])) == {200: 1}
    assert "the-code" not in nginx.log(), "the error log shows an authorization code"


def test_a_session_that_floods_the_api_is_limited_wherever_it_comes_from(nginx: Nginx, address: str) -> None:
    flooding = iter(lambda: head("/api/models", session("floods")), None)
    found, seconds = flood(nginx, address, flooding, 1_500)
    assert 500 <= found[200] <= 501 + 50 * seconds
    other_address = f"127.0.2.{address.rpartition('.')[2]}"
    again, _ = flood(nginx, other_address, flooding, 500)
    assert again[429] > 0
    assert statuses(ask(nginx, address, [head("/api/me", session("bystander"))])) == {200: 1}
    # Another cookie beside the session's, or the page itself, is no way around it and none into it.
    assert statuses(ask(nginx, address, [head("/", session("floods"))])) == {200: 1}


def test_invented_sessions_do_not_get_an_address_further_than_its_own_limit(nginx: Nginx, address: str) -> None:
    invented = (head("/api/me", session(f"i{number}")) for number in count())
    found, seconds = flood(nginx, address, invented, 20_000)
    assert 10_000 <= found[200] <= 10_001 + 500 * seconds
    assert found[429] > 0


def test_a_session_has_as_many_requests_at_once_as_no_browser_makes(nginx: Nginx, address: str) -> None:
    headers = {"Content-Length": "2", "Content-Type": "multipart/form-data; boundary=b"}
    with ExitStack() as opened:
        connections = [opened.enter_context(connect(nginx, address)) for _ in range(65)]
        for connection in connections:
            connection.sendall(head("/api/conversion/init", {**session("wide"), **headers}, "POST"))
        refused = wait_until(lambda: [c for c in connections if is_readable(c)], "one of them is refused")
        assert [connection.recv(12) for connection in refused] == [b"HTTP/1.1 429"]
        assert statuses(ask(nginx, address, [head("/api/me", session("narrow"))])) == {200: 1}
        others = [connection for connection in connections if connection not in refused]
        for connection in others:
            connection.sendall(b"xx")
        assert Counter(connection.recv(12) for connection in others) == {b"HTTP/1.1 200": 64}


def test_programs_of_this_machine_are_not_limited_by_address(nginx: Nginx) -> None:
    """One of them may terminate TLS for all clients."""
    found, _ = flood(nginx, "127.0.0.1", iter(lambda: head("/auth/login", {}), None), 1_500)
    assert found == {200: 1_500}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_refusal_is_a_problem_in_the_readers_language(nginx: Nginx, address: str, language: str) -> None:
    entry = TooManyRequestsError("").entry
    asked = head("/auth/login", {"Accept-Language": language})
    flood(nginx, address, iter(lambda: asked, None), 700)
    refused = next(response for response in ask(nginx, address, [asked] * 100) if response.startswith(b"HTTP/1.1 429"))
    fields, _, body = refused.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in fields.decode().split("\r\n")[1:])
    assert (headers["content-type"], headers["retry-after"]) == ("application/problem+json", "5")
    assert (headers["cache-control"], headers["x-frame-options"]) == ("no-store", "deny")
    document = json.loads(body)
    assert document.keys() >= {"type", "detail", "request_id"}
    shown = {name: document[name] for name in ("status", "code", "i18n_key", "retryable", "blame", "title")}
    assert shown == {
        "status": entry.status,
        "code": entry.code,
        "i18n_key": entry.i18n_key,
        "retryable": entry.retryable,
        "blame": entry.blame.value,
        "title": entry.title[language],
    }


def is_readable(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])
