"""No file makes the parser raise, hold much memory, or work for long."""

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from app.advice import onnx_model_pb2 as pb
from app.advice.skeleton import MAX_BYTES, Skeleton, SkeletonParser
from tests.support.skeleton_cases import broken_files, entry, graph_model, model_of, models, varint
from tests.unit.advice.skeletons import expected_model, skeleton_of

MEBIBYTE = 1024 * 1024
CONTENTS = [*(content for _, content in models()), *(content for _, content, _ in broken_files())]


def large_model(tensors: int, tensor_bytes: int, chunk: bytes) -> Iterator[bytes]:
    """Give a model with weights of that size in chunks that share one buffer."""
    weights = b"\x4a" + varint(tensor_bytes)
    head = entry(8, b"weights") + weights
    start = b"\x2a" + varint(len(head) + tensor_bytes) + head
    nodes = entry(1, entry(1, b"x") + entry(2, b"y") + entry(4, b"Conv")) * tensors
    yield entry(1, 8) + b"\x3a" + varint(len(nodes) + tensors * (len(start) + tensor_bytes)) + nodes
    for _ in range(tensors):
        yield start
        for _ in range(tensor_bytes // len(chunk)):
            yield chunk
    yield entry(8, entry(2, 13))


def test_skeleton_of_200_mb_has_only_what_surrounds_the_weights() -> None:
    parser = SkeletonParser()
    for chunk in large_model(50, 4 * MEBIBYTE, bytes(65536)):
        parser.feed(memoryview(chunk))

    skeleton = parser.finish()

    node = entry(1, b"x") + entry(2, b"y") + entry(4, b"Conv")
    assert skeleton == Skeleton("onnx", graph_model(*[node] * 50, initializers=(entry(8, b"weights"),) * 50))


@pytest.mark.parametrize("chunk_bytes", [65536, MEBIBYTE])
def test_parser_holds_little_memory(chunk_bytes: int) -> None:
    """A skeleton of nearly the largest size, and weights in between."""
    node = entry(3, b"n" * 900)
    content = graph_model(*[node] * 4600, initializers=(entry(9, bytes(MEBIBYTE)),))
    parser, view = SkeletonParser(), memoryview(content)
    tracemalloc.start()
    try:
        for start in range(0, len(content), chunk_bytes):
            parser.feed(view[start : start + chunk_bytes])
        skeleton = parser.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.95 * MAX_BYTES < len(skeleton.data) <= MAX_BYTES
    # Twice the skeleton at its end, and what a bytearray reserves to grow.
    assert peak < 9 * MEBIBYTE


def test_parser_keeps_no_view_of_a_chunk() -> None:
    """A chunk is lent: the next one overwrites it."""
    content = graph_model(entry(4, b"Relu"), initializers=(entry(8, b"w" * 200) + entry(9, bytes(3000)),))
    parser = SkeletonParser()
    for start in range(0, len(content), 100):
        lent = bytearray(content[start : start + 100])
        with memoryview(lent) as chunk:
            parser.feed(chunk)
        lent[:] = b"\xff" * len(lent)
        # A view of it that is still open would forbid this.
        lent.clear()
    assert parser.finish() == skeleton_of(content)


HOSTILE = {
    "fields of two bytes": lambda: model_of(b"\x08\x00" * (2 * MEBIBYTE)),
    "fields of twelve bytes": lambda: model_of((b"\x08" + b"\x80" * 9 + b"\x00") * 370_000),
    "empty nodes": lambda: model_of(b"\x0a\x00" * (2 * MEBIBYTE)),
    "nodes with empty attributes": lambda: graph_model(*[b"\x2a\x00" * 510] * 4096),
    "shapes with empty dimensions": lambda: model_of(entry(11, entry(2, entry(1, entry(2, b"\x0a\x00" * 500)))) * 4096),
    "one node with empty attributes": lambda: graph_model(b"\x2a\x00" * (2 * MEBIBYTE)),
    "one tensor with single values": lambda: graph_model(initializers=(b"\x28\x01" * (2 * MEBIBYTE),)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_millions_of_fields_are_not_walked(content: Callable[[], bytes]) -> None:
    """Twenty times the time that it takes on a quiet machine; all fields would take longer."""
    model = content()
    started = time.thread_time()
    skeleton = skeleton_of(model)
    assert skeleton == Skeleton("onnx", reason="too_complex")
    assert time.thread_time() - started < 2


def test_skeleton_over_4_mib_is_too_large() -> None:
    node = entry(3, b"n" * 1010)
    at_most = (MAX_BYTES - 100) // len(entry(1, node))
    assert skeleton_of(graph_model(*[node] * at_most)).reason is None
    assert skeleton_of(graph_model(*[node] * (at_most + 1))).reason == "too_large"


_sizes = st.sampled_from([0, 1, 200, 255, 256, 257, 300, 2000])
_names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def _tensors(draw: st.DrawFn) -> TensorProto:
    size, name = draw(_sizes), draw(_names)
    kind = draw(st.sampled_from(["raw", TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.DOUBLE]))
    if kind == "raw":
        return helper.make_tensor(name, TensorProto.FLOAT, [size], bytes(4 * size), raw=True)
    return helper.make_tensor(name, kind, [size], [draw(st.integers(-3, 300))] * size)


@st.composite
def _models(draw: st.DrawFn, depth: int = 0) -> ModelProto:
    attributes = st.one_of(
        st.integers(-(2**63), 2**63 - 1),
        st.floats(width=32, allow_nan=False),
        st.text(max_size=10),
        st.lists(st.integers(0, 9), min_size=1, max_size=5),
        _tensors(),
        *([_models(depth + 1).map(lambda model: model.graph)] if depth < 2 else []),
    )
    nodes = [
        helper.make_node(
            draw(st.sampled_from(["Conv", "Relu", "If", "Constant", "Foo"])),
            draw(st.lists(_names, max_size=3)),
            draw(st.lists(_names, max_size=2)),
            name=draw(_names),
            domain=draw(st.sampled_from(["", "com.example"])),
            **draw(st.dictionaries(st.sampled_from(["axis", "value", "body", "pads"]), attributes, max_size=2)),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]
    graph = helper.make_graph(nodes, draw(_names), [], [], draw(st.lists(_tensors(), max_size=3)))
    return helper.make_model(graph, producer_name=draw(_names))


@settings(max_examples=100, deadline=None)
@given(_models(), st.integers(1, 5000))
def test_any_model_keeps_its_structure(model: ModelProto, chunk_bytes: int) -> None:
    content = model.SerializeToString()
    skeleton = skeleton_of(content, chunk_bytes)
    assert skeleton.reason is None
    assert ModelProto.FromString(skeleton.data) == expected_model(content)
    assert skeleton_of(skeleton.data) == skeleton


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CONTENTS), st.randoms(use_true_random=False), st.integers(1, 5000))
def test_damaged_file_gives_a_skeleton_or_a_reason(content: bytes, chance: random.Random, chunk_bytes: int) -> None:
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        at = chance.randint(0, len(damaged))
        match chance.choice(("replace", "insert", "delete", "cut")):
            case "replace":
                damaged[at : at + 1] = chance.randbytes(1)
            case "insert":
                damaged[at:at] = chance.randbytes(chance.randint(1, 12))
            case "delete":
                del damaged[at : at + chance.randint(1, 40)]
            case "cut":
                del damaged[at:]
    _check_invariants(bytes(damaged), chunk_bytes)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_give_a_skeleton_or_a_reason(content: bytes, chunk_bytes: int) -> None:
    _check_invariants(content, chunk_bytes)
    _check_invariants(model_of(content), chunk_bytes)


def _check_invariants(content: bytes, chunk_bytes: int) -> None:
    skeleton = skeleton_of(content, chunk_bytes)
    assert skeleton == skeleton_of(content)
    assert len(skeleton.data) <= len(content)
    assert (skeleton.reason is None) == bool(skeleton.data)
    if skeleton.data:
        assert skeleton.format == "onnx"
        pb.Model.FromString(skeleton.data)
        assert skeleton_of(skeleton.data) == skeleton
