"""What the advice about a model costs: the weights that pass by, the structure, and the worst models that are accepted.

.venv/bin/python -m benchmarks.skeleton
"""

import time
from collections.abc import Callable
from pathlib import Path

import onnx.backend.test

from app.advice.description import MAX_NODES
from app.advice.skeleton import SkeletonParser
from app.advice.verdicts import advise
from benchmarks.measures import MEBIBYTE, Report, Scale
from benchmarks.running import run_alone
from benchmarks.world import World
from tests.support.skeleton_cases import entry, graph_model, model_of, varint

_NETWORKS = ("squeezenet", "resnet50", "inception_v2", "densenet121")
_CHUNK_BYTES = 65536
_RUNS = 7


def measure(_world: World | None, scale: Scale) -> Report:
    """Measure the CPU time of each, the best of several runs: nothing here waits for another process."""
    report = Report("The advice about a model")
    runs = _RUNS if scale.is_full else 2
    skipping = _best(_skip_one_gigabyte, runs)
    report.add("skeleton_ms_per_gb", skipping, at_most=16, unit="ms", is_compared=False)
    folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    for name in _NETWORKS:
        content = (folder / f"light_{name}.onnx").read_bytes()
        for key, milliseconds in _parts(content, runs).items():
            report.note(name, key, milliseconds)
    worst = 0.0
    for name, model in _worst_models().items():
        parts = _parts(model, runs)
        worst = max(worst, sum(parts.values()))
        for key, milliseconds in parts.items():
            report.note(name, key, milliseconds)
    report.add("advice_worst_ms", worst, at_most=250, unit="ms", is_compared=False)
    return report


def _best(work: Callable[[], float], runs: int) -> float:
    return min(work() for _ in range(runs))


def _skip_one_gigabyte() -> float:
    """Return the milliseconds for 25 tensors of 40 MB, without those of the loop itself."""
    parser = SkeletonParser()
    size = 40_000_000 // _CHUNK_BYTES * _CHUNK_BYTES
    weights = b"\x4a" + varint(size)
    tensor = b"\x2a" + varint(len(weights) + size) + weights
    chunk = memoryview(bytes(_CHUNK_BYTES))
    parser.feed(entry(1, 8) + b"\x3a" + varint(25 * (len(tensor) + size)))

    def give(feed: Callable[[bytes | memoryview], object]) -> float:
        started = time.thread_time()
        for _ in range(25):
            feed(tensor)
            for _ in range(size // _CHUNK_BYTES):
                feed(chunk)
        return 1000 * (time.thread_time() - started)

    with_parser = give(parser.feed)
    assert parser.finish().reason is None, "the model is not a model"
    return with_parser - give(len)


def _parts(content: bytes, runs: int) -> dict[str, float]:
    """Return the milliseconds of the skeleton and of the advice."""
    view = memoryview(content)
    best = {"ms for the skeleton": float("inf"), "ms for the advice": float("inf")}
    for _ in range(runs):
        started = time.thread_time()
        parser = SkeletonParser()
        for position in range(0, len(content), _CHUNK_BYTES):
            parser.feed(view[position : position + _CHUNK_BYTES])
        skeleton = parser.finish()
        parsed = time.thread_time()
        advise(skeleton)
        times = (parsed - started, time.thread_time() - parsed)
        best = {name: min(best[name], 1000 * each) for name, each in zip(best, times, strict=True)}
    return best


def _worst_models() -> dict[str, bytes]:
    """Return models just below the limits, and far beyond them."""
    node = entry(1, b"x") + entry(2, b"y") + entry(4, b"Conv")
    pads = entry(5, entry(1, b"pads") + b"".join(entry(8, 1) for _ in range(4)) + entry(20, 7))
    relu = b"".join(
        entry(1, entry(1, b"x") + entry(2, b"y") + entry(4, b"Op%d" % (number % 199))) for number in range(MAX_NODES)
    )
    pooling = entry(5, entry(1, b"kernel_shape") + entry(8, 3) * 2) + entry(5, entry(1, b"strides") + entry(8, 1) * 2)
    pools = [
        entry(1, b"%d" % number) + entry(2, b"%d" % (number + 1)) + entry(4, b"AveragePool") + pooling + pads
        for number in range(MAX_NODES)
    ]
    value = entry(11, entry(1, b"a name") + entry(2, entry(1, entry(1, 1) + entry(2, entry(1, entry(1, 224)) * 4))))
    return {
        f"{MAX_NODES:,} nodes of 199 operators": model_of(relu),
        f"{MAX_NODES:,} Conv": graph_model(*[node + pads] * MAX_NODES),
        f"{MAX_NODES:,} AveragePool, one after the other": graph_model(*pools),
        f"{MAX_NODES:,} Conv and 10,000 shapes": model_of(entry(1, node) * MAX_NODES + value * 10_000),
        f"{MAX_NODES:,} AveragePool and 5,000 shapes": model_of(
            b"".join(entry(1, pool) for pool in pools) + value * 5_000
        ),
        "8 MiB of small tensors": model_of(entry(5, entry(9, bytes(1030))) * 8_000),
        "4 MiB of texts": graph_model(*[entry(3, b"n" * 1010)] * 4_100),
        "60,000 empty nodes": model_of(entry(1, b"") * 60_000),
        "190,000 empty attributes": graph_model(*[entry(5, b"") * 510] * 372),
        "1,400,000 single values": graph_model(initializers=(entry(5, 1) * 4 * MEBIBYTE,)),
        "700,000 long numbers": model_of((b"\x08" + b"\x80" * 9 + b"\x00") * 700_000),
    }


if __name__ == "__main__":
    run_alone(measure)
