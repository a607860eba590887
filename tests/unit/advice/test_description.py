"""How a model's structure is read: which nodes count, what is constant, which shapes follow, and the bounds."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import GraphProto, NodeProto, TensorProto, helper

from app.advice.description import (
    MAX_DEPTH,
    MAX_EDGES,
    MAX_NODES,
    MAX_OPERATORS,
    MAX_VALUES,
    Description,
    NotAdvisableError,
    describe,
)
from tests.support.onnx_models import advice_for, graph, model_bytes

IMAGE = (1, 3, 8, 8)


def node(operator: str, inputs: Sequence[str] = ("x",), output: str = "y", **attributes: Any) -> NodeProto:
    return helper.make_node(operator, list(inputs), [output], **attributes)


def description(nodes: Sequence[NodeProto], *, shape: Any = IMAGE, opset: int = 13, **initializers: Any) -> Description:
    return describe(model_bytes(graph(nodes, {"x": shape}, **initializers), opset=opset))


def computing(found: Description) -> dict[str, list[str]]:
    """Return the names of the nodes that compute something, by operator."""
    return {operator: [each.name for each in nodes] for operator, nodes in found.nodes.items()}


def test_constant_identity_and_dropout_do_not_count() -> None:
    constant = node("Constant", [], "c", value_float=1.0)
    found = description([constant, node("Identity", output="i"), node("Dropout", ["i"], "d"), node("Add", ["d", "c"])])
    assert computing(found) == {"Add": ["y"]}
    assert found.folded_nodes == 3
    assert dict(found.operators) == {"Constant": 1, "Identity": 1, "Dropout": 1, "Add": 1}


def test_what_follows_from_constants_and_fixed_shapes_does_not_count() -> None:
    """Exporters write a Reshape's shape as a chain like this."""
    nodes = [
        node("Shape", output="shape"),
        node("Gather", ["shape", "zero"], "batch"),
        node("Unsqueeze", ["batch", "axes"], "list"),
        node("Concat", ["list", "rest"], "target", axis=0),
        node("Reshape", ["x", "target"]),
    ]
    found = description(nodes, zero=0, axes=[0], rest=[-1, 4])
    assert computing(found) == {"Reshape": ["y"]}
    assert found.folded_nodes == 4


def test_random_numbers_are_not_constant() -> None:
    found = description([node("RandomNormalLike", ["c"], "r"), node("Add", ["x", "r"])], c=[1.0])
    assert sorted(found.nodes) == ["Add", "RandomNormalLike"]


def test_identity_of_a_constant_is_constant() -> None:
    found = description([node("Identity", ["c"], "i"), node("Neg", ["i"], "n"), node("Add", ["x", "n"])], c=[1.0])
    assert computing(found) == {"Add": ["y"]}


def test_nodes_without_a_name_have_that_of_their_output() -> None:
    found = description([node("Relu", output="first"), node("Relu", ["first"], name="/second")])
    assert computing(found) == {"Relu": ["first", "/second"]}


def test_names_are_one_line_and_bounded() -> None:
    found = description([node("Relu", name="a\nb\u202e" + "c" * 500)])
    assert computing(found) == {"Relu": ["a b " + "c" * 116]}


def branch(name: str, *nodes: NodeProto) -> GraphProto:
    return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)])


def test_nodes_of_subgraphs_count_and_see_the_graph_around_them() -> None:
    then = branch("then", node("Add", ["x", "c"], "r", name="add"))
    other = branch("else", node("Neg", ["c"], "r", name="neg"))
    found = description([node("If", ["condition"], name="if", then_branch=then, else_branch=other)], c=[1.0])
    assert computing(found) == {"If": ["if"], "Add": ["if/add"]}
    assert found.folded_nodes == 1
    assert found.nodes["Add"][0].input_shape() == IMAGE


def test_the_operators_of_a_function_count_once_for_each_call() -> None:
    function = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [node("Sigmoid", ["a"], "t"), node("Tanh", ["t"], "b")],
        [helper.make_opsetid("", 13)],
    )
    calls = [node("Twice", ["x"], "z", domain="local", name="one"), node("Twice", ["z"], domain="local", name="two")]
    found = describe(model_bytes(graph(calls, {"x": IMAGE}), functions=[function]))
    assert computing(found) == {"Sigmoid": ["one/t", "two/t"], "Tanh": ["one/b", "two/b"]}
    assert dict(found.operators) == {"Sigmoid": 2, "Tanh": 2}


def test_other_domains_are_a_prefix_and_ai_onnx_is_the_default_one() -> None:
    found = description([node("Foo", domain="com.example", output="a"), node("Relu", ["a"], domain="ai.onnx")])
    assert sorted(found.operators) == ["Relu", "com.example::Foo"]


def test_parameters_are_the_elements_of_constants_but_indices() -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [5], [0.0] * 5)
    found = description(
        [node("Constant", [], "c", value=value), node("Reshape", ["x", "s"])], w=[[1.0] * 4] * 3, s=[1, -1]
    )
    assert found.parameters == 17


