"""Each condition of the chip table, with a node for each outcome that can be told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from onnx import AttributeProto, helper

from app.advice.conditions import CONDITIONS
from app.advice.description import describe
from tests.support.onnx_models import graph, model_bytes

IMAGE = (1, 8, 32, 32)


@dataclass(frozen=True)
class Case:
    """A node, and whether it meets a condition: True, False, or None if that can't be told."""

    condition: str
    operator: str
    expected: bool | None
    shape: tuple[int | None, ...] | None = IMAGE
    attributes: Mapping[str, Any] = field(default_factory=dict)
    #: Further inputs: constants, or None for one that is left out, or the shape of a value that is no constant.
    constants: tuple[Any, ...] = ()
    opset: int = 13

    def __str__(self) -> str:
        return f"{self.condition}-{self.operator}-{self.expected}"


#: An input that is not constant and has no shape.
UNSHAPED = ("computed", None)


def computed(*shape: int | None) -> tuple[str, tuple[int | None, ...]]:
    """An input that is not constant."""
    return "computed", shape


def outcome(case: Case) -> bool | None:
    inputs: dict[str, Any] = {"x": case.shape}
    names, initializers = ["x"], {}
    for index, value in enumerate(case.constants):
        name = "" if value is None else f"c{index}"
        names.append(name)
        if isinstance(value, tuple) and value[:1] == ("computed",):
            inputs[name] = value[1]
        elif value is not None:
            initializers[name] = value
    node = helper.make_node(case.operator, names, ["y"], **case.attributes)
    data = model_bytes(graph([node], inputs, **initializers), opset=case.opset)
    [found] = describe(data).nodes[case.operator]
    return CONDITIONS[case.condition](found)


def pool(condition: str, expected: bool | None, kernel: Any, strides: Any = None, **attributes: Any) -> Case:
    operator = "MaxPool" if condition in ("24", "25") else "AveragePool"
    shape = attributes.pop("shape", (1, 8, 40, 40) if len(kernel) == 2 else (1, 8, 40))
    window = {"kernel_shape": kernel} | ({} if strides is None else {"strides": strides})
    return Case(condition, operator, expected, shape, window | attributes)


def resize(condition: str, expected: bool | None, scales: Any = (1.0, 1.0, 1.0, 2.0), **attributes: Any) -> Case:
    settings = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"} | attributes
    shape, opset = settings.pop("shape", IMAGE), settings.pop("opset", 13)
    return Case(condition, "Resize", expected, shape, settings, (None, list(scales)), opset)


def upsample(condition: str, expected: bool | None, scales: Any, mode: str = "nearest") -> Case:
    return Case(condition, "Upsample", expected, IMAGE, {"mode": mode}, (scales,), opset=9)


