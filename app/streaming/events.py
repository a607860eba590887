"""Parse a multipart message as it arrives: the result does not depend on how it is cut into arrivals.

The parser is python-multipart's `PushMultipartParser`. Three of its states are used by their private names, and so an
incompatible version fails at import.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from multipart import (
    _BODY,
    _COMPLETE,
    _HEADER,
    MultipartError,
    MultipartSegment,
    ParserError,
    ParserLimitReached,
    PushMultipartParser,
)

from app.errors import GatewayError, InvalidRequestError, PayloadTooLargeError
from app.streaming import LENT_FROM_BYTES, Chunk
from app.streaming.part_headers import (
    MAX_PART_HEADER_BYTES,
    decode_text,
    filename_of,
    header_too_large,
    require_name,
    require_readable,
)
from app.streaming.scanning import Scanner

MAX_PART_HEADERS = 16
#: The lines of all headers of a part: some clients fold long ones.
_MAX_HEADER_LINES = 2 * MAX_PART_HEADERS
#: What may come before the first boundary. No known client writes any; the parser alone would read it forever.
MAX_PREAMBLE_BYTES = 16 * 1024

# RFC 2046, section 5.1.1: blanks may follow a boundary on its line. After that line comes the epilogue.
_REST_OF_LINE = re.compile(rb"[ \t]{0,200}\r?(\n?)")
#: How much the parser gets at once where there is a boundary or a header.
STEP_BYTES = 64 * 1024
#: A header line, or the continuation of one. The parser alone strips any kind of blank from a header's name.
_HEADER_LINE = re.compile(rb"(?:[A-Za-z0-9_-]++[ \t]*+:|[ \t])[^\x00-\x08\x0a-\x1f\x7f]*+")


class _Parser(PushMultipartParser):  # type: ignore[misc]
    """The parser, made faster for content and stricter for header lines.

    Content before a boundary, or before what may be the beginning of one, is passed on as the view that it came in.
    The parser's own search would hold the interpreter's lock. The parser gets the rest in small steps, because it
    copies what it is given. A line feed within a header line is refused, wherever the line is cut.
    """

    def __init__(self, boundary: str, max_parts: int, **limits: int) -> None:
        super().__init__(boundary, **limits)
        self._max_parts = max_parts
        self._parts = 0
        self._header_lines = 0
        self._is_utf8 = True
        # Unfinished header lines wait here: the base class would search them again for each piece that arrives.
        self._line_begun = bytearray()
        self._scanner = Scanner(b"\r\n--" + boundary.encode())

    def parse(self, chunk: Chunk) -> Iterator[Any]:
        """Parse a chunk, which may be a view and must not be empty."""
        while chunk:
            if self._state is _BODY and not self._buffer:
                content = self._scanner.bytes_before(chunk)
                if content is None:
                    yield from super().parse(bytes(chunk))
                    return
                if content:
                    piece = chunk[:content]
                    yield self._on_segment_payload(piece if content >= LENT_FROM_BYTES else bytes(piece))
                    chunk = chunk[content:]
                    continue
            step, chunk = bytes(chunk[:STEP_BYTES]), chunk[STEP_BYTES:]
            if self._state is _HEADER:
                self._line_begun += step
                if b"\n" not in step and len(self._line_begun) <= self.max_header_size:
                    continue
                step = bytes(self._line_begun)
                self._line_begun.clear()
            yield from super().parse(step)
            if self.is_complete:
                # The parser looks at nothing more; MessageEvents checks the rest of the last boundary's line.
                self._buffer += bytes(chunk)
                return

    @property
    def is_complete(self) -> bool:
        """Whether the last boundary has been read."""
        return self._state is _COMPLETE

    @property
    def rest(self) -> bytes:
        """What has arrived after the last boundary."""
        return bytes(self._buffer)

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> MultipartSegment:
        # Counted here: the base class reports every limit by the same exception, and only its text says which one.
        self._parts += 1
        if self._parts > self._max_parts:
            raise too_many_parts(self._max_parts)
        require_readable(headerlist)
        segment = super()._create_segment(headerlist)
        require_name(segment.name, is_utf8=self._is_utf8)
        segment.filename = filename_of(headerlist, segment.filename)
        self._header_lines, self._is_utf8 = 0, True
        return segment

    def _on_segment_headerline(self, line: bytes) -> None:
        # The base class parses all of a header again for each line of it.
        self._header_lines += 1
        if self._header_lines > _MAX_HEADER_LINES:
            raise ParserLimitReached("Too many segment header lines")
        if not _HEADER_LINE.fullmatch(line):
            raise ParserError("Malformed segment header")
        line, given = decode_text(line).encode(), line
        self._is_utf8 = self._is_utf8 and line == given
        super()._on_segment_headerline(line)


class MessageEvents(Iterator[Any]):
    """The events of one message, in order: for each part its segment, its bytes, and None. For one thread, once.

    The source is read to its end, and the events of one arrival are given before the next is asked for. Raises
    InvalidRequestError, PayloadTooLargeError, and whatever the source raises.
    """

    def __init__(self, source: Iterable[Chunk], boundary: str, max_parts: int) -> None:
        self._source = iter(source)
        # Lines that are slightly too long are refused by `require_readable`, however they arrive.
        self._parser = _Parser(
            boundary,
            max_parts,
            max_header_size=2 * MAX_PART_HEADER_BYTES,
            max_header_count=MAX_PART_HEADERS,
        )
        self._first_boundary = b"--" + boundary.encode()
        self._at_hand: deque[Any] = deque()
        self._failure: GatewayError | None = None
        self._preamble: bytearray | None = bytearray()
        self._last_line: bytes | None = None
        self._is_in_epilogue = False

    @property
    def has_more_at_hand(self) -> bool:
        """Return whether another event can be given without reading the source. The end of a part alone is not one."""
        return len(self._at_hand) > 1 or (bool(self._at_hand) and self._at_hand[0] is not None)

    def __next__(self) -> Any:
        while not self._at_hand:
            if self._failure is not None:
                raise self._failure
            data = next(self._source, None)
            if data is None and self._parser.closed:
                raise StopIteration
            try:
                if data is None:
                    self._finish()
                else:
                    self._take(data)
            except ParserLimitReached as error:
                self._fail(header_too_large(), error)
            except MultipartError as error:
                self._fail(InvalidRequestError("the multipart message is malformed or incomplete"), error)
            except GatewayError as error:
                self._failure = error
        return self._at_hand.popleft()

    def _take(self, data: Chunk) -> None:
        if self._is_in_epilogue:
            return
        if self._last_line is not None:
            self._end_last_line(bytes(data))
            return
        if self._preamble is not None:
            if len(data) > STEP_BYTES:
                self._take(data[:STEP_BYTES])
                self._take(data[STEP_BYTES:])
                return
            # The parser forgets a preamble that it has seen, and could not check then what came before the boundary.
            # What was searched is not searched again, except where a boundary may have begun.
            looked_at = max(0, len(self._preamble) - len(self._first_boundary) - 1)
            self._preamble += data
            found = self._preamble.find(self._first_boundary, looked_at)
            # Where it begins or, as long as it has not come, the first position where it can begin.
            begins = found if found >= 0 else len(self._preamble) - len(self._first_boundary) + 1
            if begins > MAX_PREAMBLE_BYTES:
                raise InvalidRequestError("the multipart message does not begin with its boundary")
            if found < 0 or len(self._preamble) < found + len(self._first_boundary) + 2:
                return
            data, self._preamble = bytes(self._preamble), None
        # One by one: what comes before a fault counts, as if it had arrived earlier.
        for event in self._parser.parse(data):
            self._at_hand.append(event)
        if self._parser.is_complete:
            self._end_last_line(self._parser.rest)

    def _end_last_line(self, data: bytes) -> None:
        """Refuse a last boundary whose line goes on: it was content, and what follows would be lost silently."""
        line = (self._last_line or b"") + data
        blanks = _REST_OF_LINE.match(line)
        if blanks is not None and blanks[1]:
            self._is_in_epilogue = True
        elif blanks is None or blanks.end() < len(line):
            raise InvalidRequestError("there is text after the last boundary on its line")
        self._last_line = line

    def _finish(self) -> None:
        if self._preamble:  # a message so short that the parser has seen nothing of it
            self._at_hand.extend(self._parser.parse(bytes(self._preamble)))
        self._parser.close()

    def _fail(self, failure: GatewayError, cause: Exception) -> None:
        failure.__cause__ = cause
        self._failure = failure


def parts(events: Iterator[Any]) -> Iterator[tuple[MultipartSegment, Iterator[Chunk]]]:
    """Give each part of a message and its content, which must be read to its end before the next part is asked for.

    A file input in which nothing was chosen is left out: browsers send it with an empty file name and without content
    (HTML standard, "constructing the entry list").
    """
    for segment in events:
        # Up to the None that ends the part; every part has its end, or the events raise.
        content: Iterator[Chunk] = iter(events.__next__, None)
        if segment.filename == "":
            first = next(content, None)
            if first is None:
                continue
            content = chain([first], content)
        yield segment, content


def too_many_parts(max_parts: int) -> PayloadTooLargeError:
    """Return the failure for a message of more than `max_parts` parts."""
    return PayloadTooLargeError(
        f"at most {max_parts} parts (files and fields)", zh_tw=f"最多 {max_parts} 個部分（檔案與欄位）"
    )
