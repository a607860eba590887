"""A skeleton is its model without large data, whatever the model and the chunks."""

import random
from pathlib import Path

import onnx.backend.test
import pytest
from onnx import ModelProto

from app.advice.skeleton import SkeletonParser
from tests.support.skeleton_cases import broken_files, models
from tests.unit.advice.skeletons import expected_model, skeleton_of

SHIPPED = sorted((Path(onnx.backend.test.__file__).parent / "data").rglob("*.onnx"))


def test_the_onnx_package_ships_models() -> None:
    """Otherwise the next test would test nothing."""
    assert len(SHIPPED) >= 140


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_model_keeps_its_structure(path: Path) -> None:
    content = path.read_bytes()

    skeleton = skeleton_of(content)

    assert (skeleton.format, skeleton.reason) == ("onnx", None)
    assert ModelProto.FromString(skeleton.data) == expected_model(content)


@pytest.mark.parametrize(("name", "content"), list(models()), ids=[name for name, _ in models()])
def test_model_keeps_its_structure_at_every_split_point(name: str, content: bytes) -> None:
    whole = skeleton_of(content)
    assert whole.reason is None
    assert ModelProto.FromString(whole.data) == expected_model(content)
    size = len(content)
    for split in {*range(min(300, size)), *range(max(0, size - 300), size), *range(0, size, size // 200 or 1)}:
        parser = SkeletonParser()
        parser.feed(content[:split])
        parser.feed(content[split:])
        assert parser.finish() == whole, split
    assert skeleton_of(content, 1) == whole
    assert skeleton_of(whole.data) == whole


@pytest.mark.parametrize(
    ("content", "reason"), [case[1:] for case in broken_files()], ids=[case[0] for case in broken_files()]
)
def test_file_without_skeleton_has_a_reason(content: bytes, reason: str) -> None:
    for chunk_bytes in (1, 7, 1000, 1 << 18):
        skeleton = skeleton_of(content, chunk_bytes)
        assert (skeleton.data, skeleton.reason) == (b"", reason)
        assert skeleton.format == ("unknown" if reason in {"empty", "text", "not_a_model"} else "onnx")


def test_random_chunks_give_the_same_skeleton() -> None:
    chance = random.Random(5)
    content = max((content for _, content in models()), key=len)
    whole = skeleton_of(content)
    for _ in range(50):
        parser, position = SkeletonParser(), 0
        while position < len(content):
            size = chance.choice((0, 1, 2, 50, 1024, 5000))
            parser.feed(content[position : position + size])
            position += size
        assert parser.finish() == whole
