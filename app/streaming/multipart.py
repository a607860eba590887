"""Multipart messages taken apart and put together again, a chunk at a time.

A message is never passed on as it came: it is parsed, and composed anew with a fresh random boundary and canonical
part headers, so that no difference between our parser and the upstream's can smuggle a part through. The first part
is the caller's `user_id`, from the session; every part of the client's that claims to be one is dropped and counted.

The closing boundary is composed only after the inbound message has ended as it should: a failure in between
raises out of `UploadMessage.chunks`, and what the upstream then holds is visibly incomplete (RFC 9112, section 8).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from multipart import MultipartSegment

from app.domain.identity import claims_identity
from app.domain.model import clean_filename
from app.errors import InvalidRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from app.streaming import Chunk
from app.streaming.digest import BackgroundDigest
from app.streaming.encoder import LazyEncoder, PartBody
from app.streaming.events import MessageEvents, parts
from app.streaming.interruption import Interruption

MAX_FIELD_BYTES = 1024 * 1024
#: Smaller pieces are joined, as long as more is at hand: a send has its price, and so has a copy.
JOIN_BELOW_BYTES = 16 * 1024
#: The part whose file is the model (docs/upstreams.md).
MODEL_PART = "model"

_MAX_REMEMBERED_VALUE_BYTES = 200
# Quoted or not: some clients leave out the quotes that RFC 2045 wants around `=` and the like.
_PARAMETER = re.compile(
    r""";[ \t]*+([A-Za-z0-9!#$%&'*+.^_`|~-]++)[ \t]*+=[ \t]*+("[^"\\]*+"[ \t]*+|[^\x00-\x08\x0a-\x1f\x7f";\\]++)"""
)
_PARAMETERS = re.compile(rf"(?:{_PARAMETER.pattern})*;?[ \t]*+")
# More than RFC 2046, section 5.1.1, has: `*****` and `{...}` are in many samples of code. Nothing of it leaves the
# gateway, which writes a boundary of its own. The four that are missing are those with a meaning in the header itself.
_BOUNDARY = re.compile(r"[!#-:<-\[\]-~](?:[ !#-:<-\[\]-~]{0,198}[!#-:<-\[\]-~])?")
#: The parts that are files, whether or not their sender gives them a file name.
_FILE_PARTS = frozenset({MODEL_PART, "ref_images"})
_CONTENT_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}"
    r"(?:; ?[A-Za-z0-9!#$&^_.+-]{1,50}=(?:[A-Za-z0-9!#$&^_.+-]{1,100}|\"[A-Za-z0-9 !#$&^_.+/:=-]{0,100}\")){0,8}"
)
# Parts that some readers look into for further parts or fields, past everything that was checked here.
_COMPOSITE_TYPES = ("multipart/", "message/", "application/x-www-form-urlencoded")
# By any other, some readers decode a field, some take it for UTF-8, and some lose it.
_FIELD_CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1"}
_DEFAULT_CONTENT_TYPE = "application/octet-stream"


@dataclass(slots=True)
class UploadFacts:
    """What was learnt while the message passed: complete only when the message is."""

    filename: str = ""
    model_bytes: int | None = None
    #: In hexadecimal; None where nobody asked for it.
    model_sha256: str | None = None
    parts: int = 0
    dropped_identities: int = 0
    #: Small fields by name, the first of each name; for the log and the ledger, not for decisions.
    fields: dict[str, str] = field(default_factory=dict)


def parse_boundary(content_type: str | None) -> str:
    """Return the boundary that a request's Content-Type names.

    Raises UnsupportedMediaTypeError for anything but multipart/form-data, InvalidRequestError without a usable
    boundary: printable ASCII without quotes, backslashes and semicolons, up to 200 characters.
    """
    if media_type(content_type) != "multipart/form-data":
        raise UnsupportedMediaTypeError("multipart/form-data is expected")
    boundary = _the_boundary(content_type or "")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequestError("the multipart boundary is missing or malformed")
    return boundary


def media_type(content_type: str | None) -> str:
    """Return the type that a Content-Type names, in lower case and without its parameters; "" where there is none."""
    return (content_type or "").partition(";")[0].strip(" \t").lower()


def _the_boundary(content_type: str) -> str:
    """The one boundary among a Content-Type's parameters; "" where there is none, or more than one way to read it."""
    start = content_type.find(";")
    if not _PARAMETERS.fullmatch(content_type, start):
        return ""
    parameters = [(name.lower(), str(value)) for name, value in _PARAMETER.findall(content_type, start)]
    found = [(name, value) for name, value in parameters if name.partition("*")[0] == "boundary"]
    if len(found) != 1 or found[0][0] != "boundary":
        return ""
    value = found[0][1].rstrip(" \t")
    return value[1:-1] if value.startswith('"') else value


