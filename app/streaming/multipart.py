"""Multipart messages taken apart and put together again, a chunk at a time.

A message is never passed on as it came: it is parsed, and composed anew with a fresh random boundary and canonical
part headers, so that no difference between our parser and the upstream's can smuggle a part through. The first part
is the caller's `user_id`, from the session; every part of the client's that claims to be one is dropped and counted.

The closing boundary is composed only after the inbound message has ended as it should: a failure in between
raises out of `Recomposition.chunks`, and what the upstream then holds is visibly incomplete (RFC 9112, section 8).
"""

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)
from requests_toolbelt.multipart.encoder import MultipartEncoder, Part

from app.domain.identity import claims_identity
from app.domain.model import clean_filename
from app.errors import InvalidRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from app.streaming.digest import BackgroundDigest

MAX_FIELD_BYTES = 1024 * 1024
MAX_PART_HEADER_BYTES = 8 * 1024
MAX_PART_HEADERS = 16
MAX_NAME_BYTES = 1024
#: Smaller pieces are joined, as long as more is at hand: a send has its price, and so has a copy.
JOIN_BELOW_BYTES = 16 * 1024
#: The part whose file is the model (upstream contract, section 3).
MODEL_PART = "model"

_MAX_REMEMBERED_VALUE_BYTES = 200
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,200}")
_CONTENT_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}"
    r"(?:; ?[A-Za-z0-9!#$&^_.+-]{1,50}=(?:[A-Za-z0-9!#$&^_.+-]{1,100}|\"[A-Za-z0-9 !#$&^_.+/:=-]{0,100}\")){0,8}"
)
# Parts that some readers look into for further parts or fields, past everything that was checked here.
_COMPOSITE_TYPES = ("multipart/", "message/", "application/x-www-form-urlencoded")
_DEFAULT_CONTENT_TYPE = "application/octet-stream"
# toolbelt asks for `.len` only to learn whether anything is left.
_UNKNOWN_LENGTH = 1 << 62


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
    boundary (RFC 2046, section 5.1.1; up to 200 characters, because some clients exceed its 70).
    """
    main_type, options = parse_options_header(content_type or "")
    if main_type != "multipart/form-data":
        raise UnsupportedMediaTypeError(f"the content type is {main_type[:80]!r}")
    boundary = str(options.get("boundary", ""))
    if not _BOUNDARY.fullmatch(boundary) or boundary.endswith(" "):
        raise InvalidRequestError("the multipart boundary is missing or malformed")
    return boundary


class Recomposition:
    """One upload's message, re-composed for the upstream. For one thread, once.

    `source` gives the inbound body and must raise, rather than end, when that body is cut off. Use `content_type` as
    the outbound header and send `chunks()`. After the last chunk `facts` is complete and `is_whole` true. With
    `wants_digest` the facts have the model's SHA-256, too.
    """

    def __init__(
        self,
        source: Iterable[bytes],
        boundary: str,
        user_id: str,
        *,
        max_parts: int,
        wants_digest: bool = False,
    ) -> None:
        self.facts = UploadFacts()
        self.is_whole = False
        self._has_begun = False
        self._user_id = user_id
        self._wants_digest = wants_digest
        self._digest: BackgroundDigest | None = None
        self._events = _Events(source, boundary, max_parts)
        self._encoder = _LazyEncoder(self._fields())

    @property
    def content_type(self) -> str:
        """The outbound Content-Type, with the fresh boundary."""
        return str(self._encoder.content_type)

    def chunks(self) -> Iterator[bytes]:
        """The outbound message, in chunks: what one arrival brought goes out before the next is asked for.

        A large chunk is the very bytes that arrived; small pieces are joined. Raises InvalidRequestError for a
        malformed message, PayloadTooLargeError for one over a limit, and whatever `source` raises; in each case
        the closing boundary has not been given out, and cannot be any more: to ask a second time is a bug, and
        raises RuntimeError.
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

    def _joined_pieces(self) -> Iterator[bytes]:
        small: list[bytes] = []
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
        if small:
            yield b"".join(small)

    def _fields(self) -> Iterator[tuple[str, Any]]:
        yield "user_id", self._user_id
        for event in self._events:
            if not isinstance(event, MultipartSegment):
                raise InvalidRequestError("the multipart message is malformed")
            self.facts.parts += 1
            name = event.name or ""
            body = _PartBody(self._part_bytes(event))
            if claims_identity(name):
                self.facts.dropped_identities += 1
                body.drain()
                continue
            _check_name(name)
            yield name, _field_value(event, body, self.facts)
            if body.len:  # the encoder has read a part to its end before it asks for the next
                raise InvalidRequestError("the multipart message is malformed")

    def _part_bytes(self, segment: MultipartSegment) -> Iterator[bytes]:
        is_field = segment.filename is None
        is_model = segment.name == MODEL_PART and not is_field and self.facts.model_bytes is None
        digest = self._digest = BackgroundDigest() if is_model and self._wants_digest else None
        size, start = 0, b""
        for event in self._events:
            if event is None:
                break
            size += len(event)
            if is_field:
                if size > MAX_FIELD_BYTES:
                    raise PayloadTooLargeError(f"a field may have {MAX_FIELD_BYTES} bytes")
                start = (start + event)[: _MAX_REMEMBERED_VALUE_BYTES + 1]
            if digest is not None:
                digest.update(event)
            yield event
        if is_model:
            self.facts.model_bytes = size
        if digest is not None:
            self.facts.model_sha256 = digest.finish()
        if is_field and size <= _MAX_REMEMBERED_VALUE_BYTES and not claims_identity(segment.name or ""):
            self.facts.fields.setdefault(segment.name or "", start.decode("utf-8", "replace"))


