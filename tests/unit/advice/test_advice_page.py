"""docs/advice.md against the code: its script, its findings and its limits."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from app.advice.description import MAX_DEPTH, MAX_EDGES, MAX_NODES, MAX_OPERATORS, MAX_VALUES
from app.advice.skeleton import SkeletonParser
from app.advice.texts import _texts
from app.advice.verdicts import MAX_FINDINGS, MAX_NAMES, advise
from tests.support.onnx_models import advice_for, graph, model_bytes

PAGE = (Path(__file__).parents[3] / "docs/advice.md").read_text(encoding="utf-8")


def test_the_script_makes_a_skeleton_with_the_same_advice(tmp_path: Path) -> None:
    [script] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Pow", ["a", "two"], ["y"])]
    data = model_bytes(graph(nodes, {"x": (1, 300)}, w=np.zeros((300, 300)), two=2.0))
    (tmp_path / "model.onnx").write_bytes(data)
    subprocess.run([sys.executable, "-c", script, "model.onnx", "skeleton"], cwd=tmp_path, check=True, timeout=60)

    small = (tmp_path / "skeleton").read_bytes()
    parser = SkeletonParser()
    parser.feed(data)
    assert len(small) < 1000
    assert onnx.load_from_string(small).graph.initializer[0].dims == [300, 300]
    assert advice_for(small) == advise(parser.finish())
    assert advice_for(small).chips["730"].npu_nodes == 2


def test_each_finding_is_in_the_table() -> None:
    described = {
        key
        for row in re.findall(r"^\| (`.*?) \| (?:error|warning|info)", PAGE, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", row)
    }
    assert described == set(_texts()["finding"])


def test_the_limits_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    for limit in (
        f"({MAX_DEPTH} levels",
        f"({MAX_NODES:,} nodes, {MAX_VALUES:,} declared values, {MAX_EDGES:,} inputs",
        f"or {MAX_OPERATORS} different",
        f"up to {MAX_NAMES} names",
        f"a chip has {MAX_FINDINGS} at most",
    ):
        assert limit in text
