"""What the worker does when it stops, and if it gets no more threads.

The rest is proved on real sockets (tests/wire, tests/durability).
"""

import socket
import threading
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.server.worker import GatewayWorker


def test_a_connection_without_a_request_does_not_hold_up_a_stop() -> None:
    """Browsers open connections in advance; a stop cuts their time as it does for idle ones."""
    worker = GatewayWorker.__new__(GatewayWorker)
    idle, silent = SimpleNamespace(timeout=75.0), SimpleNamespace(timeout=70.0)
    worker.keepalived_conns, worker.pending_conns = deque([idle]), deque([silent])

    worker._cap_keepalive(2.0)  # gunicorn calls it when its loop has ended

    assert (idle.timeout, silent.timeout) == (2.0, 2.0)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_connections_that_wait_are_accepted_before_a_listener_closes(
    family: socket.AddressFamily, tmp_path: Path
) -> None:
    worker = GatewayWorker.__new__(GatewayWorker)
    accepted: list[Any] = []
    worker.cfg, worker.nr_conns, worker.enqueue_req = None, 0, accepted.append  # type: ignore[method-assign]
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket(family))
        listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "gateway.sock"))
        listener.listen()
        listener.setblocking(False)
        for _ in range(3):
            opened.enter_context(socket.socket(family)).connect(listener.getsockname())

        worker._accept_all(listener)

        for conn in accepted:
            opened.enter_context(conn.sock)
        assert len(accepted) == 3


def test_requests_are_served_by_the_threads_that_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit on processes counts threads."""
    worker = GatewayWorker.__new__(GatewayWorker)
    worker.cfg = SimpleNamespace(threads=2)
    with worker.get_thread_pool() as pool:
        is_over = threading.Event()
        first = pool.submit(is_over.wait, 30)

        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        second = pool.submit(lambda: "served")
        is_over.set()
        assert (first.result(30), second.result(30)) == (True, "served")