RANK_5 = (1, 2, 3, 4, 5)
WEIGHTS = [[[[0.0] * 3] * 3]]
CASES = [
    # 1, 8: the rank
    Case("1", "BatchNormalization", True),
    Case("1", "BatchNormalization", False, RANK_5),
    Case("1", "BatchNormalization", None, None),
    Case("1", "Add", True, (8, 1, 1), {}, (computed(1, 8, 4, 4),)),
    Case("1", "Add", False, (8, 1, 1), {}, (computed(*RANK_5),)),
    Case("1", "Concat", True, IMAGE, {"axis": 1}, (computed(*IMAGE),)),
    Case("8", "Conv", True, None, {}, (WEIGHTS,)),
    Case("8", "Conv", False, RANK_5, {"kernel_shape": [1, 1, 1]}, (computed(None),)),
    # 2: averages on the 520
    pool("2", True, [3, 3], [2, 2]),
    pool("2", True, [2, 2], [2, 2], ceil_mode=1),
    pool("2", False, [2, 2], [3, 3]),
    pool("2", False, [3, 3], [2, 2], dilations=[2, 2]),
    pool("2", False, [3, 2], [1, 1]),
    pool("2", False, [3], [1]),
    pool("2", True, [8, 8], [8, 8]),
    pool("2", False, [8, 8], [8, 8], ceil_mode=1),
    pool("2", False, [8, 8], [8, 8], count_include_pad=1),
    pool("2", False, [6, 6], [2, 2]),
    pool("2", True, [1, 1], [2, 2]),
    pool("2", True, [5, 5], [4, 4]),
    pool("2", False, [5, 5], [4, 4], count_include_pad=1),
    # An average over the whole image is usually written as GlobalAveragePool.
    pool("2", None, [7, 7], shape=(1, 8, 7, 7)),
    pool("2", False, [7, 7], shape=(1, 8, 7, 7), pads=[1, 1, 1, 1]),
    pool("2", None, [7, 7], shape=(1, 8, 7, None)),
    pool("2", None, [7, 7], shape=None),
    pool("2", False, [7, 7], shape=(1, 8, 8, None)),
    pool("2", False, [7, 7], shape=None, pads=[1, 1, 1, 1]),
    Case("2", "AveragePool", None, IMAGE),
    # 3: averages on the 720, 530 and 630
    pool("3", True, [2, 2], [3, 3]),
    pool("3", True, [3, 1], [2, 1]),
    pool("3", True, [1, 3], [1, 3]),
    pool("3", False, [1, 3], [1, 2]),
    pool("3", False, [5, 5], [2, 2]),
    pool("3", False, [3], [1]),
    pool("3", True, [4, 4], [4, 4]),
    pool("3", None, [7, 7], shape=(1, 8, 7, 7)),
    Case("3", "AveragePool", None, IMAGE),
    # 4: averages on the 730
    pool("4", True, [3], [1]),
    pool("4", True, [1, 3], [1, 2]),
    pool("4", True, [3, 1], [1, 1]),
    pool("4", False, [3, 2], [1, 1]),
    pool("4", False, [5], [1]),
    pool("4", False, [1, 1], [4, 2], count_include_pad=1),
    pool("4", False, [2, 2, 2], [1, 1, 1], shape=RANK_5),
    Case("4", "AveragePool", None, IMAGE),
    # 5: Clip
    Case("5", "Clip", True, constants=(0.0, 6.0)),
    Case("5", "Clip", True, constants=(0.0,)),
    Case("5", "Clip", False, constants=(-1.0, 1.0)),
    Case("5", "Clip", False, constants=(None, 6.0)),
    Case("5", "Clip", False, constants=(0.0, -1.0)),
    Case("5", "Clip", None, constants=(0.0, computed())),
    Case("5", "Clip", True, attributes={"min": 0.0, "max": 6.0}, opset=9),
    # 6, 7: strides and kernels
    Case("6", "Conv", True, IMAGE, {"strides": [4, 16]}, (WEIGHTS,)),
    Case("6", "Conv", False, IMAGE, {"strides": [5, 1]}, (WEIGHTS,)),
    Case("6", "Conv", False, IMAGE, {"strides": [1, 17]}, (WEIGHTS,)),
    Case("6", "Conv", False, IMAGE, {"kernel_shape": [13, 1]}, (computed(8, 8, 13, 1),)),
    Case("6", "Conv", None, None, {}, (computed(8, 8, None),)),
    Case("6", "Conv", None, (1, 8, 32), {"kernel_shape": [3], "strides": [8]}, (computed(8, 8, 3),)),
    Case("7", "Conv", True, IMAGE, {"kernel_shape": [13, 13]}, (computed(8, 8, 13, 13),)),
    Case("7", "Conv", False, IMAGE, {"strides": [5, 5]}, (WEIGHTS,)),
    Case("7", "Conv", False, (1, 8, 64), {"kernel_shape": [3], "strides": [17]}, (computed(8, 8, 3),)),
    Case("7", "Conv", None, IMAGE, {"strides": [1, 1, 1]}, (WEIGHTS,)),
    # 9, 10: ConvTranspose
    Case("9", "ConvTranspose", True, IMAGE, {"strides": [2, 2]}, (WEIGHTS,)),
    Case("9", "ConvTranspose", False, IMAGE, {"strides": [2, 1]}, (WEIGHTS,)),
    Case("9", "ConvTranspose", False, IMAGE, {}, (WEIGHTS,)),
    Case("10", "ConvTranspose", True, IMAGE, {"strides": [3, 3]}, (WEIGHTS,)),
    Case("10", "ConvTranspose", True, IMAGE, {}, (WEIGHTS,)),
    Case("10", "ConvTranspose", False, IMAGE, {"strides": [2, 1]}, (WEIGHTS,)),
    # 11, 12, 41: DepthToSpace, SpaceToDepth
    Case("11", "DepthToSpace", True, (1, 4, 8, 8), {"blocksize": 2, "mode": "CRD"}),
    Case("11", "DepthToSpace", False, (1, 4, 8, 8), {"blocksize": 2}),
    Case("11", "DepthToSpace", False, (1, 16, 8, 8), {"blocksize": 2, "mode": "CRD"}),
    Case("11", "DepthToSpace", None, None, {"blocksize": 2, "mode": "CRD"}),
    Case("12", "DepthToSpace", True, IMAGE, {"blocksize": 4}),
    Case("12", "DepthToSpace", False, IMAGE, {"blocksize": 3}),
    Case("41", "SpaceToDepth", True, IMAGE, {"blocksize": 2}),
    Case("41", "SpaceToDepth", False, IMAGE, {"blocksize": 8}),
    # 14, 39, 40: decomposed
    Case("14", "Exp", True),
    Case("39", "Softmax", True),
    Case("40", "Softmax", True, None),
    # 15, 16: Expand
    Case("15", "Expand", True, (1, 8, 1, 1), constants=([1, 8, 4, 4],)),
    Case("15", "Expand", False, (1, 1, 4, 4), constants=([1, 8, 4, 4],)),
    Case("15", "Expand", None, (1, 8, 1, 1), constants=(computed(4),)),
    Case("16", "Expand", True, (1, 1, 4, 4), constants=([1, 8, 4, 4],)),
    Case("16", "Expand", False, (1, 8, 4, 4), constants=([2, 8, 4, 4],)),
    Case("16", "Expand", None, (None, 8, 4, 4), constants=([1, 8, 4, 4],)),
    # 17: Flatten
    Case("17", "Flatten", True),
    Case("17", "Flatten", True, IMAGE, {"axis": -3}),
    Case("17", "Flatten", False, IMAGE, {"axis": 2}),
    Case("17", "Flatten", None, None, {"axis": -3}),
    # 18: Gather
    Case("18", "Gather", True, constants=(3,)),
    Case("18", "Gather", True, constants=(computed(1),)),
    Case("18", "Gather", False, constants=([0, 1],)),
    Case("18", "Gather", None, constants=(computed(None),)),
    Case("18", "Gather", None, constants=(UNSHAPED,)),
    # 19 to 21: pooling over everything
    Case("19", "GlobalAveragePool", True, (1, 8, 16, 16)),
    Case("19", "GlobalAveragePool", False, (1, 8, 17, 16)),
    Case("19", "GlobalAveragePool", None, (1, 8, None, 16)),
    Case("20", "GlobalAveragePool", True, (1, 8, 128, 128)),
    Case("20", "GlobalAveragePool", False, (1, 8, 128, 129)),
    Case("20", "GlobalAveragePool", False, RANK_5),
    Case("20", "GlobalAveragePool", None, None),
    Case("21", "GlobalMaxPool", True, (1, 8, 4, 4)),
    Case("21", "GlobalMaxPool", False, (1, 8, 3, 8)),
    Case("21", "GlobalMaxPool", None, None),
    # 22, 23: MatMul
    Case("22", "MatMul", True, (1, 4), constants=([[1.0] * 2] * 4,)),
    Case("22", "MatMul", False, (1, 4), constants=([[[1.0] * 2] * 4],)),
    Case("22", "MatMul", True, IMAGE, constants=(computed(*IMAGE),)),
    Case("22", "MatMul", False, (8, 4, 4), constants=(computed(8, 4, 4),)),
    Case("22", "MatMul", False, RANK_5, constants=(computed(1, 2, 3, 5, 4),)),
    Case("22", "MatMul", None, None, constants=(computed(8, 4, 4),)),
    Case("23", "MatMul", True, (8, 4, 4), constants=(computed(8, 4, 4),)),
    Case("23", "MatMul", False, (4, 4), constants=(computed(4, 4),)),
    Case("23", "MatMul", None, None, constants=(computed(4, 4),)),
    # 24, 25: maxima
    pool("24", True, [2, 2], [2, 2]),
    pool("24", True, [5, 5], [1, 1]),
    pool("24", False, [5, 5], [1, 1], ceil_mode=1),
    pool("24", False, [2, 2], [3, 3]),
    pool("24", False, [3], [1]),
    pool("24", True, [1, 1], [2, 2]),
    Case("24", "MaxPool", None, IMAGE),
    pool("25", True, [2, 2], [3, 3]),
    pool("25", True, [4, 4], [4, 4]),
    pool("25", True, [3, 1], [2, 1]),
    pool("25", False, [3, 2], [1, 1]),
    Case("25", "MaxPool", None, IMAGE),
    # 26, 27: Pad
    Case("26", "Pad", True, constants=([0, 40, 31, 31, 0, 0, 0, 0],)),
    Case("26", "Pad", False, constants=([0, 0, 32, 0, 0, 0, 0, 0],)),
    Case("26", "Pad", False, constants=([0, 0, 0, 0, 1, 0, 0, 0],)),
    Case("26", "Pad", False, attributes={"mode": "reflect"}, constants=([0] * 8,)),
    Case("26", "Pad", False, constants=([0] * 8, 1.0)),
    Case("26", "Pad", None, constants=(computed(8),)),
    Case("26", "Pad", True, attributes={"pads": [0, 0, 1, 1, 0, 0, 1, 1]}, opset=9),
    Case("27", "Pad", True, constants=([0, 31, 1, 1, 0, 0, 0, 0],)),
    Case("27", "Pad", False, constants=([0, 32, 0, 0, 0, 0, 0, 0],)),
    Case("27", "Pad", None, constants=(computed(8),)),
    # 29: Pow
    Case("29", "Pow", True, constants=(2.0,)),
    Case("29", "Pow", False, constants=(3.0,)),
    Case("29", "Pow", None, constants=(computed(),)),
    # 30 to 32: reductions
    Case("30", "ReduceMax", True, attributes={"axes": [2]}),
    Case("30", "ReduceMax", False, attributes={"keepdims": 0}),
    Case("31", "ReduceMean", True, attributes={"axes": [2, 3]}),
    Case("31", "ReduceMean", None, attributes={"axes": [2, 3], "keepdims": 0}),
    Case("31", "ReduceMean", False, attributes={"axes": [1, 2], "keepdims": 0}),
    Case("31", "ReduceMean", False, (1, 8, 8), {"axes": [2], "keepdims": 0}),
    Case("31", "ReduceSum", False, attributes={"keepdims": 0}, constants=([2, 3],)),
    Case("31", "ReduceMean", False, attributes={"axes": [-4]}),
    Case("31", "ReduceMean", False),
    Case("31", "ReduceMean", None, None, {"axes": [-1]}),
    Case("31", "ReduceSum", True, constants=([1],)),
    Case("32", "ReduceSum", True, constants=([1],)),
    Case("32", "ReduceSum", False, constants=([1, 2],)),
    Case("32", "ReduceSum", None, constants=(computed(1),)),
    # 34 to 36: Resize
    resize("34", True),
    resize("34", True, mode="nearest", nearest_mode="floor"),
    resize("34", False, mode="nearest"),
    resize("34", False, mode="cubic"),
    resize("34", False, extrapolation_value=1.0),
    resize("34", False, shape=(1, 8, 32)),
    resize("34", False, coordinate_transformation_mode="tf_crop_and_resize"),
    resize("34", None, coordinate_transformation_mode="half_pixel"),
    resize("35", True),
    resize("35", True, [1.0, 1.0, 0.5, 0.5]),
    resize("35", False, [1.0, 1.0, 2.0, 2.0]),
    resize("35", None, coordinate_transformation_mode="half_pixel"),
    Case("35", "Resize", None, IMAGE, {"mode": "linear"}, (None, computed(4))),
    Case("35", "Resize", False, IMAGE, {"mode": "linear"}, (None, None, [1, 8, 64, 64])),
    Case("34", "Resize", True, IMAGE, {"mode": "nearest"}, ([1.0, 1.0, 2.0, 2.0],), opset=10),
    resize("36", True, [1.0, 1.0, 2.0, 2.0]),
    resize("36", False, mode="cubic"),
    # 37, 38: Slice
    Case("37", "Slice", True, constants=([0], [4], [2], [1])),
    Case("37", "Slice", True, constants=([0], [4])),
    Case("37", "Slice", False, constants=([0], [4], [2], [2])),
    Case("37", "Slice", False, RANK_5, constants=([0], [4])),
    Case("37", "Slice", None, None, constants=([0], [4])),
    Case("37", "Slice", True, attributes={"starts": [0], "ends": [4]}, opset=9),
    Case("38", "Slice", True, RANK_5, constants=([0], [4])),
    Case("38", "Slice", False, constants=([0], [4], [2], [-1])),
    Case("38", "Slice", None, constants=([0], [4], [2], computed(1))),
    # 42, 43: Transpose
    Case("42", "Transpose", True, attributes={"perm": [0, 1, 3, 2]}),
    Case("42", "Transpose", True, attributes={"perm": [0, 2, 1, 3]}),
    Case("42", "Transpose", False, attributes={"perm": [1, 0, 2, 3]}),
    Case("42", "Transpose", False),
    Case("42", "Transpose", None, attributes={"perm": [0, 2, 3, 1]}),
    Case("42", "Transpose", None, None),
    Case("43", "Transpose", True, attributes={"perm": [0, 2, 3, 1]}),
    Case("43", "Transpose", False),
    Case("43", "Transpose", None, None),
    # 44 to 46: Upsample
    upsample("44", True, [1.0, 1.0, 2.0, 2.0]),
    upsample("44", False, [1.0, 2.0, 2.0, 2.0]),
    upsample("44", False, [1.0, 1.0, 2.0, 2.0], "cubic"),
    upsample("44", None, computed(4)),
    upsample("45", True, [1.0, 1.0, 2.0, 1.0]),
    upsample("45", False, [1.0, 1.0, 2.0, 2.0]),
    upsample("45", None, computed(4)),
    upsample("46", True, [1.0, 1.0, 1.0, 4.0]),
    Case("46", "Upsample", True, IMAGE, {"scales": [1.0, 1.0, 2.0, 2.0]}, opset=8),
    # usually rewritten
    Case("as_add", "Sum", None),
    Case("as_add", "Sum", False, RANK_5),
    Case("as_batch_normalization", "Mul", None, (1, 2, 8, 8), constants=([[[1.0]], [[2.0]]],)),
    Case("as_batch_normalization", "Mul", None, (1, 2, 8, 8), constants=([[[[1.0]], [[2.0]]]],)),
    Case("as_batch_normalization", "Div", None, (1, 2, 8, 8), constants=(255.0,)),
    Case("as_batch_normalization", "Div", None, (1, 2, 8, 8), constants=([255.0],)),
    Case("as_batch_normalization", "Mul", False, (1, 2, 8, 8), constants=([1.0] * 8,)),
    Case("as_batch_normalization", "Mul", False, (1, 2, 8, 8), constants=([[[1.0] * 8]],)),
    Case("as_batch_normalization", "Mul", False, (1, 2, 8, 8), constants=(computed(1, 2, 8, 8),)),
    Case("as_batch_normalization", "Mul", False, RANK_5, constants=(2.0,)),
    Case("as_global_average", "ReduceMean", None, (1, 8, 16, 16), {"axes": [-1, -2], "keepdims": 0}),
    Case("as_global_average", "ReduceMean", None, (1, 8, None, None), {"axes": [2, 3]}),
    Case("as_global_average", "ReduceMean", False, (1, 8, 16, 17), {"axes": [2, 3]}),
    Case("as_global_average", "ReduceMean", False, (1, 8, 16, 16), {"axes": [1]}),
    Case("as_reshape", "Squeeze", None, (1, 8, 1, 1)),
    Case("as_slice", "Split", None),
    Case("as_slice", "Split", False, RANK_5),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_condition(case: Case) -> None:
    assert outcome(case) is case.expected


def test_each_condition_is_tested_with_a_node_that_meets_it() -> None:
    own = {condition for condition in CONDITIONS if condition.startswith("as_")}
    assert {case.condition for case in CASES if case.expected} == set(CONDITIONS) - own


@pytest.mark.parametrize(
    ("condition", "operator", "attribute"),
    [
        ("6", "Conv", "strides"),
        ("7", "Conv", "strides"),
        ("9", "ConvTranspose", "strides"),
        ("10", "ConvTranspose", "strides"),
        ("12", "DepthToSpace", "blocksize"),
        ("17", "Flatten", "axis"),
        ("24", "MaxPool", "kernel_shape"),
        ("30", "ReduceMax", "keepdims"),
        ("36", "Resize", "mode"),
        ("36", "Resize", "extrapolation_value"),
        ("43", "Transpose", "perm"),
    ],
)
def test_an_attribute_that_depends_on_a_function_s_call_is_unknown(
    condition: str, operator: str, attribute: str
) -> None:
    node = helper.make_node(operator, ["x", "w"], ["y"])
    node.attribute.append(AttributeProto(name=attribute, ref_attr_name="given", type=AttributeProto.INTS))
    [found] = describe(model_bytes(graph([node], {"x": IMAGE, "w": (8, 8, 3, 3)}))).nodes[operator]
    assert CONDITIONS[condition](found) is None
