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


def detector(*, name: str = "/backbone", last: str = "/nms/NonZero") -> bytes:
    """Return a model with weights of 1 MB. Some of its operators run on every chip, some on few, and some on none.

    `name` begins the names of its nodes, and `last` is the name of the last one.
    """
    nodes = []
    value = "images"
    for number in range(8):
        weights = "first" if number == 0 else "rest"
        nodes += [
            helper.make_node("Conv", [value, weights], [f"conv{number}"], f"{name}/{number}/conv", pads=[1] * 4),
            helper.make_node("Sigmoid", [f"conv{number}"], [f"gate{number}"], f"{name}/{number}/sigmoid"),
            helper.make_node("Mul", [f"conv{number}", f"gate{number}"], [f"block{number}"], f"{name}/{number}/mul"),
        ]
        value = f"block{number}"
    nodes += [
        helper.make_node("Einsum", [value], ["pooled"], "/head/attention/Einsum", equation="bchw->bc"),
        helper.make_node("Softmax", ["pooled"], ["scores"], "/head/Softmax", axis=1),
        helper.make_node("NonZero", ["scores"], ["found"], last),
    ]
    model_graph = graph(
        nodes,
        {"images": (1, 3, 64, 64)},
        {"scores": (1, 168)},
        first=np.ones((168, 3, 3, 3)),
        rest=np.ones((168, 168, 3, 3)),
    )
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(model_graph, opset_imports=opsets, producer_name="pytorch", producer_version="2.4.0")
    return bytes(model.SerializeToString())
