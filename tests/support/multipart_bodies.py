"""Multipart bodies made by hand, so that they can be malformed, and lazily, so that they can be large."""

import hashlib
import io
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

PIECE_BYTES = 256 * 1024
#: The fields that the sandbox's converter requires besides user_id and model.
PARAMETERS = {"model_id": "32769", "version": "0001", "platform": "720"}


class LazyBytes(io.RawIOBase):
    """`size` bytes that follow from `seed` and are never all in memory. Seekable, so that it can be read again."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self._block = random.Random(seed).randbytes(PIECE_BYTES - 8)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        number, offset = divmod(self._position, PIECE_BYTES)
        piece = memoryview(number.to_bytes(8, "big") + self._block)[offset:]
        count = max(0, min(len(buffer), len(piece), self.size - self._position))
        buffer[:count] = piece[:count]
        self._position += count
        return count

    def __len__(self) -> int:
        return self.size


def pieces_of(source: bytes | BinaryIO | LazyBytes) -> Iterator[bytes]:
    """The bytes of a source, from its beginning, a piece at a time."""
    if isinstance(source, bytes):
        yield from (source[start : start + PIECE_BYTES] for start in range(0, len(source), PIECE_BYTES))
        return
    source.seek(0)
    while piece := source.read(PIECE_BYTES):
        yield piece


def sha256_of(source: bytes | BinaryIO | LazyBytes) -> str:
    """Return the SHA-256 of a source, read from its beginning."""
    digest = hashlib.sha256()
    for piece in pieces_of(source):
        digest.update(piece)
    return digest.hexdigest()


def _size_of(source: bytes | BinaryIO | LazyBytes) -> int:
    return len(source) if isinstance(source, bytes | LazyBytes) else source.seek(0, io.SEEK_END)


@dataclass
class Multipart:
    """A multipart message; an iterable with a length, which requests sends as it is, with a Content-Length.

    Each method returns the message, so that calls can be chained. Names go into the header as they are given.
    """

    boundary: str = field(default_factory=lambda: f"test-{secrets.token_hex(8)}")
    closing: bytes = b"--\r\n"
    _sources: list[bytes | BinaryIO | LazyBytes] = field(default_factory=list)

    def field(self, name: str, value: str | bytes) -> "Multipart":
        return self.part(f'Content-Disposition: form-data; name="{name}"', value)

    def fields(self, **values: str) -> "Multipart":
        for name, value in values.items():
            self.field(name, value)
        return self

    def file(self, name: str, content: bytes | BinaryIO | LazyBytes, filename: str) -> "Multipart":
        head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
        return self.part(f"{head}\r\nContent-Type: application/octet-stream", content)

    def part(self, head: str, content: str | bytes | BinaryIO | LazyBytes) -> "Multipart":
        """A part with these header lines, joined by CRLF."""
        body = content.encode() if isinstance(content, str) else content
        self._sources += [f"--{self.boundary}\r\n{head}\r\n\r\n".encode(), body, b"\r\n"]
        return self

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": self.content_type}

    def __iter__(self) -> Iterator[bytes]:
        for source in [*self._sources, self._end]:
            yield from pieces_of(source)

    def __len__(self) -> int:
        return sum(_size_of(source) for source in [*self._sources, self._end])

    def as_bytes(self) -> bytes:
        return b"".join(self)

    def chunked(self) -> Iterator[bytes]:
        """Return the message without a length, which requests sends chunked."""
        return iter(self)

    @property
    def _end(self) -> bytes:
        return f"--{self.boundary}".encode() + self.closing


def model_upload(model: bytes | BinaryIO | LazyBytes = b"a model", filename: str = "model.onnx") -> Multipart:
    """Return an upload with all required parts and no others."""
    return Multipart().fields(**PARAMETERS).file("model", model, filename)
