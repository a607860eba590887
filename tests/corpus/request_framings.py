"""Requests that are framed wrongly or oddly: one body for some server and another, or two requests, for the next.

The message inside is always the same plain one, and a second request always follows it on the same connection.
"""

from dataclasses import dataclass
from typing import Final

from tests.corpus.case import upload

BODY: Final = upload()
SIZE: Final = len(BODY)

_LENGTH: Final = f"Content-Length: {SIZE}"
_CHUNKED: Final = "Transfer-Encoding: chunked"
_LAST: Final = b"0\r\n\r\n"


@dataclass(frozen=True)
class Framing:
    """A request's own header lines and its body. `answers` are the statuses of all that comes back.

    201 says that the upload was taken, 404 that the request behind it was found where it should be, and answered. A
    refusal is the last response on its connection, unless said otherwise.
    """

    name: str
    lines: tuple[str | bytes, ...]
    body: bytes
    statuses: tuple[int, ...]
    why: str = ""
    version: str = "HTTP/1.1"
    line_end: bytes = b"\r\n"


def chunks(*parts: bytes, end: bytes = _LAST) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


def _length(slug: str, value: str, *statuses: int, why: str = "") -> Framing:
    return Framing(f"length-{slug}", (f"Content-Length: {value}",), BODY, statuses, why)


def _coding(slug: str, value: str, *statuses: int, why: str = "") -> Framing:
    return Framing(f"coding-{slug}", (f"Transfer-Encoding: {value}",), chunks(BODY), statuses, why)


def _header(slug: str, line: str | bytes, *statuses: int, why: str = "") -> Framing:
    return Framing(f"header-{slug}", (_LENGTH, line), BODY, statuses, why)


def _chunked(slug: str, body: bytes, *statuses: int, why: str = "") -> Framing:
    return Framing(f"chunked-{slug}", (_CHUNKED,), body, statuses, why)


def _size(slug: str, size: str, *statuses: int) -> Framing:
    return _chunked(f"size-{slug}", b"%b\r\n%b\r\n%b" % (size.encode(), BODY, _LAST), *statuses)


def _extension(slug: str, extension: bytes, *statuses: int, why: str = "") -> Framing:
    return _chunked(f"extension-{slug}", b"%x%b\r\n%b\r\n%b" % (SIZE, extension, BODY, _LAST), *statuses, why=why)


def _trailer(slug: str, trailer: bytes, *statuses: int, why: str = "") -> Framing:
    return _chunked(f"trailer-{slug}", chunks(BODY, end=b"0\r\n" + trailer), *statuses, why=why)


_AFTER_CHUNKS = "the connection ends after a chunked body, so that nothing behind it is taken for a request"

