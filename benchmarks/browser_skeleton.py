"""How long Chromium takes to cut the skeletons of large models from their files. The files are mostly holes.

.venv/bin/python -m benchmarks.browser_skeleton
"""

import statistics
from pathlib import Path

from benchmarks.measures import Report, Scale
from benchmarks.running import run_alone
from benchmarks.world import World
from tests.support.chromium import end_shared_browser, shared_browser
from tests.support.skeleton_cases import entry, varint

_NODES = 1_000
_TENSORS = 300
_RUNS = 5
_SIZES = {"10 MB": 10_000_000, "200 MB": 200_000_000, "2 GB": 2_000_000_000}
#: Choose a file in the page, import the module, and cut.
_CUT = """async (module) => {
    const { cutSkeleton } = await import(module);
    const file = document.querySelector("#bench").files[0];
    const started = performance.now();
    const { data } = await cutSkeleton(file, new AbortController().signal);
    return [performance.now() - started, data.length];
}"""


def measure(world: World, _scale: Scale) -> Report:
    """Cut each file several times, in a page of the console."""
    report = Report("Skeletons in Chromium")
    origin = f"http://localhost:{world.gateway().port}"
    module = "/console/bench/js/skeleton.js"
    page = shared_browser().new_page()
    try:
        page.goto(origin)
        page.evaluate(
            "() => document.body.append(Object.assign(document.createElement('input'), {type: 'file', id: 'bench'}))"
        )
        for name, size in _SIZES.items():
            path = world.directory / "model.onnx"
            _write_model(path, size)
            page.set_input_files("#bench", path)
            cuts = [page.evaluate(_CUT, module) for _ in range(_RUNS)]
            report.add(
                f"{name.replace(' ', '_').lower()}_ms",
                statistics.median(cut[0] for cut in cuts),
                unit="ms",
                is_compared=False,
            )
            report.note(name, "KB in the skeleton", cuts[0][1] / 1e3)
    finally:
        page.close()
        end_shared_browser()
    return report


def _write_model(path: Path, size: int) -> None:
    """Write a model with holes for its weights."""
    nodes = b"".join(
        entry(
            1,
            entry(1, b"in%d" % number)
            + entry(2, b"out%d" % number)
            + entry(3, b"/layer/%d/conv" % number)
            + entry(4, b"Conv"),
        )
        for number in range(_NODES)
    )
    weights = b"\x4a" + varint(size // _TENSORS)
    tensors = [
        b"\x2a" + varint(len(fields) + len(weights) + size // _TENSORS) + fields + weights
        for fields in (entry(1, 64) + entry(2, 1) + entry(8, b"weight.%d" % number) for number in range(_TENSORS))
    ]
    graph_bytes = len(nodes) + sum(map(len, tensors)) + _TENSORS * (size // _TENSORS)
    with path.open("wb") as file:
        file.write(entry(1, 8) + b"\x3a" + varint(graph_bytes) + nodes)
        for tensor in tensors:
            file.write(tensor)
            file.seek(size // _TENSORS, 1)
        file.write(entry(8, entry(2, 13)))


if __name__ == "__main__":
    run_alone(measure)
