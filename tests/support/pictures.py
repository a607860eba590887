"""Small pictures that browsers can show, and folders of them."""

import struct
import zlib
from pathlib import Path

_SIDE = 48


def picture(number: int) -> bytes:
    """Return a PNG that differs for each number, but not in its size in bytes."""
    rows = bytearray()
    for y in range(_SIDE):
        rows.append(0)
        for x in range(_SIDE):
            rows += bytes(((x * 5 + number * 37) % 256, (y * 5 + number * 11) % 256, (number * 83) % 256))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    # Not compressed, so that all have the same size.
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 0)) + _chunk(b"IEND", b"")
    )


def write_pictures(folder: Path, count: int, first: int = 0) -> None:
    """Write `street_000.png` and so on into a new folder. The contents begin with the picture of number `first`."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"street_{number:03}.png").write_bytes(picture(first + number))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
