"""The worker's choice, and what it cuts short when it stops. The rest is proved on real sockets (tests/wire)."""

import selectors
import time
from collections import deque
from types import SimpleNamespace

import pytest
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import ThreadWorker

from app.server.lingering import Discarder
from app.server.worker import GatewayWorker, choose_worker_class


def test_our_worker_is_taken_on_this_version_of_gunicorn() -> None:
    assert choose_worker_class() is GatewayWorker


@pytest.mark.parametrize("missing", ["enqueue_req", "finish_request", "_keepalive_after"])
def test_gunicorns_own_is_taken_where_its_inside_has_changed(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delattr(ThreadWorker, missing)
    assert choose_worker_class() == "gthread"


def test_gunicorns_own_is_taken_where_its_parser_buffers_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SocketUnreader, "__init__", lambda self, sock: None)
    assert choose_worker_class() == "gthread"


def test_connection_on_which_nobody_asks_anything_does_not_hold_up_a_stop() -> None:
    """Browsers open connections in advance; their time is cut as that of kept ones is, and that of half heads."""
    worker = GatewayWorker.__new__(GatewayWorker)
    kept, silent = SimpleNamespace(timeout=75.0), SimpleNamespace(timeout=70.0)
    worker.keepalived_conns, worker.pending_conns = deque([kept]), deque([silent])
    worker._half_heads = {"half": 15.0}
    with selectors.DefaultSelector() as selector:
        worker._discarder = Discarder(selector)

        worker._cap_keepalive(2.0)  # what gunicorn calls when its loop has ended

    assert (kept.timeout, silent.timeout, worker._half_heads) == (2.0, 2.0, {"half": 2.0})


def test_leaving_connections_to_others_does_not_add_up_when_they_come_fast() -> None:
    worker = SimpleNamespace(_busy=8, _yields_left=0.016, _yields_counted_at=time.monotonic())
    begun_at = time.monotonic()
    waits = [GatewayWorker._yield_seconds(worker) for _ in range(1_000)]  # type: ignore[arg-type]
    lasted = time.monotonic() - begun_at
    assert waits[:8] == [0.002] * 8, "some uploads that begin at once are spread"
    assert sum(waits) <= 0.016 + 0.05 * lasted + 0.002
