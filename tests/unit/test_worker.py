"""What the worker cuts short when it stops. The rest is proved on real sockets (tests/wire, tests/durability)."""

from collections import deque
from types import SimpleNamespace

from app.server.worker import GatewayWorker


def test_a_connection_without_a_request_does_not_hold_up_a_stop() -> None:
    """Browsers open connections in advance; a stop cuts their time as it does for idle ones."""
    worker = GatewayWorker.__new__(GatewayWorker)
    idle, silent = SimpleNamespace(timeout=75.0), SimpleNamespace(timeout=70.0)
    worker.keepalived_conns, worker.pending_conns = deque([idle]), deque([silent])

    worker._cap_keepalive(2.0)  # gunicorn calls it when its loop has ended

    assert (idle.timeout, silent.timeout) == (2.0, 2.0)
