"""Figures with targets, and how they are reported: as a table, as JSON, and as `name=ratio` lines."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from app.config import ROOT

OUT_VARIABLE = "VISIONA_BENCH_OUT"
DEFAULT_OUT = ROOT / "var" / "bench.json"


class MeasuringError(Exception):
    """Something could not be measured; the text says what."""


@dataclass(frozen=True)
class Figure:
    """One result. `target` is a lower or upper limit; None if the figure is only reported."""

    name: str
    value: float
    unit: str = "ratio"
    target: float | None = None
    must_be: Literal["at least", "at most"] = "at least"
    #: Whether the figure is a comparison with something measured in the same run.
    is_compared: bool = True

    @property
    def verdict(self) -> str:
        """Return `ok`, `MISSED`, or nothing without a target."""
        if self.target is None:
            return ""
        reached = self.value >= self.target if self.must_be == "at least" else self.value <= self.target
        return "ok" if reached else "MISSED"


@dataclass
class Report:
    """The results of one part: figures, and the measurements behind them."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    #: Name → unit → median of the rounds.
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        unit: str = "ratio",
        is_compared: bool = True,
    ) -> None:
        """Add a figure, with its target if it has one."""
        target, must_be = (at_most, "at most") if at_most is not None else (at_least, "at least")
        self.figures.append(Figure(name, value, unit, target, must_be, is_compared))  # type: ignore[arg-type]

    def note(self, name: str, unit: str, value: float) -> None:
        """Record a measurement for the JSON and the table."""
        self.measured.setdefault(name, {})[unit] = value


class Rounds:
    """Measurements of several ways in turns, so that other load on the machine affects all of them."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[str, list[float]]] = {}

    def run(self, ways: Mapping[str, Callable[[], Mapping[str, float]]], *, rounds: int, warm_up: bool = True) -> None:
        """Measure each way once per round (A B C A B C …). Each returns {unit: value}; the warm-up does not count."""
        for number in range(-1 if warm_up else 0, rounds):
            for name, measure in ways.items():
                measured = measure()
                if number >= 0:
                    for unit, value in measured.items():
                        self.samples.setdefault(name, {}).setdefault(unit, []).append(value)

    def median(self, name: str, unit: str) -> float:
        """Return the median of a way's measurements in a unit."""
        return statistics.median(self.samples[name][unit])

    def tell(self, report: Report) -> None:
        """Add all medians, minima and maxima to the report."""
        for name, units in self.samples.items():
            for unit, values in units.items():
                report.note(name, unit, statistics.median(values))
                report.note(name, f"{unit} (least)", min(values))
                report.note(name, f"{unit} (most)", max(values))


@dataclass(frozen=True)
class Scale:
    """Sizes and numbers of rounds."""

    rounds: int
    upload_bytes: int
    one_of_many_bytes: int
    hostile_bytes: int
    result_bytes: int
    poll_seconds: float
    window_seconds: float
    is_full: bool


MEGABYTE = 1_000_000
MEBIBYTE = 1 << 20
FULL = Scale(5, 1 << 30, 128 * MEBIBYTE, 256 * MEBIBYTE, 512 * MEBIBYTE, 2.0, 4.0, is_full=True)
SMOKE = Scale(3, 256 * MEBIBYTE, 32 * MEBIBYTE, 64 * MEBIBYTE, 128 * MEBIBYTE, 0.7, 1.5, is_full=False)


def print_report(report: Report) -> None:
    """Print the measurements and figures of a part."""
    print(f"\n{report.title}")
    for name, units in report.measured.items():
        shown = ", ".join(f"{value:,.4g} {unit}" for unit, value in units.items() if not unit.endswith(")"))
        print(f"  {name:34} {shown}")
    for note in report.notes:
        print(f"  {note}")
    for line in _figure_lines(report.figures):
        print(line)


def print_table(reports: Sequence[Report]) -> None:
    """Print every figure of every part, with target and verdict."""
    print("\nResults")
    for report in reports:
        for line in _figure_lines(report.figures):
            print(line)


def _figure_lines(figures: Sequence[Figure]) -> list[str]:
    lines = []
    for figure in figures:
        target = "" if figure.target is None else f"{'>=' if figure.must_be == 'at least' else '<='} {figure.target:g}"
        unit = "" if figure.unit == "ratio" else f" {figure.unit}"
        lines.append(f"  {figure.name:42} {figure.value:>9.3f}{unit:12} {target:>10}  {figure.verdict}".rstrip())
    return lines


def write_json(reports: Sequence[Report], seconds: float, failures: Sequence[str]) -> Path:
    """Write all measurements to `VISIONA_BENCH_OUT`; return the path."""
    path = Path(os.environ.get(OUT_VARIABLE) or DEFAULT_OUT)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine(),
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "could_not_be_measured": list(failures),
        "parts": [
            {
                "title": report.title,
                "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in report.figures],
                "measured": report.measured,
                "notes": report.notes,
            }
            for report in reports
        ],
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, str | int]:
    """Return the properties of the machine that matter for the figures."""
    facts = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line.partition(":")[2].strip() for line in facts if line.startswith("model name")), "unknown")
    return {
        "processor": model,
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
    }
