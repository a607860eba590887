"""Read tensors and types of ONNX: shapes, element types, and the values of small constants."""

import math
import struct
from collections.abc import Sequence

from app.advice import onnx_model_pb2 as pb

#: A dimension is None if its size is not fixed.
Shape = tuple[int | None, ...]
Values = tuple[int | float, ...]

#: ONNX's TensorProto.DataType.
ELEMENT_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
}
#: Types of indices and shapes, whose tensors are no parameters of a model.
INDEX_TYPES = frozenset({6, 7, 9})
_EXTERNAL = 1
#: Enough for the shapes, axes, pads and bounds that conditions ask for.
_MAX_VALUES = 64
#: No condition asks for more than 5 dimensions.
_MAX_RANK = 16
#: By type: the format of an element in `raw_data`, and the field that may have the values instead.
_LAYOUTS = {
    1: ("f", "float_data"),
    2: ("B", "int32_data"),
    3: ("b", "int32_data"),
    6: ("i", "int32_data"),
    7: ("q", "int64_data"),
    9: ("?", "int32_data"),
    10: ("e", ""),
    11: ("d", "double_data"),
}


def tensor_shape(tensor: pb.Tensor) -> Shape:
    """Return a tensor's dimensions, at most 16 of them."""
    return tuple(tensor.dims[:_MAX_RANK])


def tensor_values(tensor: pb.Tensor) -> Values | None:
    """Return the values of a small tensor of numbers; None if they are not in the message, or too many."""
    layout = _LAYOUTS.get(tensor.data_type)
    count = math.prod(tensor.dims[:_MAX_RANK])
    if layout is None or not 0 <= count <= _MAX_VALUES or tensor.data_location == _EXTERNAL:
        return None
    element, field = layout
    if tensor.raw_data:
        if len(tensor.raw_data) != struct.calcsize(f"<{count}{element}"):
            return None
        return struct.unpack(f"<{count}{element}", tensor.raw_data)
    data: Sequence[int | float] = getattr(tensor, field) if field else ()
    return tuple(data) if len(data) == count else None


def is_external(tensor: pb.Tensor) -> bool:
    """Return whether the tensor's data is in another file."""
    return tensor.data_location == _EXTERNAL


def value_shape(value: pb.ValueInfo) -> Shape | None:
    """Return the declared shape of a value, at most 16 dimensions; None if there is none."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    # Some exporters write 0 or -1 for a size that is not fixed.
    return tuple(
        dimension.dim_value if dimension.dim_value > 0 else None
        for dimension in value.type.tensor_type.shape.dim[:_MAX_RANK]
    )


def value_type(value: pb.ValueInfo) -> str:
    """Return the name of a value's element type; `unknown` for sequences, maps and types without a name here."""
    return ELEMENT_TYPES.get(value.type.tensor_type.elem_type, "unknown")