FRAMINGS: Final[list[Framing]] = [
    Framing("counted", (_LENGTH,), BODY, (201, 404), "the request behind it is a request of its own"),
    Framing("chunked", (_CHUNKED,), chunks(BODY), (201,), _AFTER_CHUNKS),
    Framing("counted-in-1.0", (_LENGTH,), BODY, (201,), version="HTTP/1.0"),
    Framing("chunked-in-1.0", (_CHUNKED,), chunks(BODY), (400,), "HTTP/1.0 knows no chunks", version="HTTP/1.0"),
    # Two framings at once (RFC 9112, section 6.1)
    Framing("length-and-chunked", (_LENGTH, _CHUNKED), chunks(BODY), (400,)),
    Framing("chunked-and-length", (_CHUNKED, "Content-Length: 5"), chunks(BODY), (400,)),
    Framing("chunked-and-no-length", (_CHUNKED, "Content-Length: 0"), chunks(BODY), (400,)),
    Framing("unknown-coding-and-length", ("Transfer-Encoding: xchunked", _LENGTH), BODY, (501,)),
    Framing("identity-and-length", ("Transfer-Encoding: identity", _LENGTH), BODY, (400,)),
    Framing(
        "length-and-chunked-with-low-line", (_LENGTH, "Transfer_Encoding: chunked"), BODY, (201, 404), "not that header"
    ),
    Framing(
        "chunked-and-length-with-low-line", (_CHUNKED, "Content_Length: 5"), chunks(BODY), (201,), "not that header"
    ),
    Framing("length-and-chunked-with-blank", (_LENGTH, "Transfer-Encoding : chunked"), BODY, (400,)),
    Framing(
        "neither",
        (),
        BODY,
        (400, 400),
        "no body by RFC 9112, so the refusal is of an empty one; what follows is no request",
    ),
    Framing("length-twice", (_LENGTH, _LENGTH), BODY, (400,)),
    Framing("lengths-that-differ", (_LENGTH, "Content-Length: 5"), BODY, (400,)),
    _length("list", f"{SIZE}, {SIZE}", 400),
    _length("list-that-differs", f"{SIZE}, 5", 400),
    _length("with-plus", f"+{SIZE}", 400),
    _length("negative", "-1", 400),
    _length("hexadecimal", f"0x{SIZE:x}", 400),
    _length("with-low-line", f"{SIZE // 10}_{SIZE % 10}", 400, why="Python's int() would take it"),
    _length("in-other-digits", "１９９", 400, why="Python's int() would take it"),
    _length("empty", "", 400),
    _length("with-fraction", f"{SIZE}.0", 400),
    _length("with-parameter", f"{SIZE};x", 400),
    _length("with-exponent", "2e2", 400),
    _length("of-400-digits", "9" * 400, 413),
    _length("with-zeros", f"000{SIZE}", 201, 404),
    _length("with-blanks", f"  {SIZE}  ", 201, 404),
    _length("too-short", f"{SIZE - 10}", 400, 400, why="what is behind the length is no request"),
    _length("too-long", f"{SIZE + 100_000}", 400, why="the body ends before its length"),
    _coding("capitals", "CHUNKED", 201),
    _coding("after-a-tab", "\tchunked", 201),
    _coding("empty", "", 501),
    _coding("unknown", "xchunked", 501),
    _coding("in-quotes", '"chunked"', 501),
    _coding("with-parameter", "chunked;q=1", 501),
    _coding("after-a-vertical-tab", "\x0bchunked", 400),
    _coding("with-blank-within", "chunk ed", 501),
    _coding("with-comma-behind", "chunked,", 501),
    _coding("with-comma-before", ",chunked", 501),
    _coding("chunked-twice", "chunked, chunked", 400),
    _coding("chunked-not-last", "chunked, gzip", 400),
    _coding("chunked-and-identity", "chunked, identity", 400),
    _coding("identity", "identity", 400),
    _coding("deflate", "deflate", 400),
    _coding("gzip-and-chunked", "gzip, chunked", 400, why="nobody here takes the gzip off"),
    _coding("identity-and-chunked", "identity, chunked", 400),
    Framing("coding-twice", (_CHUNKED, _CHUNKED), chunks(BODY), (400,)),
    Framing("coding-folded", ("Transfer-Encoding:\r\n chunked",), chunks(BODY), (400,)),
    Framing("codings-in-two-headers", ("Transfer-Encoding: identity", _CHUNKED), chunks(BODY), (400,)),
    _header("folded", "X: a\r\n b", 400, why="obsolete (RFC 9112, section 5.2)"),
    _header("with-nul", "X: a\0b", 400),
    _header("with-carriage-return", "X: a\rb", 400),
    _header("with-line-feed", "X: a\nY: b", 400),
    _header("without-colon", "x", 400),
    _header("without-name", ": x", 400),
    _header("name-with-blank-before", " X: y", 400),
    _header("name-with-blank-behind", "X : y", 400),
    _header("name-that-is-no-token", "X(y): z", 400),
    _header("second-host", "Host: elsewhere", 400),
    _header("second-content-type", "Content-Type: text/plain", 400),
    _header("of-9-kilobytes", "X: " + "y" * 9_000, 431),
    Framing("header-flood", (_LENGTH, *(f"X-{number}: y" for number in range(200))), BODY, (431,)),
    Framing("line-feeds", (_LENGTH,), BODY, (400,), line_end=b"\n"),
    _size("with-zeros", f"000{SIZE:x}", 201),
    _size("in-capitals", f"{SIZE:X}", 201),
    _size("with-prefix", f"0x{SIZE:x}", 400),
    _size("with-plus", f"+{SIZE:x}", 400),
    _size("negative", f"-{SIZE:x}", 400),
    _size("with-blank-before", f" {SIZE:x}", 400),
    _size("with-blank-behind", f"{SIZE:x} ", 400),
    _size("with-tab-behind", f"{SIZE:x}\t", 400),
    _size("with-low-line", f"{SIZE // 16:x}_{SIZE % 16:x}", 400),
    _size("empty", "", 400),
    _size("no-number", "g", 400),
    _size("with-a-letter-behind", f"{SIZE:x}h", 400),
    _size("of-more-than-64-bits", "f" * 17, 400),
    _chunked("byte-by-byte", chunks(*(bytes([byte]) for byte in BODY)), 201),
    _chunked("line-feeds", b"%x\n%b\n0\n\n" % (SIZE, BODY), 400),
    _chunked("line-feed-after-the-size", b"%x\n%b\r\n%b" % (SIZE, BODY, _LAST), 400),
    _chunked("line-feed-after-the-data", b"%x\r\n%b\n%b" % (SIZE, BODY, _LAST), 400),
    _chunked("nothing-after-the-data", b"%x\r\n%b%b" % (SIZE, BODY, _LAST), 400),
    _chunked("more-after-the-data", b"%x\r\n%bx\r\n%b" % (SIZE, BODY, _LAST), 400),
    _chunked("size-too-large", b"%x\r\n%b\r\n%b" % (SIZE + 1, BODY, _LAST), 400),
    _chunked("last-of-zeros", chunks(BODY, end=b"000\r\n\r\n"), 201),
    _chunked("last-with-prefix", chunks(BODY, end=b"0x0\r\n\r\n"), 400),
    _chunked("last-negative", chunks(BODY, end=b"-0\r\n\r\n"), 400),
    _chunked("last-with-line-feeds", chunks(BODY, end=b"0\n\n"), 400),
    _chunked("last-without-its-end", chunks(BODY, end=b"0\r\n"), 400),
    _chunked("last-missing", chunks(BODY, end=b""), 400),
    _chunked("last-in-the-middle", chunks(BODY[:50]) + chunks(BODY[50:]), 400),
    _extension("plain", b";a=b", 201),
    _extension("in-quotes", b';a="b;c"', 201),
    _extension("with-line-feed", b";a\nb", 400),
    _extension("with-carriage-return", b";a\rb", 400),
    _extension("with-nul", b";a\0b", 400),
    _extension("with-line-break-in-quotes", b';a="\r\n"', 400),
    _extension("of-100-kilobytes", b";" + b"a" * 100_000, 400),
    _trailer("plain", b"X: y\r\n\r\n", 201, why="read and dropped"),
    _trailer(
        "with-a-framing", b"Content-Length: 5\r\n\r\n", 400, why="no trailer may say that (RFC 9110, section 6.5.1)"
    ),
    _trailer("with-a-claim", b"X-User-Id: u-bob-c81e\r\n\r\n", 201, why="read and dropped"),
    _trailer("without-colon", b"x\r\n\r\n", 400),
    _trailer("with-line-feed", b"X: y\n\n", 400),
    _trailer("flood", b"X: y\r\n" * 20_000 + b"\r\n", 400),
    _trailer("of-200-kilobytes", b"X: " + b"y" * 200_000 + b"\r\n\r\n", 400),
]
