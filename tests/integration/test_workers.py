"""The processes: two workers really serve, and a server that is told to end does."""

import os
import signal
import time

import pytest

from tests.support.processes import wait_until
from tests.support.stack import Stack


def test_both_workers_serve_the_same_session_and_jobs(stack: Stack) -> None:
    """Whichever of the two processes a connection reaches, it knows who asks and which job runs."""
    alice = stack.signed_in("alice")
    job_id = stack.upload(alice)
    connections = stack.connect_to_all_workers()

    assert len(connections) == 2
    assert set(connections) == set(stack.worker_pids())
    for connection in connections.values():
        with connection:
            cookie = {"Cookie": alice.cookie_header}
            assert connection.send_head("GET", "/api/me", cookie).answer().json()["user_id"] == "u-alice-7f3a"
            active = connection.send_head("GET", "/api/conversion/active", cookie).answer()
            assert active.json()["active_job"]["job_id"] == job_id
            assert connection.send_head("GET", f"/api/conversion/{job_id}", cookie).answer().status == 200


def test_killed_worker_is_replaced(stack: Stack) -> None:
    """After SIGKILL of one worker the other serves on, and soon there are two again."""
    victim, survivor = stack.worker_pids()
    os.kill(victim, signal.SIGKILL)

    wait_until(
        lambda: len(pids := stack.worker_pids()) == 2 and survivor in pids and victim not in pids, "two workers again"
    )

    for connection in stack.connect_to_all_workers().values():
        with connection:
            assert connection.send_head("GET", "/readyz").answer().status == 200


@pytest.mark.timeout(60)
def test_gateway_ends_soon_when_told_to(stack: Stack) -> None:
    """SIGTERM ends master and workers with code 0, within seconds when nothing is under way."""
    workers = stack.worker_pids()
    started = time.monotonic()

    assert stack.stop_gateway() == 0

    # Two seconds of it are for kept connections, on which a request may be under way.
    assert time.monotonic() - started < 15
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110 - procfs
