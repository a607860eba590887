"""The queue model of several hosts agrees with what is known of simple queues, and its check can fail."""

import math

import numpy as np
import pytest

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
