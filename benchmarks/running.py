"""Run one part: `python -m benchmarks.<part>`, with `--smoke` for the short form."""

import os
import sys
import time
from collections.abc import Callable

from benchmarks.measures import FULL, OUT_VARIABLE, SMOKE, Report, Scale, print_report, write_json
from benchmarks.world import World

Part = Callable[[World, Scale], Report]


def run_alone(measure: Part) -> None:
    """Measure one part and print its results; also write them to VISIONA_BENCH_OUT, if that is set."""
    started = time.monotonic()
    with World() as world:
        report = measure(world, SMOKE if "--smoke" in sys.argv[1:] else FULL)
    print_report(report)
    seconds = time.monotonic() - started
    print(f"\n{seconds:.0f} s in all")
    if os.environ.get(OUT_VARIABLE):
        print(f"written to {write_json([report], seconds, [])}")
