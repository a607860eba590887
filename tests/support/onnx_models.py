"""Small ONNX models for tests of the advice."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from app.advice.report import Advice
from app.advice.skeleton import Skeleton
from app.advice.verdicts import advise

FLOAT = TensorProto.FLOAT
Shape = Sequence[int | str | None]


def constants(**values: Any) -> list[TensorProto]:
    """Return initializers by name. Lists of integers become int64, all other numbers float32."""
    tensors = []
    for name, value in values.items():
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        tensors.append(numpy_helper.from_array(array, name))
    return tensors


def graph(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape | None],
    outputs: Mapping[str, Shape | None] | None = None,
    *,
    element_type: int = FLOAT,
    **initializers: Any,
) -> GraphProto:
    """Return a graph with inputs and outputs of one element type."""
    return helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, element_type, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, element_type, shape) for name, shape in (outputs or {}).items()],
        constants(**initializers),
    )


def model_bytes(model_graph: GraphProto, *, opset: int | None = 13, **more: Any) -> bytes:
    """Return a serialized model."""
    imports = [] if opset is None else [helper.make_opsetid("", opset)]
    model = helper.make_model(model_graph, opset_imports=imports or None, producer_name="tests", **more)
    if opset is None:
        del model.opset_import[:]
    return model.SerializeToString()


def advice_for(data: bytes, **options: Any) -> Advice:
    """Return the advice for a small ONNX model."""
    return advise(Skeleton("onnx", data), **options)