def _check_name(name: str) -> None:
    """Refuse part names that parsers are known to read differently, rather than guess which reading was meant."""
    if not name:
        raise InvalidRequestError("a part has no name")
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise PayloadTooLargeError(f"a part's name may have {MAX_NAME_BYTES} bytes")
    if "=?" in name:
        raise InvalidRequestError("a part's name has an encoded word")
    if any(character in '"\\;' or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name):
        raise InvalidRequestError("a part's name has a quote, a backslash, a semicolon or a control character")


def _field_value(segment: MultipartSegment, body: "_PartBody", facts: UploadFacts) -> tuple[Any, ...]:
    content_type = canonical_content_type(str(segment.header("Content-Type", "")))
    if segment.filename is None:
        return (None, body, content_type)
    # Path segments, quotes, backslashes and semicolons go: each has been some parser's way out of the header.
    filename = clean_filename(segment.filename, "file").replace(";", "_")
    if segment.name == MODEL_PART and not facts.filename:
        facts.filename = filename
    return (filename, body, content_type or _DEFAULT_CONTENT_TYPE)


def canonical_content_type(value: str) -> str | None:
    """Return a part's Content-Type if it is a plain one, else None (it then goes without, or as octets)."""
    if not _CONTENT_TYPE.fullmatch(value) or value.lower().startswith(_COMPOSITE_TYPES):
        return None
    return value


class _Events:
    """What the parser sees in the inbound message, in order: a segment, its bytes, None, and so on. For one thread.

    Raises InvalidRequestError, PayloadTooLargeError, and whatever the source raises.
    """

    def __init__(self, source: Iterable[bytes], boundary: str, max_parts: int) -> None:
        self._source = iter(source)
        self._max_parts = max_parts
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=MAX_PART_HEADER_BYTES,
            max_header_count=MAX_PART_HEADERS,
            max_segment_count=max_parts,
        )
        self._at_hand: deque[Any] = deque()

    @property
    def has_more_at_hand(self) -> bool:
        """Is there anything to come that need not be waited for? (After the end of a part, its successor is needed.)"""
        return len(self._at_hand) > 1 or (bool(self._at_hand) and self._at_hand[0] is not None)

    def __iter__(self) -> "_Events":
        return self

    def __next__(self) -> Any:
        while not self._at_hand:
            # Past the final boundary the parser drops what comes (an epilogue); the body is still read to its end.
            data = next(self._source, None)
            try:
                if data is None:
                    self._parser.close()
                    raise StopIteration
                self._at_hand.extend(self._parser.parse(data))
            except ParserLimitReached as error:
                raise self._limit_failure(error) from error
            except MultipartError as error:
                raise InvalidRequestError("the multipart message is malformed or has no end") from error
        return self._at_hand.popleft()

    def _limit_failure(self, error: ParserLimitReached) -> PayloadTooLargeError:
        if "segment count" in str(error):
            return PayloadTooLargeError(f"at most {self._max_parts} parts")
        return PayloadTooLargeError(f"a part's headers may have {MAX_PART_HEADER_BYTES} bytes")


class _PartBody:
    """A part's bytes in the form that toolbelt reads: `.len` stays over 0 until the end, and then is 0.

    toolbelt would ask for ever if `.len` stayed over 0 past the end: a short source raises instead.
    """

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self.len = _UNKNOWN_LENGTH

    def read(self, size: int = -1) -> bytes:
        """What arrived next, however much that is (toolbelt takes it as it comes), or b"" at the end."""
        del size
        data = next(self._source, None)
        if data is None:
            self.len = 0
            return b""
        return data

    def drain(self) -> None:
        """Read to the end and keep nothing."""
        for _ in self._source:
            pass
        self.len = 0


class _LazyEncoder(MultipartEncoder):  # type: ignore[misc]
    """toolbelt's encoder, made to take its parts one by one, and to pass their bytes on without copying them.

    The original builds all parts before the first byte, and moves every byte through a BytesIO.
    """

    def __init__(self, fields: Iterator[tuple[str, Any]]) -> None:
        super().__init__(fields)
        self._buffer: Any = _Pieces(self._buffer.read())

    def next_pieces(self) -> list[bytes]:
        """The next pieces of the message, for at most one read of a part's body; [] after the last."""
        while not self._buffer.has_any and not self.finished:
            self._load(1)
        pieces: list[bytes] = self._buffer.take()
        return pieces

    def _prepare_parts(self) -> None:
        self.parts: list[Part] = []
        make: Callable[..., Part] = Part.from_field
        self._iter_parts = (make(field, self.encoding) for field in self._iter_fields())

    def _write_closing_boundary(self) -> int:
        self._buffer.amend(b"--\r\n", instead_of=b"\r\n")
        return 2


class _Pieces:
    """Takes the place of toolbelt's buffer: keeps what is written as it is, in the order of writing."""

    def __init__(self, first: bytes) -> None:
        self._pieces = [first]

    @property
    def has_any(self) -> bool:
        return bool(self._pieces)

    def append(self, data: bytes) -> int:
        if data:
            self._pieces.append(data)
        return len(data)

    def amend(self, ending: bytes, *, instead_of: bytes) -> None:
        """Give what was written last, which is still here, another ending."""
        self._pieces[-1] = self._pieces[-1].removesuffix(instead_of) + ending

    def take(self) -> list[bytes]:
        """All that was written since the last time."""
        taken, self._pieces = self._pieces, []
        return taken

    def smart_truncate(self) -> None:
        """toolbelt would throw away here what was read; nothing read is kept."""
