"""The "conversion": a transformation that a test can repeat, to check that the result is of its own model.

The result is one line of JSON with the model's SHA-256 and some parameters, followed by the model's bytes XORed with a
repeating key. It is read and made in pieces. It has nothing to do with a real NEF file.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

KEY: Final = bytes.fromhex("7669 7369 6f6e 412d 4e45 4621 c35a 9d17")
_PIECE_BYTES: Final = 16 * 4096  # a multiple of the key's length, so that every piece starts with the key's first byte
_KEY_STREAM: Final = int.from_bytes(KEY * (_PIECE_BYTES // len(KEY)), "little")


def expected_result(model_stream: BinaryIO, parameters: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the result for a model (a seekable stream, read twice from its position) and a job's `parameters`."""
    start = model_stream.tell()
    digest = hashlib.sha256()
    while piece := model_stream.read(_PIECE_BYTES):
        digest.update(piece)
    model_stream.seek(start)
    header = {
        "format": "visiona-sandbox-nef/1",
        "model_sha256": digest.hexdigest(),
        "platform": parameters["platform"],
        "model_id": parameters["model_id"],
        "version": parameters["version"],
    }
    yield json.dumps(header, separators=(",", ":")).encode() + b"\n"
    while piece := model_stream.read(_PIECE_BYTES):
        yield _xor(piece)


def _xor(piece: bytes) -> bytes:
    # Integers are the fastest XOR that the standard library has. Little-endian puts the key's first byte under the
    # piece's first byte whatever the length, so the tail needs only a shorter mask.
    size = len(piece)
    mask = _KEY_STREAM if size == _PIECE_BYTES else _KEY_STREAM & ((1 << (8 * size)) - 1)
    return (int.from_bytes(piece, "little") ^ mask).to_bytes(size, "little")
