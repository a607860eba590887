"""Recognize a model's format from the first bytes of its file. Files that are not ONNX are named, not read.

TFLite files are only named, too. Their operators can only be read with random access, so each upload would have to hold
a whole file in memory; and the toolchain's table is about ONNX operators.
"""

import re
from typing import Final

#: As many bytes as `recognize` looks at: the name of a zip archive's first file starts after 30.
HEAD_BYTES: Final = 128

_ZIP: Final = b"PK\x03\x04"
#: torch.save before version 1.6: its magic number as a pickle of protocol 2.
_LEGACY_TORCH: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_PYTORCH_NAMES: Final = re.compile(
    rb"[^/]+/(?:data\.pkl|byteorder|version|\.format_version|\.data/|code/|constants\.pkl)"
)
#: The first file of an archive that Keras 3 writes.
_KERAS_NAMES: Final = (b"metadata.json", b"config.json", b"model.weights.h5")
#: What exporters append to the name of a model for its weights.
_WEIGHTS_SUFFIXES: Final = (".onnx_data", ".onnx.data")
_SIGNATURES: Final = {
    b"\x89HDF\r\n\x1a\n": ("hdf5", "hdf5"),
    _LEGACY_TORCH: ("pytorch", "pytorch"),
    b"\x1f\x8b": ("unknown", "compressed"),
    b"BZh": ("unknown", "compressed"),
    b"\xfd7zXZ\x00": ("unknown", "compressed"),
    b"\x28\xb5\x2f\xfd": ("unknown", "compressed"),
    b"7z\xbc\xaf\x27\x1c": ("unknown", "compressed"),
    b"Rar!\x1a\x07": ("unknown", "compressed"),
}
# A SavedModel is a protobuf message as well. Its second field is a message that starts with a message, where ONNX has
# the name of the producer.
_SAVED_MODEL: Final = re.compile(rb"\x08\x01\x12[\x80-\xff]{1,4}[\x00-\x7f]\x0a")
_TEXT: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*[\x20-\x7e][\t\r\n\x20-\x7e]{6}")


def recognize(head: bytes | bytearray) -> tuple[str, str] | None:
    """Return the format and the reason why there is no advice, or None for what may be an ONNX model.

    `head` is the first HEAD_BYTES of a file, or all of a shorter one.
    """
    if not head:
        return "unknown", "empty"
    for signature, found in _SIGNATURES.items():
        if head.startswith(signature):
            return found
    if head[4:8] == b"TFL3":
        return "tflite", "tflite"
    if head.startswith(_ZIP):
        return _archive(head)
    if _SAVED_MODEL.match(head):
        return "unknown", "saved_model"
    return None


def reason_by_name(file_name: str, head: bytes | bytearray) -> str:
    """Return why there is no advice about a file that is no model, also by its name: weights are only numbers."""
    name = file_name.lower()
    if name.endswith(_WEIGHTS_SUFFIXES):
        return "external_data"
    if name.endswith(".nef"):
        return "nef"
    # Not before, because some models start like text.
    return "text" if _TEXT.match(head) else "not_a_model"


def _archive(head: bytes | bytearray) -> tuple[str, str]:
    length = int.from_bytes(head[26:28], "little")
    name = head[30 : 30 + length]
    if _PYTORCH_NAMES.match(name):
        return "pytorch", "pytorch"
    if name in _KERAS_NAMES:
        return "hdf5", "hdf5"
    return "unknown", "compressed"
