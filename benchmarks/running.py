"""Run one part: `python -m benchmarks.<part>`, with `--smoke` for the short form."""

import sys
import time
from collections.abc import Callable

from benchmarks.measures import FULL, SMOKE, Report, Scale, print_report
from benchmarks.world import World

Part = Callable[[World, Scale], Report]


def run_alone(measure: Part) -> None:
    """Measure one part and print its results."""
    started = time.monotonic()
    with World() as world:
        report = measure(world, SMOKE if "--smoke" in sys.argv[1:] else FULL)
    print_report(report)
    print(f"\n{time.monotonic() - started:.0f} s in all")