class UploadMessage:
    """One upload's message, re-composed for the upstream. For one thread, once.

    `source` gives the inbound body and must raise, rather than end, when that body is cut off. Use `content_type` as
    the outbound header and send `chunks()`. After the last chunk `facts` is complete and `is_whole` true. With
    `wants_digest` the facts have the model's SHA-256, too. `interruption` is the source's, for whoever
    sends the chunks.
    """

    def __init__(
        self,
        source: Iterable[Chunk],
        boundary: str,
        user_id: str,
        *,
        max_parts: int,
        wants_digest: bool = False,
        interruption: Interruption | None = None,
    ) -> None:
        self.facts = UploadFacts()
        self.is_whole = False
        self._has_begun = False
        self.interruption = interruption or Interruption()
        self._user_id = user_id
        self._wants_digest = wants_digest
        self._digest: BackgroundDigest | None = None
        self._events = MessageEvents(source, boundary, max_parts)
        self._encoder = LazyEncoder(self._fields())

    @property
    def content_type(self) -> str:
        """The outbound Content-Type, with the fresh boundary."""
        return str(self._encoder.content_type)

    def chunks(self) -> Iterator[Chunk]:
        """The outbound message, in chunks: what one arrival brought goes out before the next is asked for.

        A large chunk is the very bytes that arrived, lent if the source lends; small pieces are joined.

        Raises InvalidRequestError for a malformed message, PayloadTooLargeError for one over a limit, and whatever
        `source` raises; in each case the closing boundary has not been given out, and cannot be any more: to ask a
        second time is a bug, and raises RuntimeError.
        """
        if self._has_begun:
            raise RuntimeError("a message can be given out once")
        self._has_begun = True
        try:
            yield from self._joined_pieces()
        finally:
            if self._digest is not None:
                self._digest.abandon()
        self.is_whole = True

    def _joined_pieces(self) -> Iterator[Chunk]:
        small: list[Chunk] = []
        small_bytes = 0
        while pieces := self._encoder.next_pieces():
            for piece in pieces:
                if len(piece) < JOIN_BELOW_BYTES:
                    small.append(piece)
                    small_bytes += len(piece)
                    continue
                if small:
                    yield b"".join(small)
                    small, small_bytes = [], 0
                yield piece
            if small and (small_bytes >= JOIN_BELOW_BYTES or not self._events.has_more_at_hand):
                yield b"".join(small)
                small, small_bytes = [], 0
        if small:  # pragma: no cover - after its last piece, a message has nothing more at hand
            yield b"".join(small)

    def _fields(self) -> Iterator[tuple[str, Any]]:
        yield "user_id", self._user_id
        for segment, content in parts(self._events):
            self.facts.parts += 1
            name = segment.name or ""
            content_type = canonical_content_type(str(segment.header("Content-Type", "")))
            # RFC 7578, section 4.2, only recommends a file name, and some clients give none to a stream of bytes.
            if segment.filename is None and name in _FILE_PARTS and segment.content_type == _DEFAULT_CONTENT_TYPE:
                segment.filename = ""
            body = PartBody(self._part_bytes(segment, content))
            if claims_identity(name):
                self.facts.dropped_identities += 1
                body.drain()
                continue
            check_name(name)
            yield name, _field_value(segment, content_type, body, self.facts)
            if body.len:  # pragma: no cover - the encoder has read a part to its end before it asks for the next
                raise InvalidRequestError("the multipart message is malformed")

    def _part_bytes(self, segment: MultipartSegment, content: Iterator[Chunk]) -> Iterator[Chunk]:
        is_field = segment.filename is None
        is_model = segment.name == MODEL_PART and not is_field and self.facts.model_bytes is None
        digest = self._digest = BackgroundDigest() if is_model and self._wants_digest else None
        size, start = 0, b""
        for chunk in content:
            size += len(chunk)
            if is_field:
                if size > MAX_FIELD_BYTES:
                    raise field_too_large()
                if len(start) <= _MAX_REMEMBERED_VALUE_BYTES:
                    start += chunk[: _MAX_REMEMBERED_VALUE_BYTES + 1 - len(start)]
            if digest is not None:
                digest.update(bytes(chunk))
            yield chunk
        if is_model:
            self.facts.model_bytes = size
        if digest is not None:
            self.facts.model_sha256 = digest.finish()
        if is_field and size <= _MAX_REMEMBERED_VALUE_BYTES and not claims_identity(segment.name or ""):
            self.facts.fields.setdefault(segment.name or "", start.decode("utf-8", "replace"))


def check_name(name: str) -> None:
    """Refuse part names that parsers are known to read differently, rather than guess which reading was meant.

    Raises InvalidRequestError.
    """
    if not name:
        raise InvalidRequestError("a part has no name")
    if "=?" in name:
        raise InvalidRequestError("a part's name has an encoded word")
    if any(character in '"\\;' or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name):
        raise InvalidRequestError("a part's name has a quote, a backslash, a semicolon or a control character")


def field_too_large() -> PayloadTooLargeError:
    """The failure for a field of more than MAX_FIELD_BYTES."""
    return PayloadTooLargeError(f"a field may have {MAX_FIELD_BYTES} bytes")


def require_known_charset(segment: MultipartSegment) -> None:
    """Refuse a field in a charset that not all readers know. Raises InvalidRequestError."""
    if (segment.charset or "utf-8").lower() not in _FIELD_CHARSETS:
        raise InvalidRequestError("a field has a charset that not all readers know")


def _field_value(
    segment: MultipartSegment, content_type: str | None, body: "PartBody", facts: UploadFacts
) -> tuple[Any, ...]:
    if segment.filename is None:
        require_known_charset(segment)
        return (None, body, content_type)
    # Path segments, quotes, backslashes and semicolons go: each has been some parser's way out of the header.
    # Some readers take %22, %0D and %0A in it for a quote and line breaks, which is how browsers write those.
    filename = re.sub(r"%(?=22|0[AD])", "_", clean_filename(segment.filename.rstrip("; "), "file").replace(";", "_"))
    if segment.name == MODEL_PART and not facts.filename:
        facts.filename = filename
    return (filename, body, content_type or _DEFAULT_CONTENT_TYPE)


def canonical_content_type(value: str) -> str | None:
    """Return a part's Content-Type if it is a plain one, else None (it then goes without, or as octets)."""
    if not _CONTENT_TYPE.fullmatch(value) or value.lower().startswith(_COMPOSITE_TYPES):
        return None
    return value
