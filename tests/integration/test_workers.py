"""Two workers serve, a killed one is replaced, and SIGTERM ends the server."""

import os
import signal
import time

import pytest

from tests.support.processes import wait_until
from tests.support.stack import Stack


def test_both_workers_serve_the_same_session_and_jobs(stack: Stack) -> None:
    """Each of the two processes knows the session and the running job."""
    alice = stack.signed_in("alice")
    job_id = stack.upload(alice)
    connections = stack.connect_to_all_workers()

    assert len(connections) == 2
    assert set(connections) == set(stack.worker_pids())
    for connection in connections.values():
        with connection:
            cookie = {"Cookie": alice.cookie_header}
            assert connection.send_head("GET", "/api/me", cookie).read_response().json()["user_id"] == "u-alice-7f3a"
            active = connection.send_head("GET", "/api/conversion/active", cookie).read_response()
            assert active.json()["active_job"]["job_id"] == job_id
            assert connection.send_head("GET", f"/api/conversion/{job_id}", cookie).read_response().status == 200


def test_killed_worker_is_replaced(stack: Stack) -> None:
    """After SIGKILL of one worker the other continues, and soon there are two again."""
    victim, survivor = stack.worker_pids()
    os.kill(victim, signal.SIGKILL)

    wait_until(
        lambda: len(pids := stack.worker_pids()) == 2 and survivor in pids and victim not in pids, "two workers again"
    )

    for connection in stack.connect_to_all_workers().values():
        with connection:
            assert connection.send_head("GET", "/readyz").read_response().status == 200


@pytest.mark.timeout(60)
def test_gateway_ends_within_seconds_after_sigterm(stack: Stack) -> None:
    """SIGTERM ends master and workers with code 0, within seconds if no request is in progress."""
    workers = stack.worker_pids()
    started = time.monotonic()

    assert stack.stop_gateway() == 0

    # Two seconds of it are for kept connections, on which a request may be under way.
    assert time.monotonic() - started < 15
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110 - procfs
