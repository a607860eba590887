"""Cut an ONNX model down to its skeleton while its bytes pass by: the same message without the data of large tensors.

The rules, which `app/console/static/js/skeleton.js` follows too, byte for byte:

- SMALL is 1,024 bytes. A field of at most SMALL bytes is copied as it is. That includes whole messages.
- A larger field is walked if it is one of the messages in `_MESSAGES`: its key is copied, its length is written again
  in the fewest bytes, and its fields follow by these same rules. All other larger fields are dropped: tensor data,
  texts, metadata, training information, lists of numbers.
- In a tensor that is walked, the data fields (`_TENSOR_DATA`) come last, in their order. If their values have more than
  SMALL bytes in all, they are dropped. A value's bytes are those after its key and length.
- A file that has no skeleton gives a reason instead:
  - `malformed`: a key, number or length that is not allowed (groups, field 0, a number of more than 10 bytes, a key of
    more than 5, a length of more than 2^31-1 or beyond the end of its message), or names that are not UTF-8
  - `truncated`: the file ends within a field
  - `too_deep`: more than MAX_DEPTH messages of `_MESSAGES` inside each other
  - `too_large`: the skeleton has more than MAX_BYTES
  - `too_complex`: more than MAX_FIELDS fields in messages of `_MESSAGES`, also in those that are copied; a field in a
    message that is walked counts as three, as does each field of the model itself
  - `not_a_model`, or a better name by `reason_by_name`: any of these before a graph was found, or no graph at all
  - a format's own reason, from `formats`

The skeleton of a skeleton is that skeleton.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from app.advice import onnx_model_pb2 as pb
from app.advice.formats import HEAD_BYTES, reason_by_name, recognize

SMALL: Final = 1024
MAX_DEPTH: Final = 32
MAX_BYTES: Final = 4 * 1024 * 1024
#: Twice as many as a large model has, and what takes about 0.1 s.
MAX_FIELDS: Final = 200_000

#: More than the longest field that is copied: a key, a length, and SMALL bytes.
_WINDOW_BYTES: Final = 4096
_MAX_LENGTH: Final = 2**31 - 1
_KEY_BYTES, _NUMBER_BYTES = 5, 10
#: The key of a field 1, without its wire type.
_FIRST_KEY: Final = 1 << 3
#: What a field counts in a message that is walked: it takes about this many times as long as one that is copied.
_WALKED_FIELD: Final = 3
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}

_TENSOR: Final = "TensorProto"
#: The messages that can contain a tensor or other messages that the advice reads: their fields with such messages.
_MESSAGES: Final[Mapping[str, Mapping[int, str]]] = {
    "ModelProto": {7: "GraphProto", 8: "OperatorSetIdProto", 25: "FunctionProto"},
    "OperatorSetIdProto": {},
    "GraphProto": {
        1: "NodeProto",
        5: _TENSOR,
        11: "ValueInfoProto",
        12: "ValueInfoProto",
        13: "ValueInfoProto",
        15: "SparseTensorProto",
    },
    "FunctionProto": {7: "NodeProto", 9: "OperatorSetIdProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: _TENSOR,
        6: "GraphProto",
        10: _TENSOR,
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    _TENSOR: {},
    "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
    "ValueInfoProto": {2: "TypeProto"},
    "TypeProto": {1: "TypeProto.Tensor"},
    "TypeProto.Tensor": {2: "TensorShapeProto"},
    "TensorShapeProto": {1: "TensorShapeProto.Dimension"},
    "TensorShapeProto.Dimension": {},
}
#: float_data, int32_data, string_data, int64_data, raw_data, double_data, uint64_data.
_TENSOR_DATA: Final = frozenset({4, 5, 6, 7, 9, 10, 11})


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model's structure. Without it, `data` is empty and `reason` says why."""

    #: `onnx`, `tflite`, `hdf5`, `pytorch` or `unknown`.
    format: str
    #: A serialized ModelProto that our own schema can read.
    data: bytes = b""
    #: A stable key, see above.
    reason: str | None = None


class _NoSkeletonError(Exception):
    """There can be no skeleton; the argument is the reason."""


class _IncompleteError(_NoSkeletonError):
    """The window ends within a field."""


@dataclass(slots=True)
class _Open:
    """A message that is being walked."""

    kind: str
    #: Where it ends in the file.
    end: int
    #: Where its fields start in the skeleton.
    start: int
    #: The data fields of a tensor as long as they are small, and the bytes of their values.
    data: bytearray = field(default_factory=bytearray)
    data_bytes: int = 0

    def add_data(self, encoded: bytes, value_bytes: int) -> None:
        self.data_bytes += value_bytes
        if self.data_bytes > SMALL:
            self.data.clear()
        else:
            self.data += encoded