def test_sparse_weights_are_constant_and_count_as_parameters() -> None:
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 7])
    model_graph = graph([node("Neg", ["w"], "n"), node("Add", ["x", "n"])], {"x": IMAGE})
    model_graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [8]))
    found = describe(model_bytes(model_graph))
    assert (found.parameters, found.folded_nodes) == (2, 1)


def test_inputs_and_outputs_have_types_and_shapes() -> None:
    model_graph = graph([node("Relu")], {"x": ("N", 3, None, 0)}, {"y": None}, element_type=TensorProto.FLOAT16)
    found = describe(model_bytes(model_graph))
    assert (found.producer, found.opset) == ("tests", 13)
    assert [(each.name, each.element_type, each.shape) for each in found.inputs] == [
        ("x", "float16", (None, 3, None, None))
    ]
    assert [(each.name, each.shape) for each in found.outputs] == [("y", None)]


# Shapes of outputs --------------------------------------------------------------------------------------------------

WEIGHTS = [[[[0.0] * 3] * 3] * 3] * 4


@pytest.mark.parametrize(
    ("tested", "expected"),
    [
        (node("Relu"), IMAGE),
        (node("Add", ["x", "row"]), IMAGE),
        (node("Conv", ["x", "w"]), (1, 4, 6, 6)),
        (node("Conv", ["x", "w"], pads=[1, 1, 1, 1], strides=[2, 2]), (1, 4, 4, 4)),
        (node("Conv", ["x", "w"], auto_pad="SAME_UPPER", strides=[3, 3]), (1, 4, 3, 3)),
        (node("Conv", ["x", "w"], dilations=[2, 2]), (1, 4, 4, 4)),
        (node("MaxPool", kernel_shape=[3, 3], strides=[2, 2]), (1, 3, 3, 3)),
        (node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), (1, 3, 4, 4)),
        (node("MaxPool", kernel_shape=[3], strides=[2]), (1, 3, None, None)),
        (node("GlobalAveragePool"), (1, 3, 1, 1)),
        (node("Flatten"), (1, 192)),
        (node("Flatten", axis=2), (3, 64)),
        (node("Reshape", ["x", "to_2d"]), (1, 192)),
        (node("Transpose", perm=[0, 2, 3, 1]), (1, 8, 8, 3)),
        (node("Transpose"), (8, 8, 3, 1)),
        (node("Concat", ["x", "x"], axis=1), (1, 6, 8, 8)),
        (node("Concat", ["x", "x"], axis=-1), (1, 3, 8, 16)),
        (node("Squeeze", ["x", "first"]), (3, 8, 8)),
        (node("Unsqueeze", ["x", "first"]), (1, 1, 3, 8, 8)),
        (node("ReduceMean", axes=[2, 3]), (1, 3, 1, 1)),
        (node("ReduceMean", axes=[-1], keepdims=0), (1, 3, 8)),
        (node("ReduceMean", keepdims=0), ()),
        (node("Gather", ["x", "first"], axis=1), (1, 1, 8, 8)),
        (node("Resize", ["x", "", "double"]), (1, 3, 16, 16)),
        (node("Resize", ["x", "", "", "sizes"]), (1, 3, 4, 4)),
        (node("DepthToSpace", blocksize=2), (1, 0, 16, 16)),
        (node("Expand", ["x", "sizes"]), (1, 3, 8, 8)),
        (node("MatMul", ["x", "x"]), IMAGE),
        (node("Gemm", ["row", "row"], transB=1), (1, 1)),
        (node("Slice", ["x", "first", "first"]), (None, None, None, None)),
        (node("ConstantOfShape", ["sizes"]), (1, 3, 4, 4)),
        (node("Shape"), (4,)),
        (node("NonZero"), None),
        (node("Foo", domain="com.example"), None),
    ],
    ids=lambda value: value.op_type if isinstance(value, NodeProto) else str(value),
)
def test_shape_of_an_output(tested: NodeProto, expected: Any) -> None:
    constants = {"w": WEIGHTS, "row": [[1.0] * 8], "to_2d": [0, -1], "first": [0], "double": [1.0, 1.0, 2.0, 2.0]}
    last = node("Foo", ["y"], "last", domain="com.example")
    found = description([tested, last], **constants, sizes=[1, 3, 4, 4])
    assert (
        next(each for each in found.nodes["com.example::Foo"] if each.proto.output[0] == "last").input_shape()
        == expected
    )


# Bounds -------------------------------------------------------------------------------------------------------------


def reason(nodes: Sequence[NodeProto], **more: Any) -> str | None:
    try:
        describe(model_bytes(graph(nodes, {"x": IMAGE}), **more))
    except NotAdvisableError as error:
        return error.reason
    return None


def test_more_nodes_values_edges_or_operators_than_the_bounds_are_too_complex() -> None:
    relu = node("Relu")
    assert reason([relu] * MAX_NODES) is None
    assert reason([relu] * (MAX_NODES + 1)) == "too_complex"
    assert reason([node("Sum", ["x"] * MAX_EDGES)]) == "too_complex"
    assert reason([node(f"F{n}") for n in range(MAX_OPERATORS)]) is None
    assert reason([node(f"F{n}") for n in range(MAX_OPERATORS + 1)]) == "too_complex"
    many = graph([relu], {"x": IMAGE})
    many.value_info.extend([helper.make_tensor_value_info("v", TensorProto.FLOAT, None)] * MAX_VALUES)
    with pytest.raises(NotAdvisableError, match="too_complex"):
        describe(model_bytes(many))


