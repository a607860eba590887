"""`python -m benchmarks`: all parts, a table, and a JSON. `--smoke`: a small run that prints `name=ratio` and no more.

The JSON goes to VISIONA_BENCH_OUT, or to var/bench.json. Exits with 1 if something could not be measured. A
missed target is printed and is not a failure.
"""

import argparse
import sys
import time

from benchmarks import (
    hostile_bodies,
    inspection,
    many_uploads,
    polls_under_load,
    results,
    single_upload,
    skeleton,
    slow_uploads,
    small_requests,
)
from benchmarks.measures import FULL, SMOKE, Report, print_report, print_table, write_json
from benchmarks.running import Part
from benchmarks.world import World

PARTS: tuple[Part, ...] = (
    single_upload.measure,
    many_uploads.measure,
    polls_under_load.measure,
    small_requests.measure,
    hostile_bodies.measure,
    skeleton.measure,
    inspection.measure,
    slow_uploads.measure,
    # Last, because the disk goes on writing for a while.
    results.measure,
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="How fast the gateway is, compared with others."
    )
    parser.add_argument("--smoke", action="store_true", help="under a minute; prints one name=ratio per line")
    is_smoke = parser.parse_args().smoke
    started = time.monotonic()
    reports: list[Report] = []
    failures: list[str] = []
    with World() as world:
        for part in PARTS:
            try:
                report = part(world, SMOKE if is_smoke else FULL)
            # Go on with the other parts.
            except Exception as error:  # noqa: BLE001 - it is printed, and the exit status shows it
                failures.append(f"{part.__module__}: {error}")
                print(failures[-1], file=sys.stderr)
                continue
            reports.append(report)
            if not is_smoke:
                print_report(report)
    if is_smoke:
        _print_ratios(reports)
    else:
        print_table(reports)
        seconds = time.monotonic() - started
        path = write_json(reports, seconds, failures)
        print(f"\n{seconds:.0f} s in all; written to {path}")
    return 1 if failures else 0


def _print_ratios(reports: list[Report]) -> None:
    for report in reports:
        for figure in report.figures:
            if figure.is_compared:
                print(f"{figure.name}={figure.value:.3f}")


if __name__ == "__main__":
    sys.exit(main())