class SkeletonParser:
    """Takes a model's bytes in chunks of any size and gives its skeleton. Not for several threads at once.

    Large tensors are only counted: the cost of a chunk depends on the fields that start in it, not on its size.
    Memory is bounded by twice MAX_BYTES.
    """

    def __init__(self) -> None:
        #: May be set at any time. It names files that have nothing to be recognized by.
        self.file_name = ""
        self._head = bytearray()
        #: How many bytes have come, and where the next field starts, which may be further on.
        self._received = 0
        self._next = 0
        #: The start of a field that is not yet complete.
        self._rest = b""
        self._skeleton = bytearray()
        self._open = [_Open("ModelProto", 2**63, 0)]
        self._fields = 0
        self._has_graph = False
        self._reason: str | None = None

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Never raises, and holds no reference to `chunk` afterwards."""
        start = self._received
        self._received += len(chunk)
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
            if len(self._head) == HEAD_BYTES and recognize(self._head) is not None:
                self._reason = "not_a_model"
        if self._next >= self._received or self._reason is not None:
            return
        try:
            self._walk_chunk(chunk, start)
        except _NoSkeletonError as error:
            self._reason = str(error)
            self._skeleton.clear()

    def finish(self) -> Skeleton:
        """Return the skeleton, after the last chunk. Never raises."""
        recognized = recognize(self._head)
        if recognized is not None:
            return Skeleton(recognized[0], reason=recognized[1])
        if not self._has_graph:
            return Skeleton("unknown", reason=reason_by_name(self.file_name, self._head))
        is_complete = self._next == self._received and len(self._open) == 1
        reason = self._reason or (None if is_complete else "truncated")
        if reason is not None:
            return Skeleton("onnx", reason=reason)
        data = bytes(self._skeleton)
        self._skeleton.clear()
        try:
            pb.Model.FromString(data)
        except DecodeError:
            return Skeleton("onnx", reason="malformed")
        return Skeleton("onnx", data)

    def _walk_chunk(self, chunk: bytes | bytearray | memoryview, start: int) -> None:
        while self._next < self._received:
            # Windows, so that a large chunk with many tensors is not copied as a whole.
            position = self._next + len(self._rest) - start
            window = self._rest + bytes(chunk[position : position + _WINDOW_BYTES])
            self._rest = b""
            window_start = self._next
            self._walk(window)
            if self._next < self._received == window_start + len(window):
                self._rest = window[self._next - window_start :]
                return

    def _walk(self, window: bytes) -> None:
        """Take the fields in `window`, which starts at the next one, up to the first that is not complete."""
        base, size, skeleton = self._next, len(window), self._skeleton
        message = self._open[-1]
        position = 0
        while position < size:
            try:
                number, wire, body, end = _field(window, position)
            except _IncompleteError:
                break
            if base + end > message.end:
                raise _NoSkeletonError("malformed")
            child = _MESSAGES[message.kind].get(number) if wire == _LENGTH else None
            is_large = wire == _LENGTH and end - body > SMALL
            if end > size and not is_large:
                break
            self._fields += _WALKED_FIELD
            if child == "GraphProto":
                self._has_graph = True
            if is_large and child is not None:
                self._enter(child, base + end, window[position : _varint(window, position, _KEY_BYTES)[1]])
                message = self._open[-1]
                position = body
                continue
            if child is not None:
                self._count(window, body, end, child, len(self._open) + 1)
            if message.kind == _TENSOR and number in _TENSOR_DATA:
                message.add_data(window[position:end], end - body)
            elif not is_large:
                skeleton += window[position:end]
            position = end
            while base + position == message.end:
                message = self._leave()
            self._check_limits()
        self._next = base + position

    def _enter(self, kind: str, end: int, key: bytes) -> None:
        if len(self._open) == MAX_DEPTH:
            raise _NoSkeletonError("too_deep")
        self._skeleton += key
        self._open.append(_Open(kind, end, len(self._skeleton)))

    def _leave(self) -> _Open:
        """Close the innermost message, and return the one around it."""
        message = self._open.pop()
        self._skeleton += message.data
        self._skeleton[message.start : message.start] = _encoded(len(self._skeleton) - message.start)
        return self._open[-1]

    def _count(self, window: bytes, position: int, end: int, kind: str, depth: int) -> None:
        """Check and count the fields of a message that is copied: its size says little about its cost."""
        if depth > MAX_DEPTH:
            raise _NoSkeletonError("too_deep")
        children = _MESSAGES[kind]
        while position < end - 1:
            self._fields += 1
            key, body = window[position], position + 2
            length = window[position + 1]
            if _FIRST_KEY <= key < 0x80 and length < 0x80 and key & 5 == 0:
                # A number or a length of one byte, as nearly always: the general way takes three times as long.
                is_message, number = key & _LENGTH, key >> 3
                field_end = body + length if is_message else body
            else:
                number, wire, body, field_end = _field(window, position)
                is_message = wire == _LENGTH
            if field_end > end:
                break
            if is_message and (child := children.get(number)) is not None:
                self._count(window, body, field_end, child, depth + 1)
            position = field_end
        if position != end:
            raise _NoSkeletonError("malformed")

    def _check_limits(self) -> None:
        if self._fields > MAX_FIELDS:
            raise _NoSkeletonError("too_complex")
        if len(self._skeleton) > MAX_BYTES:
            raise _NoSkeletonError("too_large")


def _field(window: bytes, position: int) -> tuple[int, int, int, int]:
    """Return a field's number and wire type, and where its value starts and ends. Raises _NoSkeletonError."""
    key, position = _varint(window, position, _KEY_BYTES)
    number, wire = key >> 3, key & 7
    if not 0 < number < 2**29:
        raise _NoSkeletonError("malformed")
    if wire == _LENGTH:
        length, position = _varint(window, position, _NUMBER_BYTES)
        if length > _MAX_LENGTH:
            raise _NoSkeletonError("malformed")
        return number, wire, position, position + length
    if wire == _VARINT:
        return number, wire, position, _varint(window, position, _NUMBER_BYTES)[1]
    if wire in _FIXED_BYTES:
        return number, wire, position, position + _FIXED_BYTES[wire]
    raise _NoSkeletonError("malformed")


def _varint(window: bytes, position: int, max_bytes: int) -> tuple[int, int]:
    """Return a number, and where it ends. Raises _NoSkeletonError."""
    try:
        value = window[position]
        if value < 0x80:
            return value, position + 1
        value -= 0x80
        for index in range(1, max_bytes):
            byte = window[position + index]
            value += (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, position + index + 1
    except IndexError:
        raise _IncompleteError("malformed") from None
    raise _NoSkeletonError("malformed")


def _encoded(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
