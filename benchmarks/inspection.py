"""What a user waits for the advice about a model, and what reading a model's structure costs its upload.

.venv/bin/python -m benchmarks.inspection [--smoke]
"""

import dataclasses
import statistics
import time
from pathlib import Path

import onnx.backend.test

from benchmarks.measures import MEBIBYTE, MeasuringError, Report, Rounds, Scale
from benchmarks.native_programs import BodyFiles
from benchmarks.running import run_alone
from benchmarks.world import World, with_cpu_time
from tests.support.skeleton_cases import entry, varint

#: `POST /api/conversion/inspect` accepts files up to this size.
_MAX_MODEL_BYTES = 8 * MEBIBYTE


def measure(world: World, scale: Scale) -> Report:
    """Inspect the models that the onnx package ships; send uploads that are a model, and that are random bytes."""
    report = Report("Inspecting models")
    milliseconds = sorted(_inspections(world, rounds=3 if scale.is_full else 1))
    report.add("inspect_p50_ms", statistics.median(milliseconds), unit="ms", is_compared=False)
    report.add("inspect_p99_ms", milliseconds[len(milliseconds) * 99 // 100], unit="ms", is_compared=False)
    _add_uploads(world, scale, report)
    return report


def _inspections(world: World, rounds: int) -> list[float]:
    """Return the milliseconds of each inspection, with its upload."""
    person = world.gateway().person("u-inspector")
    files = [path.read_bytes() for path in sorted(Path(onnx.backend.test.__file__).parent.rglob("*.onnx"))]
    models = [content for content in files if len(content) <= _MAX_MODEL_BYTES]
    found = []
    for _ in range(rounds):
        for content in models:
            started = time.perf_counter()
            response = person.post("/api/conversion/inspect", files={"model": ("model.onnx", content)})
            found.append(1e3 * (time.perf_counter() - started))
            if response.status_code != 200 or not response.json().get("chips"):
                raise MeasuringError(f"there was no advice: {response.status_code}")
    return found


def _add_uploads(world: World, scale: Scale, report: Report) -> None:
    """Compare uploads of which the structure is read to the end with uploads that are no models from the first byte."""
    gateway = world.gateway()
    random = world.body(scale.upload_bytes)
    model = _with_model_head(world, random)
    rounds = Rounds()
    rounds.run(
        {
            name: lambda body=body: with_cpu_time(  # type: ignore[misc]
                gateway.pids(), lambda: world.send_to(gateway, body, "u-one"), body.bytes
            )
            for name, body in (("random bytes", random), ("a model", model))
        },
        rounds=2 * scale.rounds,
    )
    rounds.tell(report)
    for figure, unit in (("upload_model_vs_random", "MB/s"), ("upload_model_cpu_vs_random", "CPU s/GB")):
        report.add(figure, rounds.median("a model", unit) / max(rounds.median("random bytes", unit), 0.001))


def _with_model_head(world: World, body: BodyFiles) -> BodyFiles:
    """Return a body whose model is an ONNX model with one tensor, of the same size but for its head."""
    raw_data = b"\x4a" + varint(body.filled_bytes)
    tensor = b"\x2a" + varint(len(raw_data) + body.filled_bytes) + raw_data
    head = entry(1, 8) + b"\x3a" + varint(len(tensor) + body.filled_bytes) + tensor
    prefix = world.directory / "model-head"
    prefix.write_bytes(body.prefix.read_bytes() + head)
    return dataclasses.replace(body, prefix=prefix)


if __name__ == "__main__":
    run_alone(measure)
