"""The advice as JSON, as it is stored with a job, and the texts in both languages."""

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from onnx import NodeProto, TensorProto, helper

from app.advice import texts
from app.advice.documents import advice_json, advice_summary, stored_advice, stored_advice_json
from app.advice.explanation import explain_failure
from app.advice.report import Advice
from app.advice.texts import replacement_text, sentence
from app.advice.toolchain import toolchain
from app.errors import LANGUAGES
from tests.support.onnx_models import advice_for, graph, model_bytes

MAX_STORED_BYTES = 16 * 1024


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], **attributes)


def example() -> Advice:
    """A convolution, an operator that no NPU has, and one with a condition that isn't met."""
    nodes = [
        node("Conv", ["x", "w"], "a", name="/conv"),
        node("Einsum", ["a"], "b", name="/attention/Einsum", equation="bchw->bc"),
        node("Clip", ["b", "lowest"], "y", name="/clip"),
    ]
    model_graph = graph(nodes, {"x": (1, 1, 8, 8)}, {"y": ("N", 1)}, w=[[[[1.0]]]], lowest=-1.0)
    return advice_for(model_bytes(model_graph, opset=13))


def test_the_json_of_a_model() -> None:
    document = advice_json(example(), "en")
    assert json.loads(json.dumps(document)) == document
    assert {name: value for name, value in document.items() if name != "chips"} == {
        "format": "onnx",
        "producer": "tests",
        "opset": 13,
        "inputs": [{"name": "x", "element_type": "float32", "shape": [1, 1, 8, 8]}],
        "outputs": [{"name": "y", "element_type": "float32", "shape": [None, 1]}],
        "operators": {"Clip": 1, "Conv": 1, "Einsum": 1},
        "folded_nodes": 0,
        "parameters": 2,
        "recommended": None,
    }
    assert list(document["chips"]) == list(toolchain().chips)
    chip = document["chips"]["730"]
    assert (chip["verdict"], chip["npu_nodes"], chip["conditional_nodes"], chip["other_nodes"]) == ("unlikely", 1, 0, 2)
    assert chip["findings"][1] == {
        "key": "operator_not_on_npu",
        "severity": "warning",
        "operator": "Einsum",
        "nodes": ["/attention/Einsum"],
        "count": 1,
        "text": "Einsum doesn't run on this chip's NPU. The toolchain may rewrite it or run it on the host's CPU; "
        "otherwise the conversion fails.",
        "remedy": "No chip runs Einsum on the NPU. Use MatMul with Reshape and Transpose instead.",
    }
    assert "a lower bound of 0" in chip["findings"][0]["text"]


def test_the_json_in_chinese() -> None:
    finding = advice_json(example(), "zh-TW")["chips"]["720"]["findings"][1]
    assert finding["text"].startswith("這個晶片的 NPU 不支援 Einsum")
    assert finding["remedy"] == "沒有任何晶片的 NPU 支援 Einsum。請改用 MatMul 搭配 Reshape 與 Transpose。"


def test_a_remedy_names_the_chips_that_have_the_operator() -> None:
    advice = advice_for(model_bytes(graph([node("Sigmoid", ["x"], "y")], {"x": (1, 3)})))
    [finding, *_] = advice_json(advice, "en")["chips"]["520"]["findings"]
    assert finding["remedy"] == "These chips run Sigmoid on the NPU: KL720, KL530, KL630, KL730."


def remedy_for(operator: NodeProto, chip: str, shape: Sequence[int], **constants: Any) -> str | None:
    advice = advice_for(model_bytes(graph([operator], {"x": shape}, **constants)))
    [finding] = [
        finding for finding in advice_json(advice, "en")["chips"][chip]["findings"] if finding["severity"] == "warning"
    ]
    assert finding["operator"] == operator.op_type
    remedy: str | None = finding["remedy"]
    return remedy


def test_a_remedy_leaves_out_chips_whose_condition_the_nodes_do_not_meet() -> None:
    conv = node("Conv", ["x", "w"], "y", strides=[16, 16])
    weights = [[[[0.0] * 16] * 16] * 3]
    assert (
        remedy_for(conv, "720", (1, 3, 224, 224), w=weights) == "These chips run Conv on the NPU: KL530, KL630, KL730."
    )
    average = node("GlobalAveragePool", ["x"], "y")
    assert remedy_for(average, "730", (1, 3, 256, 256)) is None


def test_a_remedy_offers_no_operators_that_the_chip_lacks() -> None:
    flatten = node("Flatten", ["x"], "y")
    assert remedy_for(flatten, "520", (1, 3, 4, 4)) == "These chips run Flatten on the NPU: KL720, KL530, KL630, KL730."
    softplus = node("Softplus", ["x"], "y")
    assert remedy_for(softplus, "530", (1, 3)) == "No chip runs Softplus on the NPU."
    assert remedy_for(softplus, "730", (1, 3)) == "No chip runs Softplus on the NPU. Use Exp, Add and Log instead."


