"""Restarts of one host after the other, behind deploy/nginx-cluster.conf, under load: no request fails."""

import time

import pytest

from tests.support.cluster import Cluster
from tests.support.mixed_load import MixedLoad

pytestmark = [pytest.mark.timeout(600), pytest.mark.parametrize("engine", ["cluster"], indirect=True, scope="module")]

USERS = 6
#: Shorter than the grace, and longer than the drain: some uploads end after the listener has closed.
UPLOAD_SECONDS = 3.0
#: The default. It fits nginx's `fail_timeout`.
DRAIN_SECONDS = "2"


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {"VISIONA_DRAIN_SECONDS": DRAIN_SECONDS}


@pytest.fixture(scope="module")
def sandbox_options() -> dict[str, object]:
    return {"job_seconds": 0.4}


def restart_one_after_the_other(cluster: Cluster, times: int) -> MixedLoad:
    """Restart each host so many times. Wait for `/readyz` before the next one, as an operator does."""
    people = [cluster.person(f"user-{number}") for number in range(USERS)]
    began = time.monotonic()
    with MixedLoad(cluster, people, upload_seconds=UPLOAD_SECONDS) as load:
        for _ in range(times):
            for replica in cluster.replicas:
                assert replica.stop() == 0
                cluster.start_replica(replica)
    total = load.succeeded.total()
    print(f"\n{times} rolling restarts in {time.monotonic() - began:.0f} s, {total} requests succeeded:")
    print(f"{dict(load.succeeded)}; {len(load.failures)} failed", flush=True)
    return load


def test_a_rolling_restart_fails_no_request(stack: Cluster) -> None:
    """Polls, sign-ins, uploads, promotes, downloads and deletions go on while both hosts restart in turn."""
    load = restart_one_after_the_other(stack, 1)
    assert not load.failures, load.failures
    assert all(load.succeeded[kind] for kind in ("sign-in", "upload", "poll", "promote", "download", "delete"))


@pytest.mark.soak
def test_ten_rolling_restarts_fail_no_request(stack: Cluster) -> None:
    load = restart_one_after_the_other(stack, 10)
    assert not load.failures, load.failures
