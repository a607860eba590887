"""The browser cuts the same skeletons from files on disk as the gateway does from bytes that pass by."""

import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import onnx.backend.test

from app.advice.skeleton import MAX_FIELDS, Skeleton, SkeletonParser
from tests.support.processes import ROOT
from tests.support.skeleton_cases import broken_files, entry, graph_model, models

SHIPPED = Path(onnx.backend.test.__file__).parent / "data"


def skeleton_of(content: bytes) -> Skeleton:
    parser = SkeletonParser()
    parser.feed(content)
    return parser.finish()


def damaged_files() -> Iterator[tuple[str, bytes]]:
    """Valid models with a byte changed or the end cut off, always the same ones."""
    chance = random.Random(16)
    for name, content in models():
        for number in range(8):
            damaged = bytearray(content)
            damaged[chance.randrange(len(content))] = chance.randrange(256)
            yield f"{name}, damaged {number}", bytes(damaged)
        yield f"{name}, cut off", content[: chance.randrange(len(content))]


def other_files() -> Iterator[tuple[str, bytes]]:
    for path in sorted(SHIPPED.rglob("*.onnx")):
        yield str(path.relative_to(SHIPPED)), path.read_bytes()
    yield "TFLite", b"\x1c\x00\x00\x00TFL3" + bytes(500)
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(500)
    yield "PyTorch", b"PK\x03\x04" + bytes(22) + b"\x10\x00\x00\x00archive/data.pkl" + bytes(500)
    nodes = graph_model(*[entry(4, b"Relu")] * 300)
    yield "ends after a node", nodes[: nodes.index(b"Relu") + 4]
    yield "many small nodes", graph_model(*[entry(4, b"Relu")] * 40_000)
    yield "too many nodes", graph_model(*[entry(4, b"Relu")] * 400_000)
    # Just below and just above the limit of fields.
    limit = MAX_FIELDS // 4
    yield "as many nodes as allowed", graph_model(*[entry(4, b"Relu")] * (limit - 10))
    yield "a few nodes too many", graph_model(*[entry(4, b"Relu")] * (limit + 10))
    yield "too large", graph_model(*[entry(3, b"n" * 900)] * 5_000)


def cut_in_node(folder: Path, files: list[bytes]) -> list[tuple[dict[str, object], bytes | None]]:
    """Return what `skeleton.js` gives for each file."""
    # Node needs the module in a package of type "module".
    module = Path(shutil.copy(ROOT / "app" / "console" / "static" / "js" / "skeleton.js", folder))
    (folder / "package.json").write_text('{"type": "module"}')
    paths = [folder / f"{number:04}.onnx" for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    command = ["node", str(ROOT / "tests" / "node" / "cut_skeletons.mjs"), str(module), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return [_result(path) for path in paths]


def _result(path: Path) -> tuple[dict[str, object], bytes | None]:
    skeleton = path.with_suffix(".onnx.skeleton")
    facts = json.loads(path.with_suffix(".onnx.json").read_text(encoding="utf-8"))
    return facts, skeleton.read_bytes() if skeleton.exists() else None


def test_browser_and_gateway_agree_about_every_file(tmp_path: Path) -> None:
    """What the browser sends makes the gateway say what it would say about the file itself."""
    cases = [*models(), *damaged_files(), *other_files()]
    results = cut_in_node(tmp_path, [content for _, content in cases])
    for (name, content), (facts, data) in zip(cases, results, strict=True):
        expected = skeleton_of(content)
        if data is None:
            assert (expected.format, expected.reason) == ("onnx", facts["reason"]), name
        else:
            assert skeleton_of(data) == expected, name
            # Only the gateway checks whether names are UTF-8.
            assert data == expected.data or not facts["isModel"] or expected.reason == "malformed", name


def test_browser_gives_the_same_reasons(tmp_path: Path) -> None:
    cases = [case for case in broken_files() if case[0] != "name that is not UTF-8"]
    results = cut_in_node(tmp_path, [content for _, content, _ in cases])
    for (name, content, reason), (facts, data) in zip(cases, results, strict=True):
        if facts["isModel"]:
            assert (facts["reason"], data) == (reason, None), name
        else:
            assert data == content[:128], name
            assert reason in {"empty", "text", "not_a_model"}, name
