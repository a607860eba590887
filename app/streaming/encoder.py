"""toolbelt's multipart encoder, fed by a stream instead of files: parts one by one, and no byte copied."""

from collections.abc import Callable, Iterator
from typing import Any

from requests_toolbelt.multipart.encoder import MultipartEncoder, Part

from app.streaming import Chunk


class LazyEncoder(MultipartEncoder):  # type: ignore[misc]
    """toolbelt's encoder, changed to take its parts one by one and to pass their bytes on without copying them.

    The original makes all parts before the first byte, and moves every byte through a BytesIO.
    """

    finished: bool

    def __init__(self, fields: Iterator[tuple[str, Any]]) -> None:
        super().__init__(fields)
        self._buffer: Any = _Pieces(self._buffer.read())

    def next_pieces(self) -> list[Chunk]:
        """Return the next pieces of the message, after at most one read of a part's body; [] after the last.

        This replaces toolbelt's `_load`, which reads until it has exactly the size it was asked for: to the
        end of the message, if one read returns more than that.
        """
        while not (self._buffer.pieces or self.finished):
            part = self._current_part or self._next_part()
            if part and not part.bytes_left_to_write():
                self._write(b"\r\n")
                self._write_boundary()
                part = self._next_part()
            if part:
                part.write_to(self._buffer, 1)  # the part's header, or one read of its body
            else:
                self._write_closing_boundary()
                self.finished = True
        pieces: list[Chunk] = self._buffer.pieces
        self._buffer.pieces = []
        return pieces

    def _prepare_parts(self) -> None:
        self.parts: list[Part] = []
        make: Callable[..., Part] = Part.from_field
        self._iter_parts = (make(field, self.encoding) for field in self._iter_fields())

    def _write_closing_boundary(self) -> int:
        # The last piece is a boundary with its line break.
        self._buffer.pieces[-1] = self._buffer.pieces[-1].removesuffix(b"\r\n") + b"--\r\n"
        return 2


class _Pieces:
    """Replaces toolbelt's buffer. Holds what is written, uncopied and in order."""

    def __init__(self, first: bytes) -> None:
        self.pieces: list[Chunk] = [first]

    def append(self, data: Chunk) -> int:
        if data:
            self.pieces.append(data)
        return len(data)