@pytest.mark.parametrize(
    ("model_format", "reason", "words"),
    [
        ("hdf5", "hdf5", "Keras"),
        ("pytorch", "pytorch", "torch.onnx.export"),
        ("tflite", "tflite", "tf2onnx"),
        ("onnx", "too_complex", "too many nodes"),
        ("unknown", "not_a_model", "not an ONNX model"),
        ("unknown", "some_new_reason", "can't check this file"),
    ],
)
def test_without_advice_a_sentence_says_why(model_format: str, reason: str, words: str) -> None:
    document = advice_json(Advice(format=model_format, reason=reason), "en")
    assert (document["format"], document["reason"]) == (model_format, reason)
    assert words in document["text"]
    assert "chips" not in document


def test_what_is_stored_gives_the_same_findings_in_any_language() -> None:
    stored = json.loads(json.dumps(stored_advice(example(), "520")))
    assert "text" not in json.dumps(stored)
    for language in LANGUAGES:
        full, read = advice_json(example(), language), stored_advice_json(stored, language)
        assert read["chips"]["520"] == full["chips"]["520"]
        counts = {name: value for name, value in full["chips"]["730"].items() if name != "findings"}
        assert read["chips"]["730"] == counts
        assert (read["format"], read["chip"], read["recommended"]) == ("onnx", "520", None)


def test_a_chip_that_the_table_lacks_is_stored_without_findings() -> None:
    stored = stored_advice(example(), "999")
    assert stored["chip"] == "999"
    assert all("findings" not in chip for chip in stored["chips"].values())
    assert advice_summary(stored, "en") is None


def test_a_reason_is_stored_and_read_back() -> None:
    stored = stored_advice(Advice(format="hdf5", reason="hdf5"), "520")
    assert stored == {"format": "hdf5", "reason": "hdf5"}
    assert "Keras" in stored_advice_json(stored, "en")["text"]
    assert advice_summary(stored, "en") is None


def test_a_finding_of_a_later_version_is_shown_by_its_key() -> None:
    stored = stored_advice(example(), "520")
    stored["chips"]["520"]["findings"][0]["key"] = "from_the_future"
    assert stored_advice_json(stored, "en")["chips"]["520"]["findings"][0]["text"] == "from_the_future"


def test_the_summary_has_the_verdict_and_the_worst_finding() -> None:
    summary = advice_summary(stored_advice(example(), "520"), "en")
    assert summary is not None
    finding = summary.pop("finding")
    assert summary == {"verdict": "unlikely", "npu_nodes": 1, "conditional_nodes": 0, "other_nodes": 2}
    assert finding["operator"] == "Clip"


def test_what_is_stored_is_bounded() -> None:
    nodes = [
        node(f"算子{n % 60}" + "x" * 200, ["x"], f"y{n}", domain="域", name="節點" * 60 + str(n)) for n in range(2000)
    ]
    advice = advice_for(model_bytes(graph(nodes, {"x": (1, 3)})))
    stored = json.dumps(stored_advice(advice, "520"))
    assert len(stored) <= MAX_STORED_BYTES
    assert json.loads(stored)["chips"]["520"]["other_nodes"] == 2000


def test_names_with_braces_are_shown_as_they_are() -> None:
    odd = node("{operator}{count}", ["x"], "y", domain="d")
    [finding, *_] = advice_json(advice_for(model_bytes(graph([odd], {"x": (1, 3)}))), "en")["chips"]["520"]["findings"]
    assert finding["text"].startswith("d::{operator}{count} is not")


def test_each_text_has_both_languages() -> None:
    for kind, entries in texts._texts().items():
        for key, entry in entries.items():
            assert set(entry) - {"operators", "uses"} == set(LANGUAGES), (kind, key)
            assert all(entry[language] for language in LANGUAGES), (kind, key)


def test_replacements_are_for_operators_that_exist() -> None:
    known = set(toolchain().operators)
    for entry in texts._texts()["replacement"].values():
        assert {*entry["operators"], *entry["uses"]} <= known


# Explanations of failed jobs ----------------------------------------------------------------------------------------

MESSAGE = "Invalid program input: undefined CPU op [Einsum] of node [/attention/Einsum]"


def test_an_explanation_names_nodes_chips_and_replacement() -> None:
    stored = stored_advice(example(), "520")
    stored["chip"], stored["chips"]["730"] = "730", stored["chips"]["520"]
    stored["chips"]["730"]["findings"][1]["nodes"].append("/other/Einsum")
    assert explain_failure(MESSAGE, stored, "en") == {
        "key": "unsupported_operator",
        "operator": "Einsum",
        "nodes": ["/attention/Einsum", "/other/Einsum"],
        "chips": [],
        "replacement": "Use MatMul with Reshape and Transpose instead.",
        "text": "The toolchain can't convert the operator Einsum of /attention/Einsum for this chip. "
        "No chip runs Einsum on the NPU. Use MatMul with Reshape and Transpose instead.",
    }


