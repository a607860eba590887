"""Read the body of one HTTP/1.1 request from its connection, by Content-Length or chunked.

The reader knows whether the body was complete, for the upload log and for keep-alive. A fault rule can look at the
beginning without consuming it. It never reads past the end of the body, and ignores trailers.
"""

import io
from collections.abc import Callable
from email.message import Message
from typing import BinaryIO

_MAX_LINE_BYTES = 8192


class IncompleteBodyError(ConnectionError):
    """The connection ended, or the framing was invalid, before the body was complete."""


class BadFramingError(ValueError):
    """The headers do not say how long the body is, or say it twice."""


class RequestBody(io.RawIOBase):
    """A readable `wsgi.input` that ends where the body ends. For one thread at a time."""

    def __init__(self, source: BinaryIO, length: int | None, on_first_read: Callable[[], None] | None = None) -> None:
        """Read `length` bytes from `source`, or a chunked body when `length` is None."""
        super().__init__()
        self._source = source
        self._chunked = length is None
        self._left = length or 0  # in the body, or in the current chunk
        self._peeked = b""
        self._on_first_read = on_first_read
        self._at_end = length == 0
        self.bytes_read = 0
        self.broken = False

    @classmethod
    def of(cls, headers: Message, source: BinaryIO, on_first_read: Callable[[], None] | None = None) -> "RequestBody":
        """Return the body that the headers announce; raise BadFramingError if two readers could disagree (RFC 9112)."""
        lengths = headers.get_all("Content-Length", [])
        codings = headers.get_all("Transfer-Encoding", [])
        if codings:
            if lengths or len(codings) > 1 or codings[0].strip().lower() != "chunked":
                raise BadFramingError("Transfer-Encoding must be chunked, and alone")
            return cls(source, None, on_first_read)
        if not lengths:
            return cls(source, 0)
        if len(lengths) > 1 or not lengths[0].strip().isascii() or not lengths[0].strip().isdigit():
            raise BadFramingError("Content-Length must be one number")
        return cls(source, int(lengths[0]), on_first_read)

    @property
    def complete(self) -> bool:
        """Return whether the body was read to its end."""
        return self._at_end and not self._peeked

    @property
    def remaining(self) -> int | None:
        """Return how many bytes are still to come, if the client has announced it."""
        return None if self._chunked else self._left + len(self._peeked)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes, as many as arrive at once; b"" at the end. Raises IncompleteBodyError."""
        if size is None or size < 0:
            return self.readall()
        if self._peeked:
            data, self._peeked = self._peeked[:size], self._peeked[size:]
        else:
            data = self._receive(size)
        self.bytes_read += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(65536), b""))

    def peek(self, limit: int, enough: Callable[[bytes], bool] | None = None) -> bytes:
        """Return the beginning of the body without consuming it: up to `limit` bytes, or until `enough` is true."""
        while len(self._peeked) < limit and not (enough and enough(self._peeked)):
            data = self._receive(limit - len(self._peeked))
            if not data:
                break
            self._peeked += data
        return self._peeked

    def _receive(self, size: int) -> bytes:
        if self._at_end or size == 0:
            return b""
        if self._on_first_read:
            self._on_first_read()
            self._on_first_read = None
        try:
            return self._receive_chunked(size) if self._chunked else self._receive_counted(size)
        except (OSError, ValueError) as error:
            self.broken = True
            if isinstance(error, IncompleteBodyError):
                raise
            raise IncompleteBodyError(str(error)) from error

    def _receive_counted(self, size: int) -> bytes:
        # read1 returns what has arrived. read would wait for all of it, and hide where a client stopped.
        data: bytes = self._source.read1(min(size, self._left))  # type: ignore[attr-defined]
        if not data:
            raise IncompleteBodyError(f"the connection ended {self._left} bytes early")
        self._left -= len(data)
        self._at_end = not self._chunked and self._left == 0
        return data

    def _receive_chunked(self, size: int) -> bytes:
        if self._left == 0:
            self._left = int(self._line().partition(b";")[0].strip(), 16)
            if self._left < 0:
                raise IncompleteBodyError("negative chunk size")
            if self._left == 0:
                while self._line():
                    pass
                self._at_end = True
                return b""
        data = self._receive_counted(size)
        if self._left == 0 and self._line():
            raise IncompleteBodyError("a chunk is longer than it said")
        return data

    def _line(self) -> bytes:
        line = self._source.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\r\n"):
            raise IncompleteBodyError("the connection ended within the chunked framing")
        return line[:-2]
