"""toolbelt's multipart encoder, fed by a stream and not by files: parts one by one, and no byte copied."""

from collections.abc import Callable, Iterator
from typing import Any

from requests_toolbelt.multipart.encoder import MultipartEncoder, Part

from app.streaming import Chunk

# toolbelt asks for `.len` only to learn whether anything is left.
_UNKNOWN_LENGTH = 1 << 62


class PartBody:
    """A part's bytes in the form that toolbelt reads: `.len` stays over 0 until the end, and then is 0.

    toolbelt would ask for ever if `.len` stayed over 0 past the end: a short source raises instead.
    """

    def __init__(self, source: Iterator[Chunk]) -> None:
        self._source = source
        self.len = _UNKNOWN_LENGTH

    def read(self, size: int = -1) -> Chunk:
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


class LazyEncoder(MultipartEncoder):  # type: ignore[misc]
    """toolbelt's encoder, made to take its parts one by one, and to pass their bytes on without copying them.

    The original builds all parts before the first byte, and moves every byte through a BytesIO.
    """

    def __init__(self, fields: Iterator[tuple[str, Any]]) -> None:
        super().__init__(fields)
        self._buffer: Any = _Pieces(self._buffer.read())

    def next_pieces(self) -> list[Chunk]:
        """The next pieces of the message, for at most one read of a part's body; [] after the last."""
        while not self._buffer.has_any and not self.finished:
            self._take_step()
        pieces: list[Chunk] = self._buffer.take()
        return pieces

    def _take_step(self) -> None:
        """Write a part's header, or what one read of its body gives, or what stands between parts.

        In place of toolbelt's `_load`, which reads on until it has as much as it was asked for: to the end of the
        message, where a read gives one byte more than that.
        """
        part = self._current_part or self._next_part()
        if part and not part.bytes_left_to_write():
            self._write(b"\r\n")
            self._write_boundary()
            part = self._next_part()
        if part:
            part.write_to(self._buffer, 1)
        else:
            self._write_closing_boundary()
            self.finished = True

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
        self._pieces: list[Chunk] = [first]

    @property
    def has_any(self) -> bool:
        return bool(self._pieces)

    def append(self, data: Chunk) -> int:
        if data:
            self._pieces.append(data)
        return len(data)

    def amend(self, ending: bytes, *, instead_of: bytes) -> None:
        """Give what was written last, which is still here, another ending."""
        self._pieces[-1] = bytes(self._pieces[-1]).removesuffix(instead_of) + ending

    def take(self) -> list[Chunk]:
        """All that was written since the last time."""
        taken, self._pieces = self._pieces, []
        return taken
