"""Request smuggling: a request that two parsers could read differently is refused, or hides no second one.

Uploads on gunicorn's own port have their own corpus (tests/corpus/request_framings.py). Here are small bodies, and
the same through nginx, which parses first.
"""

import re

import pytest

from tests.security.conftest import Door
from tests.support.clients import Client

SMALL = "/api/conversion/check", "application/x-www-form-urlencoded"
UPLOAD = "/api/conversion/init", "multipart/form-data; boundary=b"
LAST = b"0\r\n\r\n"

#: Header lines, and what stands before the hidden request. Nobody may answer what is hidden.
AMBIGUOUS = {
    "length and coding": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", LAST),
    "coding and a length into the hidden one": (b"Transfer-Encoding: chunked\r\nContent-Length: 40", LAST),
    "coding twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", LAST),
    "another coding, and chunked": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", LAST),
    "unknown coding and a length": (b"Transfer-Encoding: xchunked\r\nContent-Length: 5", LAST),
    "blank before the colon": (b"Transfer-Encoding : chunked\r\nContent-Length: 5", LAST),
    "vertical tab before the coding": (b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 5", LAST),
    "folded coding": (b"Transfer-Encoding:\r\n chunked", LAST),
    "coding behind a carriage return": (b"X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5", LAST),
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 900", b"a="),
    "the same length twice": (b"Content-Length: 2\r\nContent-Length: 2", b"a="),
    "a list of lengths": (b"Content-Length: 2, 2", b"a="),
    "length with a sign": (b"Content-Length: +2", b"a="),
    "hexadecimal length": (b"Content-Length: 0x2", b"a="),
    "negative length": (b"Content-Length: -2", b"a="),
    "length behind a folded line": (b"X: y\r\n Content-Length: 900\r\nContent-Length: 2", b"a="),
    "NUL in a header": (b"X: y\0z\r\nContent-Length: 2", b"a="),
    "chunk size with a prefix": (b"Transfer-Encoding: chunked", b"0x2\r\na=\r\n" + LAST),
    "line feed in a chunk extension": (b"Transfer-Encoding: chunked", b"2;a\nb\r\na=\r\n" + LAST),
}
#: What is plain, or made plain by nginx: two requests, and two responses.
PLAIN = {
    "length": (b"Content-Length: 2", b"a="),
    "chunked": (b"Transfer-Encoding: chunked", b"2\r\na=\r\n" + LAST),
    "a name that only looks like a length": (b"Content_Length: 900\r\nContent-Length: 2", b"a="),
    "a name that only looks like a coding": (b"Transfer_Encoding: chunked\r\nContent-Length: 2", b"a="),
    "a length that is said to be for one hop": (b"Connection: Content-Length\r\nContent-Length: 2", b"a="),
    "an offer to change the protocol": (b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2", b"a="),
}


def sent(door: Door, client: Client, target: tuple[str, str], lines: bytes, body: bytes) -> list[int]:
    """Send a request with these lines and a second one directly after it. Return the statuses of the responses."""
    path, content_type = target
    head = f"POST {path} HTTP/1.1\r\nHost: {door.host}\r\nCookie: {client.cookie_header}\r\n"
    head += f"Content-Type: {content_type}\r\n"
    hidden = f"GET /console/errors.json HTTP/1.1\r\nHost: {door.host}\r\nConnection: close\r\n\r\n"
    received = door.talk(head.encode() + lines + b"\r\n\r\n" + body + hidden.encode())
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


@pytest.mark.parametrize("target", [SMALL, UPLOAD], ids=["small", "upload"])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_request_is_refused_and_nothing_behind_it_is_read(
    door: Door, alice: Client, target: tuple[str, str], name: str
) -> None:
    """One 4xx (or 501, for an unknown coding), and then the connection is closed."""
    statuses = sent(door, alice, target, *AMBIGUOUS[name])

    assert len(statuses) == 1, statuses
    assert statuses[0] in {400, 501}
    assert alice.get("/api/conversion/active").json() == {"active_job": None}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_request_is_followed_by_the_next(door: Door, alice: Client, name: str) -> None:
    """Otherwise the tests above would pass for any refusal. Similar header names are ignored."""
    statuses = sent(door, alice, SMALL, *PLAIN[name])

    assert statuses == [200, 200] or (name == "chunked" and statuses == [200]), "gunicorn ends the connection after one"


def test_a_body_of_a_reading_request_is_no_request(door: Door, alice: Client) -> None:
    inner = f"DELETE /api/models/m HTTP/1.1\r\nHost: {door.host}\r\nCookie: {alice.cookie_header}\r\n\r\n".encode()
    head = f"GET /api/me HTTP/1.1\r\nHost: {door.host}\r\nConnection: close\r\nCookie: {alice.cookie_header}\r\n"

    counted = door.talk(f"{head}Content-Length: {len(inner)}\r\n\r\n".encode() + inner)
    chunked = door.talk(f"{head}Transfer-Encoding: chunked\r\n\r\n{len(inner):x}\r\n".encode() + inner + b"\r\n" + LAST)

    for received in (counted, chunked):
        assert re.findall(rb"HTTP/1\.[01] (\d{3}) ", received) == [b"200"]


def test_other_protocols_are_not_spoken(door: Door) -> None:
    host = f"Host: {door.host}\r\nConnection: close\r\n\r\n".encode()
    for data in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 203.0.113.7 203.0.113.8 1 2\r\nGET /api/me HTTP/1.1\r\n" + host,
        b"GET /api/me HTTP/2.0\r\n" + host,
        b"get /api/me HTTP/1.1\r\n" + host,
        b"CONNECT evil.example:443 HTTP/1.1\r\n" + host,
        b"GET /api/me\0 HTTP/1.1\r\n" + host,
    ):
        statuses = re.findall(rb"HTTP/1\.[01] (\d{3}) ", door.talk(data))
        assert len(statuses) == 1, data
        assert statuses[0] in {b"400", b"404", b"405", b"505"}, data
