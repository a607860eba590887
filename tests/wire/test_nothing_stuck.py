"""Hundreds of slow sockets, behind nginx and without it: those who poll do not notice."""

import time
from collections.abc import Iterator

import pytest

from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack
from tests.wire.slow_sockets import LIMIT_SECONDS, SlowSockets, p99_of_polls

pytestmark = pytest.mark.timeout(120)

#: More than nginx and the kernel hold for somebody who does not read.
LIBRARY_FILE_BYTES = 24 * 1024 * 1024
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    """Two workers behind nginx, which end nobody for being slow while a slow machine measures."""
    patient = {"SCALED_TRY_SECONDS": "60"}
    # What measures polls faster than any user.
    nginx = {"replacements": {"rate=50r/s": "rate=5000r/s"}}
    with ScaledStack(tmp_path_factory.mktemp("stuck"), environment=patient, workers=2, nginx=nginx) as made:
        yield made


def test_two_hundred_slow_sockets_behind_nginx_delay_no_poll(stack: ScaledStack) -> None:
    """Heads and bodies that drip, signed in and not, and downloads that are hardly read."""
    owner = stack.person("owner")
    model_id = stack.kept_model(owner, LazyBytes(LIBRARY_FILE_BYTES, seed=1))["id"]
    watcher = stack.person("watcher")
    watched = stack.upload(watcher)
    pids = stack.worker_pids()
    head = model_upload()
    with SlowSockets(stack.url) as slow:
        slow.half_heads(60)
        # One for each user; some of them get no place at all.
        for number in range(30):
            cookie = stack.person(f"slow-{number}").cookie_header
            slow.bodies(1, "/api/conversion/init", {**head.headers, "Cookie": cookie}, head.as_bytes() * 10)
        slow.bodies(50, "/api/conversion/check", {**MULTIPART, "Cookie": owner.cookie_header}, b"x" * 1_000)
        slow.readers(10, f"/api/models/{model_id}/file", {"Cookie": owner.cookie_header})
        # Refused at once; nothing of what they go on sending matters.
        slow.bodies(50, "/api/conversion/init", MULTIPART, b"x" * 10_000)
        p99 = p99_of_polls(stack.url, f"/api/conversion/{watched}", {"Cookie": watcher.cookie_header})
        open_ones = slow.open_ones()
    assert len(slow.connections) == 200
    assert open_ones >= 140, "the load has gone away while it was measured"
    assert p99 < LIMIT_SECONDS
    assert stack.worker_pids() == pids, "a worker was replaced"
    wait_until(
        lambda: stack.send(stack.person("next"), model_upload()).status_code in {201, 409}, "the next upload works"
    )


def test_two_hundred_that_linger_delay_no_poll(stack: ScaledStack) -> None:
    """Connections that have ended, as far as we are concerned, and go on sending, cost nobody a thread."""
    host = {"Host": stack.url.partition("//")[2]}
    with SlowSockets(stack.direct_url) as slow:
        slow.bodies(200, "/api/conversion/init", {**host, **MULTIPART}, b"x" * 1_000_000)
        for connection in slow.connections:
            response = connection.read_response("POST")
            assert (response.status, response.header("Connection")) == (401, "close")
        p99 = p99_of_polls(stack.direct_url, "/healthz", {})
        slow.connections[0].send(b"x" * 500_000)
    assert p99 < LIMIT_SECONDS


def test_clients_that_stay_after_their_last_response_delay_no_poll(stack: ScaledStack) -> None:
    """A plain worker closes each of them for two seconds on the thread that accepts: eight cost the next one ten."""
    pids = stack.worker_pids()
    delays = []
    for _ in range(3):
        with SlowSockets(stack.direct_url) as staying:
            staying.silent(8)
            for connection in staying.connections:
                assert connection.send_head("GET", "/healthz", {"Connection": "close"}).read_response().status == 200
            with SlowSockets(stack.direct_url) as polling:
                began = time.monotonic()
                polling.silent(1)
                assert polling.connections[0].send_head("GET", "/healthz").read_response().status == 200
                delays.append(time.monotonic() - began)
    assert sorted(delays)[1] < 0.05, delays
    assert stack.worker_pids() == pids, "a worker was replaced"
