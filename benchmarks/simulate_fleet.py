"""How long polls take and how many uploads are refused, over hosts and load; drawn as a picture for docs/scaling.md.

    .venv/bin/python -m benchmarks.simulate_fleet                      # prints the check, draws docs/images/fleet.png
    .venv/bin/python -m benchmarks.simulate_fleet --from var/bench.json    # with the figures of a run of `make bench`

The model is benchmarks/fleet_model.py. It is checked against one host at two measured loads. Exits with 1 if a
prediction is wrong by more than a factor of two.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.config import ROOT
from benchmarks.fleet_model import Costs, Fleet, Load, poll_p99, refused_share

PICTURE = ROOT / "docs" / "images" / "fleet.png"
#: A prediction may be wrong by this factor.
TOLERANCE = 2.0
HOSTS = (1, 2, 4, 10)
UPLOADS = (50, 100, 150, 200, 300, 400, 500, 600, 800, 1_000, 1_300, 1_700, 2_000, 2_500, 3_000, 4_000, 5_000, 6_000)
#: Each host has so many of both. Workers, slots and cores are those of the measured host.
WORKERS, SLOTS, CORES = 2, 512, 2
#: For each upload in progress, per second: a fifth of the users poll every 2 s; an upload renews its lease every 20 s.
POLLS_PER_UPLOAD, WRITES_PER_UPLOAD = 0.1, 0.05
TARGET_MS = 30

_BENCH = "make bench"
_PART = "gateway, 500 slow uploads"


@dataclass(frozen=True)
class Input:
    """A measured value. `figure` is its name in bench.json, in the part for 500 slow uploads."""

    value: float
    unit: str
    command: str
    figure: str = ""


INPUTS: dict[str, Input] = {
    # Costs
    "poll_p50": Input(3.4, "ms", _BENCH, "ms p50 of polls alone"),
    "poll_p99": Input(8.28, "ms", _BENCH, "ms p99 of polls alone"),
    "poll_cpu": Input(3.2, "ms", _BENCH, "CPU ms per request, many polls alone"),
    "poll_turns": Input(18.1, "per poll", _BENCH, "context switches per request, many polls alone"),
    "upload_cpu": Input(0.2, "ms/s per upload", _BENCH, "CPU ms/s per upload"),
    "pieces_per_second": Input(1.3, "per upload", "20 KB/s in reads of 16 KB (app/server/body.py)"),
    "time_slice": Input(1.4, "ms", "Linux 6.18, two cores: 0.7 ms x (1 + log2(cores))"),
    "statements_per_poll": Input(0.1, "per poll", "the limit in the tests"),
    "read": Input(0.11, "ms", "pgbench --select-only --client 8 --time 8, on two cores"),
    "write": Input(0.46, "ms", "pgbench --skip-some-updates --client 8 --time 8, on two cores"),
    "converter_call": Input(20, "ms", "assumed, with 64 calls at once"),
    # The two points of the check. The whole machine was busy, with clients and upstreams, too.
    "many_polls_per_second": Input(162, "per s", _BENCH, "many polls alone/s"),
    "many_polls_cores_busy": Input(0.547, "cores", _BENCH, "cores busy, many polls alone"),
    "many_polls_p99": Input(16.3, "ms", _BENCH, "ms p99 of many polls alone"),
    "polls_per_second": Input(47.7, "per s", _BENCH, "polls/s"),
    "cores_busy": Input(0.384, "cores", _BENCH, "cores busy, polls"),
    "polls_p99": Input(16.7, "ms", _BENCH, "ms p99 of polls"),
}
_UPLOADS_OF_CHECK = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate_fleet")
    parser.add_argument("--from", dest="bench", type=Path, help="take the measured values from this bench.json")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    arguments = parser.parse_args()
    values = {name: entry.value for name, entry in INPUTS.items()}
    if arguments.bench:
        values |= read_values(arguments.bench)
    for name, entry in INPUTS.items():
        print(f"  {name:22} {values[name]:>9.3f} {entry.unit:16} {entry.command}{entry.figure and ': '}{entry.figure}")
    is_right = check(values)
    draw(values, arguments.picture)
    print(f"  drawn: {arguments.picture}")
    return 0 if is_right else 1


def read_values(path: Path) -> dict[str, float]:
    """Return the inputs that a run of the benchmarks measured."""
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
    measured = next(part["measured"][_PART] for part in parts if _PART in part["measured"])
    return {name: measured[entry.figure] for name, entry in INPUTS.items() if entry.figure}


def costs(values: Mapping[str, float]) -> Costs:
    """Return the model's costs."""
    return Costs(
        poll_p50=values["poll_p50"],
        poll_p99=values["poll_p99"],
        poll_cpu=values["poll_cpu"],
        poll_turns=values["poll_turns"],
        piece_cpu=values["upload_cpu"] / values["pieces_per_second"],
        pieces_per_second=values["pieces_per_second"],
        time_slice=values["time_slice"],
        statements_per_poll=values["statements_per_poll"],
        read=values["read"],
        write=values["write"],
        converter_call=values["converter_call"],
    )


def check(values: Mapping[str, float]) -> bool:
    """Compare the predictions for the measured host with what was measured; return whether both are close enough."""
    is_right = True
    for uploads, polls, busy, measured in (
        (0, values["many_polls_per_second"], values["many_polls_cores_busy"], values["many_polls_p99"]),
        (_UPLOADS_OF_CHECK, values["polls_per_second"], values["cores_busy"], values["polls_p99"]),
    ):
        gateway = (polls * values["poll_cpu"] + uploads * values["upload_cpu"]) / 1e3
        fleet = Fleet(1, WORKERS, CORES, SLOTS, other_cores=max(0.0, busy - gateway))
        # The bench has no PostgreSQL, and a converter that answers at once.
        predicted = poll_p99(fleet, Load(uploads, polls), costs({**values, "converter_call": 0, "read": 0}))
        is_close = measured / TOLERANCE <= predicted <= measured * TOLERANCE
        is_right = is_right and is_close
        verdict = "ok" if is_close else "WRONG"
        compared = f"p99 {measured:.1f} ms measured, {predicted:.1f} ms predicted"
        print(f"  {uploads:4} uploads, {polls:3.0f} polls/s: {compared}  {verdict}")
    return is_right


def draw(values: Mapping[str, float], path: Path) -> None:
    """Draw both curves for several numbers of hosts."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and the check needs no picture

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for hosts in HOSTS:
        fleet = Fleet(hosts, WORKERS, CORES, SLOTS)
        refused = [refused_share(fleet, uploads) for uploads in UPLOADS]
        accepted = [uploads * (1 - share) for uploads, share in zip(UPLOADS, refused, strict=True)]
        loads = [Load(uploads, uploads * POLLS_PER_UPLOAD, uploads * WRITES_PER_UPLOAD) for uploads in accepted]
        name = "1 host" if hosts == 1 else f"{hosts} hosts"
        left.plot(UPLOADS, [poll_p99(fleet, load, costs(values)) for load in loads], marker=".", label=name)
        right.plot(UPLOADS, [100 * share for share in refused], marker=".", label=name)
    left.axhline(TARGET_MS, color="gray", linestyle="--", linewidth=1)
    left.set(title="Polls, 99th percentile (dashed: the target)", ylabel="milliseconds", ylim=(0, None))
    right.set(title="Refused uploads", ylabel="percent", ylim=(-2, 100))
    for axes in (left, right):
        axes.set(xlabel="slow uploads that clients want to make at once", xscale="log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
