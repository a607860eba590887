"""The queue model of several hosts agrees with what is known of simple queues, and its check can fail."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.config import ROOT
from benchmarks.fleet_model import Fleet, Load, erlang_b, poll_p99, queue_waits, refused_share
from benchmarks.simulate_fleet import INPUTS, check, costs

VALUES = {name: entry.value for name, entry in INPUTS.items()}
HOST = Fleet(hosts=1, workers_per_host=2, cores_per_host=2, slots_per_host=512)


def test_waits_at_one_server_have_the_mean_that_theory_gives() -> None:
    """At a load of 0.8, requests wait four times as long as they are served (M/M/1)."""
    rng = np.random.default_rng(7)
    waits = queue_waits(rng.exponential(1.0, 400_000), rng.exponential(0.8, 400_000))
    assert waits.mean() == pytest.approx(4 * 0.8, rel=0.1)


@pytest.mark.parametrize(("offered", "slots", "lost"), [(10, 10, 0.2146), (1, 1, 0.5), (0, 3, 0), (100, 150, 0)])
def test_refused_share_is_that_of_published_tables(offered: float, slots: int, lost: float) -> None:
    assert erlang_b(offered, slots) == pytest.approx(lost, abs=1e-4)


def test_more_hosts_refuse_fewer_uploads_and_answer_polls_sooner() -> None:
    load = Load(uploads=500, polls_per_second=200)
    fleet = Fleet(hosts=4, workers_per_host=2, cores_per_host=2, slots_per_host=512)
    assert poll_p99(fleet, load, costs(VALUES)) < poll_p99(HOST, load, costs(VALUES))
    assert refused_share(fleet, 1_000) < refused_share(HOST, 1_000)


@pytest.mark.parametrize(
    "load", [Load(0, 100_000), Load(100_000, 1), Load(0, 100, writes_per_second=1_000_000)], ids=str
)
def test_a_server_with_too_much_work_never_answers(load: Load) -> None:
    assert poll_p99(HOST, load, costs(VALUES)) == math.inf


def test_the_predictions_agree_with_both_measured_loads(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(VALUES)
    assert capsys.readouterr().out.count("ok") == 2


@pytest.mark.parametrize(("name", "factor"), [("polls_p99", 5), ("many_polls_p99", 0.2), ("poll_cpu", 8)])
def test_a_wrong_figure_fails_the_check(name: str, factor: float) -> None:
    assert not check({**VALUES, name: VALUES[name] * factor})


def test_a_run_of_the_benchmarks_is_simulated_and_drawn(tmp_path: Path) -> None:
    """The program takes its figures from bench.json, and its exit status says whether the check failed."""
    bench, picture = tmp_path / "bench.json", tmp_path / "fleet.png"
    figures = {entry.figure: entry.value for entry in INPUTS.values() if entry.figure}
    figures["ms p99 of polls"] *= 5
    bench.write_text(json.dumps({"parts": [{"measured": {"gateway, 500 slow uploads": figures}}]}), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.simulate_fleet", "--from", str(bench), "--picture", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("WRONG") == 1
    assert picture.read_bytes().startswith(b"\x89PNG")