@pytest.mark.parametrize(
    ("message", "operator", "nodes"),
    [
        ("undefined CPU op [NonZero] of node [/nms/NonZero]", "NonZero", ["/nms/NonZero"]),
        ("UnimplementedFeature: undefined CPU op Sigmoid of node act_1, stop", "Sigmoid", ["act_1"]),
        ("undefined cpu op [com.example::Foo]", "com.example::Foo", []),
        ("undefined CPU op: Foo of node: /a/b", "Foo", ["/a/b"]),
        ("undefined CPU op [ Foo ] of node [ /a/b ]", "Foo", ["/a/b"]),
        ("undefined CPU op [Foo] of node []", "Foo", []),
        ("undefined CPU op", None, []),
    ],
)
def test_operator_and_node_are_read_from_the_message(message: str, operator: str | None, nodes: list[str]) -> None:
    explanation = explain_failure(message, None, "en")
    assert explanation is not None
    assert (explanation["key"], explanation["operator"], explanation["nodes"]) == (
        "unsupported_operator",
        operator,
        nodes,
    )


def test_an_explanation_names_the_chips_that_have_the_operator() -> None:
    explanation = explain_failure(
        "undefined CPU op [Sigmoid] of node [s]", {"format": "hdf5", "reason": "hdf5"}, "zh-TW"
    )
    assert explanation is not None
    assert explanation["chips"] == ["720", "530", "630", "730"]
    assert "以下晶片的 NPU 支援 Sigmoid：KL720、KL530、KL630、KL730。" in explanation["text"]


def test_an_explanation_offers_neither_the_chip_that_failed_nor_operators_that_it_lacks() -> None:
    explanation = explain_failure("undefined CPU op [Flatten] of node [f]", stored_advice(example(), "720"), "en")
    assert explanation is not None
    assert explanation["chips"] == ["530", "630", "730"]
    assert explanation["replacement"] == "Use Reshape with a constant shape instead."
    explanation = explain_failure("undefined CPU op [Flatten] of node [f]", stored_advice(example(), "520"), "en")
    assert explanation is not None
    assert (explanation["chips"], explanation["replacement"]) == (["720", "530", "630", "730"], None)


@pytest.mark.parametrize(
    ("message", "language", "text"),
    [
        (
            "undefined CPU op",
            "en",
            (
                "The toolchain can't convert one of the model's operators for this chip. "
                "Replace it with operators that the chip runs."
            ),
        ),
        ("undefined CPU op", "zh-TW", "工具鏈無法為這個晶片轉換模型中的某個運算子。請改用晶片支援的運算子。"),
        (
            "undefined CPU op [Foo]",
            "en",
            (
                "The toolchain can't convert the operator Foo for this chip. No chip runs Foo on the NPU. "
                "Replace it with operators that the chip runs."
            ),
        ),
    ],
)
def test_an_explanation_says_what_the_message_names_and_what_to_do(message: str, language: str, text: str) -> None:
    explanation = explain_failure(message, None, language)
    assert explanation is not None
    assert explanation["text"] == text


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ("run_updater failed\nwith SIGABRT", "analysis_killed"),
        ("died with <Signals.SIGABRT: 6>", "analysis_killed"),
        ("Cannot find the corresponding input image folder", "missing_reference_images"),
        ("Inferred shape and existing shape differ in rank: (4) vs (2)", "shape_mismatch"),
    ],
)
def test_other_known_failures_have_a_text(message: str, key: str) -> None:
    for language in LANGUAGES:
        explanation = explain_failure(message, None, language)
        assert explanation is not None
        assert (explanation["key"], explanation["operator"], explanation["nodes"]) == (key, None, [])
        assert explanation["text"] == sentence("failure", key, language)


def test_reading_a_message_takes_no_longer_with_spaces_in_it() -> None:
    # Quadratic time would be about 30 seconds here; now it is less than 10 ms.
    started = time.thread_time()
    explanation = explain_failure("undefined CPU op" + " " * 20_000, None, "en")
    assert time.thread_time() - started < 3
    assert explanation is not None
    assert explanation["operator"] is None


def test_an_unknown_failure_has_no_explanation() -> None:
    assert explain_failure("out of disk space", stored_advice(example(), "520"), "en") is None


def test_each_failure_of_the_table_has_a_text() -> None:
    assert all(sentence("failure", failure.key, "en") for failure in toolchain().failures)


def test_an_operator_without_a_known_replacement_has_none() -> None:
    assert replacement_text("GridSample", "en", None) is None


def test_the_element_types_are_those_of_onnx() -> None:
    assert TensorProto.DataType.Name(1) == "FLOAT"
