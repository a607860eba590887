"""Skeletons for tests: by the parser, and by the onnx package."""

import onnx
from google.protobuf.message import Message
from onnx import ModelProto, TensorProto

from app.advice.skeleton import SMALL, Skeleton, SkeletonParser
from tests.support.skeleton_cases import varint

DATA_FIELDS = ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")


def skeleton_of(content: bytes, chunk_bytes: int = 1 << 18) -> Skeleton:
    parser = SkeletonParser()
    view = memoryview(content)
    for start in range(0, len(content), chunk_bytes):
        parser.feed(view[start : start + chunk_bytes])
    return parser.finish()


def expected_model(content: bytes) -> ModelProto:
    """Return the model as the onnx package reads it, without the values that a skeleton leaves out."""
    model = onnx.load_from_string(content)
    _remove_large_values(model)
    return model


def _remove_large_values(message: Message) -> None:
    if message.ByteSize() <= SMALL:
        return
    if isinstance(message, TensorProto) and _data_bytes(message) > SMALL:
        for name in DATA_FIELDS:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is None:
            if isinstance(message, TensorProto) and field.name in DATA_FIELDS:
                continue
            if isinstance(value, str | bytes) and len(value.encode() if isinstance(value, str) else value) > SMALL:
                message.ClearField(field.name)
        elif field.is_repeated:
            for item in value:
                _remove_large_values(item)
        else:
            _remove_large_values(value)


def _data_bytes(tensor: TensorProto) -> int:
    numbers = [*tensor.int32_data, *tensor.int64_data, *tensor.uint64_data]
    return (
        len(tensor.raw_data)
        + 4 * len(tensor.float_data)
        + 8 * len(tensor.double_data)
        + sum(len(varint(number % 2**64)) for number in numbers)
        + sum(map(len, tensor.string_data))
    )
