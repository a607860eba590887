"""The generated reader of ONNX models is the one that the compiler generates now, and it reads ONNX's own fields."""

import importlib.resources
from pathlib import Path

import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from grpc_tools import protoc

from app.advice import onnx_model_pb2 as pb
from app.config import ROOT

GENERATED = ("onnx_model_pb2.py", "onnx_model_pb2.pyi")


def test_make_protos_has_been_run(tmp_path: Path) -> None:
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    arguments = [f"-I{ROOT}", f"-I{well_known}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    assert protoc.main(["protoc", *arguments, "app/advice/onnx_model.proto"]) == 0
    for name in GENERATED:
        generated, checked_in = (root / "app/advice" / name for root in (tmp_path, ROOT))
        assert generated.read_text() == checked_in.read_text(), f"run `make protos`: {name}"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pb.Model, onnx.ModelProto),
        (pb.OperatorSet, onnx.OperatorSetIdProto),
        (pb.Graph, onnx.GraphProto),
        (pb.Function, onnx.FunctionProto),
        (pb.Node, onnx.NodeProto),
        (pb.Attribute, onnx.AttributeProto),
        (pb.Tensor, onnx.TensorProto),
        (pb.SparseTensor, onnx.SparseTensorProto),
        (pb.ValueInfo, onnx.ValueInfoProto),
        (pb.Type, onnx.TypeProto),
        (pb.Type.TensorType, onnx.TypeProto.Tensor),
        (pb.Shape, onnx.TensorShapeProto),
        (pb.Shape.Dimension, onnx.TensorShapeProto.Dimension),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_fields_have_the_numbers_and_types_of_the_onnx_package(ours: type, theirs: type) -> None:
    known = _fields(theirs.DESCRIPTOR)  # type: ignore[attr-defined]
    assert {name: known[name] for name in _fields(ours.DESCRIPTOR)} == _fields(ours.DESCRIPTOR)  # type: ignore[attr-defined]


def _fields(message: Descriptor) -> dict[str, tuple[int, bool, str]]:
    # An enumeration is encoded as an int32.
    kinds = {field.TYPE_ENUM: field.TYPE_INT32 for field in message.fields}
    return {
        field.name: (field.number, field.is_repeated, str(kinds.get(field.type, field.type)))
        for field in message.fields
    }
