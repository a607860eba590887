"""Models, and the verdicts that docs/advice.md promises for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from app.advice.report import Advice, ChipAdvice, Finding, Severity, Verdict
from app.advice.skeleton import Skeleton
from app.advice.toolchain import toolchain
from app.advice.verdicts import MAX_FINDINGS, MAX_NAMES, advise, recommended
from tests.support.onnx_models import Shape, advice_for, graph, model_bytes

F, C, P, U = Verdict.FITS, Verdict.CONDITIONAL, Verdict.PARTIAL, Verdict.UNLIKELY
CHIPS = toolchain().chips
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
WEIGHTS = [[[[0.0] * 3] * 3] * 3]


def node(operator: str, *inputs: str, output: str = "y", name: str = "", **attributes: Any) -> NodeProto:
    return helper.make_node(operator, list(inputs), [output], name=name, **attributes)


CONV = node("Conv", "x", "w", output="a", name="/conv")
SIGMOID = node("Sigmoid", "a")
ATTENTION = (
    node("MatMul", "x", "x", output="a"),
    node("Softmax", "a", output="b"),
    node("Einsum", "b", "x", output="c", name="/attention/Einsum", equation="bhij,bhjd->bhid"),
    node("LayerNormalization", "c", "s"),
)
ATTENTION_CONSTANTS = {"s": [1.0] * 32}


@dataclass(frozen=True)
class Case:
    """A model, its verdicts for 520, 720, 530, 630 and 730, the recommended chip, and findings of the 520 at least."""

    name: str
    nodes: Sequence[NodeProto]
    verdicts: tuple[Verdict, ...]
    best: str | None
    findings: set[str] = field(default_factory=set)
    shape: Shape | None = (1, 3, 32, 32)
    opset: int | None = 12
    element_type: int = TensorProto.FLOAT
    constants: dict[str, Any] = field(default_factory=lambda: {"w": WEIGHTS})
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def advice(self) -> Advice:
        data = model_bytes(
            graph(self.nodes, {"x": self.shape}, {"y": None}, element_type=self.element_type, **self.constants),
            opset=self.opset,
        )
        return advice_for(data, **self.options)


CASES = [
    Case("a convolution fits all", [node("Conv", "x", "w")], (F, F, F, F, F), "520"),
    Case("the 520 lacks Sigmoid", [CONV, SIGMOID], (P, F, F, F, F), "720", {"operator_not_on_npu"}),
    Case("mostly Sigmoid", [CONV, SIGMOID, node("Sigmoid", "y", output="z")], (U, F, F, F, F), "720"),
    Case(
        "attention: no chip has Einsum",
        ATTENTION,
        (U, U, P, P, P),
        "730",
        {"operator_not_on_npu"},
        opset=17,
        constants=ATTENTION_CONSTANTS,
    ),
    Case("a dynamic batch is a condition", [CONV], (C, C, C, C, C), "520", {"input_shape_dynamic"}, ("N", 3, 32, 32)),
    Case("a batch of 4 is a condition", [CONV], (C, C, C, C, C), "520", {"batch_not_one"}, (4, 3, 32, 32)),
    Case("no shape", [node("Relu", "x")], (C, C, C, C, C), "520", {"input_shape_missing"}, None),
    Case(
        "images as bytes, and any number of them",
        [node("Relu", "x")],
        (C,) * 5,
        "520",
        {"input_type", "input_shape_dynamic"},
        ("N", 224, 224, 3),
        element_type=TensorProto.UINT8,
    ),
    Case("an input of integers", [node("Relu", "x")], (C,) * 5, "520", {"input_type"}, element_type=TensorProto.INT64),
    Case("an opset that is too new", [CONV], (U, U, U, U, U), None, {"opset_unsupported"}, opset=19),
    Case("an opset that is too old", [CONV], (U, U, U, U, U), None, {"opset_unsupported"}, opset=7),
    Case("the first and the last opset", [CONV], (F, F, F, F, F), "520", opset=8),
    Case("not for the legacy environment", [CONV], (F,) * 5, "520", {"opset_not_in_legacy_environment"}, opset=18),
    Case(
        "a block of a MobileNet; only the 520 lacks Flatten",
        [
            CONV,
            node("Clip", "a", "lower", "upper", output="b"),
            node("Conv", "b", "w", output="c", pads=[1, 1, 1, 1]),
            node("Add", "b", "c", output="d"),
            node("GlobalAveragePool", "d", output="e"),
            node("Flatten", "e", output="f"),
            node("Gemm", "f", "matrix"),
        ],
        (P, F, F, F, F),
        "720",
        {"operator_not_on_npu"},
        constants={"w": WEIGHTS, "lower": 0.0, "upper": 6.0, "matrix": [[1.0] * 2] * 3},
    ),
    Case(
        "an image twice as large, as in YOLO; the 720 enlarges in one direction",
        [
            CONV,
            node(
                *("Resize", "a", "", "scales"),
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            ),
        ],
        (F, P, F, F, F),
        "520",
        constants={"w": WEIGHTS, "scales": [1.0, 1.0, 2.0, 2.0]},
    ),
    Case("no opset", [CONV], (C, C, C, C, C), "520", {"opset_missing"}, opset=None),
    Case(
        "an operator of another domain",
        [CONV, node("Foo", "a", domain="com.example")],
        (U,) * 5,
        None,
        {"custom_operator"},
    ),
    Case("nothing to compute", [node("Identity", "x")], (U,) * 5, None, {"no_nodes"}),
    Case("a reserved model id", [CONV], (C,) * 5, "520", {"model_id_reserved"}, options={"model_id": 32767}),
    Case("a model id of the user's", [CONV], (F,) * 5, "520", options={"model_id": 32768}),
    Case(
        "a condition that can't be told",
        [node("Add", "x", "x")],
        (C, C, C, C, C),
        "730",
        {"condition_unknown"},
        None,
    ),
    Case(
        "a condition that is not met",
        [CONV, node("Conv", "a", "w", output="b", strides=[5, 5]), node("Relu", "b")],
        (P, P, F, F, F),
        "530",
        {"condition_not_met"},
    ),
    Case("Squeeze is usually rewritten", [CONV, node("Squeeze", "a", axes=[0])], (P, C, C, C, C), "720"),
    Case(
        "sums and a mean over the image, which are usually rewritten",
        [
            CONV,
            node("Sum", "a", "a", "a", output="b"),
            node("ReduceMean", "b", output="c", axes=[2, 3], keepdims=0),
            node("Gemm", "c", "matrix"),
        ],
        (P, C, C, C, C),
        "720",
        {"condition_not_met", "condition_unknown"},
        constants={"w": WEIGHTS, "matrix": [[1.0] * 2] * 3},
    ),
    Case("no NPU runs an If", [CONV, node("If", "a")], (P, P, P, P, P), "520", {"operator_not_on_npu"}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_verdicts(case: Case) -> None:
    advice = case.advice()
    assert tuple(advice.chips[chip].verdict for chip in CHIPS) == case.verdicts
    assert advice.recommended == case.best
    assert case.findings <= {finding.key for finding in advice.chips["520"].findings}


@pytest.mark.parametrize(
    ("name", "verdicts", "best"),
    [
        ("squeezenet", (P, P, F, F, F), "530"),
        ("vgg19", (P, P, F, F, F), "530"),
        ("densenet121", (C, F, F, F, F), "720"),
        ("resnet50", (P, P, C, C, C), "530"),
        ("shufflenet", (P, P, C, C, C), "530"),
        ("bvlc_alexnet", (P, P, P, P, P), "530"),
        ("inception_v1", (P, P, P, P, P), "530"),
        ("zfnet512", (P, P, P, P, P), "530"),
    ],
)
def test_verdicts_of_well_known_models(name: str, verdicts: tuple[Verdict, ...], best: str) -> None:
    advice = advice_for((LIGHT / f"light_{name}.onnx").read_bytes())
    assert tuple(advice.chips[chip].verdict for chip in CHIPS) == verdicts
    assert advice.recommended == best


def test_the_counts_of_each_chip_are_the_nodes_that_compute_something() -> None:
    advice = advice_for((LIGHT / "light_resnet50.onnx").read_bytes())
    expected = sum(advice.operators.values()) - advice.folded_nodes
    assert expected == 176
    for chip in advice.chips.values():
        assert chip.npu_nodes + chip.conditional_nodes + chip.other_nodes == expected


def test_one_chip_can_be_asked_for_and_the_recommendation_stays() -> None:
    case = CASES[1]
    advice = advice_for(model_bytes(graph(case.nodes, {"x": case.shape}, w=WEIGHTS)), chip="520")
    assert list(advice.chips) == ["520"]
    assert advice.recommended == "720"


def test_findings_name_operator_nodes_and_count_and_the_worst_is_first() -> None:
    foo = node("Foo", "a", output="b", domain="com.example")
    findings = Case("", [CONV, foo, SIGMOID], (), None).advice().chips["520"].findings
    assert [(found.severity, found.operator, found.nodes, found.count) for found in findings[:2]] == [
        (Severity.ERROR, "com.example::Foo", ("b",), 1),
        (Severity.WARNING, "Sigmoid", ("y",), 1),
    ]


def test_several_inputs_are_named() -> None:
    advice = advice_for(model_bytes(graph([node("Add", "x", "z")], {"x": (1, 3), "z": (1, 3)})))
    assert (
        Finding("several_inputs", Severity.WARNING, None, ("x", "z"), 2, {"count": 2}) in advice.chips["730"].findings
    )


def test_initializers_among_the_inputs_are_no_inputs() -> None:
    """Files of ONNX IR version 3 list them there."""
    advice = advice_for(model_bytes(graph([CONV], {"x": (1, 3, 8, 8), "w": (1, 3, 3, 3)}, w=WEIGHTS)))
    assert [tensor.name for tensor in advice.inputs] == ["x"]


def test_weights_in_another_file_are_an_error() -> None:
    model_graph = graph([CONV], {"x": (1, 3, 8, 8)}, w=WEIGHTS)
    weights = model_graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    advice = advice_for(model_bytes(model_graph))
    assert advice.recommended is None
    assert advice.chips["720"].findings[0].key == "external_data"


def test_the_730_says_that_the_legacy_environment_lacks_it() -> None:
    [finding] = CASES[0].advice().chips["730"].findings
    assert (finding.key, finding.severity) == ("chip_not_in_legacy_environment", Severity.INFO)


def test_names_and_findings_are_bounded_and_the_counts_are_not() -> None:
    many = [node(f"F{n % 60}", "x", output=f"y{n}", domain="d") for n in range(60 * (MAX_NAMES + 5))]
    chip = advice_for(model_bytes(graph(many, {"x": (1,)}), opset=12)).chips["520"]
    assert len(chip.findings) == MAX_FINDINGS
    assert (chip.findings[-1].key, chip.findings[-1].count) == ("more_findings", 60 - MAX_FINDINGS + 1)
    assert (len(chip.findings[0].nodes), chip.findings[0].count) == (MAX_NAMES, MAX_NAMES + 5)
    assert chip.other_nodes == 60 * (MAX_NAMES + 5)


def test_of_equal_chips_the_first_is_recommended_and_fewer_open_conditions_are_better() -> None:
    def chip(verdict: Verdict, conditional: int, other: int) -> ChipAdvice:
        return ChipAdvice(verdict, 10, conditional, other)

    assert recommended({"a": chip(P, 3, 1), "b": chip(P, 0, 2), "c": chip(P, 3, 1)}) == "a"
    assert recommended({"a": chip(P, 3, 1), "b": chip(P, 2, 1)}) == "b"
    assert recommended({"a": chip(P, 0, 1), "b": chip(C, 9, 0)}) == "b"
    assert recommended({"a": chip(U, 0, 9)}) is None
    assert recommended({}) is None


@pytest.mark.parametrize(
    ("skeleton", "model_format", "reason"),
    [
        (Skeleton("onnx", b"\xff"), "onnx", "malformed"),
        (Skeleton("onnx", b""), "onnx", "not_a_model"),
        (Skeleton("onnx", reason="truncated"), "onnx", "truncated"),
        (Skeleton("hdf5", reason="hdf5"), "hdf5", "hdf5"),
        (Skeleton("tflite", b"data"), "tflite", "tflite"),
        (Skeleton("unknown"), "unknown", "unknown"),
    ],
)
def test_without_a_structure_there_is_a_reason(skeleton: Skeleton, model_format: str, reason: str) -> None:
    advice = advise(skeleton)
    assert (advice.format, advice.reason, advice.chips, advice.recommended) == (model_format, reason, {}, None)