def test_deep_nesting_has_a_reason() -> None:
    inner = branch("inner", node("Relu", output="r"))
    for _ in range(MAX_DEPTH + 1):
        inner = branch("outer", node("If", ["c"], "r", then_branch=inner))
    assert reason([node("If", ["c"], then_branch=inner)]) == "too_deep"


def test_functions_that_call_themselves_or_grow_have_a_reason() -> None:
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("f", 1)]

    def function(name: str, calls: str, times: int) -> Any:
        return helper.make_function("f", name, ["a"], ["b"], [node(calls, ["a"], "b", domain="f")] * times, opsets)

    call = [node("F0", domain="f")]
    assert reason(call, functions=[function("F0", "F0", 1)]) == "too_deep"
    assert reason(call, functions=[function(f"F{n}", f"F{n + 1}", 10) for n in range(8)]) == "too_complex"


def test_work_is_bounded_for_functions_that_are_called_often() -> None:
    """A call costs little in the file. Each of these took minutes before it was bounded."""
    opset = helper.make_opsetid("", 13)
    branches = helper.make_function("f", "F", [], [], [node("If", then_branches=[GraphProto()] * 1_000)], [opset])
    call = node("F", domain="f")
    assert reason([call], functions=[branches]) is None
    assert reason([call] * 100, functions=[branches]) == "too_complex"

    opsets = [helper.make_opsetid(f"d{n}", 1) for n in range(20_000)]
    function = helper.make_function("f", "F", ["x"], ["y"], [], [*opsets, opset])
    started = time.thread_time()
    assert reason([call] * (MAX_NODES - 1), functions=[function]) is None
    assert time.thread_time() - started < 3


def test_sizes_that_grow_with_each_node_are_forgotten() -> None:
    """Each pair of nodes squares a size, which would soon fill the memory."""
    nodes = []
    for n in range(60):
        nodes += [node("Gemm", [f"v{n}", f"v{n}"], f"m{n}", transA=1), node("Flatten", [f"m{n}"], f"v{n + 1}", axis=0)]
    found = describe(model_bytes(graph(nodes, {"v0": (1, 1000)})))
    assert found.nodes["Gemm"][1].output == (10**6, 10**6)
    assert found.nodes["Gemm"][-1].output == (None, None)


def test_an_impossible_number_of_parameters_is_unknown() -> None:
    model_graph = graph([node("Relu")], {"x": IMAGE}, w=[1.0])
    model_graph.initializer[0].dims[:] = [2**40, 2**40]
    assert describe(model_bytes(model_graph)).parameters is None


def test_names_that_are_not_utf_8_are_malformed() -> None:
    data = model_bytes(graph([node("Relu", name="NAME")], {"x": IMAGE})).replace(b"NAME", b"\xff\xfe\xff\xfe")
    with pytest.raises(NotAdvisableError, match="malformed"):
        describe(data)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8), st.integers(0, 10_000))
def test_a_damaged_model_gives_advice_or_a_reason(changes: Sequence[tuple[int, int]], end: int) -> None:
    constants = {"w": WEIGHTS, "s": [1, -1], "p": [0, 0, 1, 1, 0, 0, 1, 1], "d": [1.0, 1.0, 2.0, 2.0], "z": [0]}
    nodes = [
        node("Conv", ["x", "w"], "a", strides=[2, 2]),
        node("MaxPool", ["a"], "b", kernel_shape=[2, 2]),
        node("AveragePool", ["b"], "c", kernel_shape=[2, 2]),
        node("Resize", ["c", "", "d"], "e", mode="linear"),
        node("Pad", ["e", "p"], "f"),
        node("Transpose", ["f"], "g", perm=[0, 2, 3, 1]),
        node("Concat", ["g", "g"], "h", axis=1),
        node("Reshape", ["h", "s"], "i"),
        node("Gather", ["i", "z"], "j", axis=1),
        node("ReduceMean", ["j"], "k", axes=[-1]),
        node("DepthToSpace", ["a"], "l", blocksize=2),
        node("Upsample", ["a", "d"], "m"),
        node("Unsqueeze", ["a", "z"], "n"),
        node("Squeeze", ["a", "z"], "o"),
        node("Flatten", ["a"], "q"),
        node("MatMul", ["q", "q"], "r"),
        node("Gemm", ["q", "q"], "t"),
        node("Expand", ["a", "s"], "u"),
        node("Slice", ["a", "z", "z"], "v"),
        node("Clip", ["a", "z"]),
    ]
    data = bytearray(model_bytes(graph(nodes, {"x": IMAGE}, **constants)))
    for position, value in changes:
        data[position % len(data)] = value
    advice = advice_for(bytes(data[: len(data) - end % 200] if end % 3 == 0 else data))
    assert advice.chips or advice.reason
