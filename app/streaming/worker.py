"""The gunicorn worker: gthread, with an end that loses no request, and clients that hold up nobody.

A plain worker that is told to stop keeps its listener open without accepting while it waits for running uploads, and
what has queued there is reset when it exits at last. This one goes on accepting for a moment, with the process
marked as draining, so that probes and new uploads hear of it; then it takes what is still queued, closes the
listener, so that nothing more can queue, and only then waits, within gunicorn's `graceful_timeout`.

It also closes connections in its threads, where a plain worker lingers on the one that accepts, and bounds how long a
client may leave a small body unsent or an answer unread.

It relies on the inside of gunicorn's ThreadWorker. `choose_worker_class` looks whether that is as expected; where it is
not, gunicorn's own worker serves as well, only less politely.
"""

import contextlib
import os
import time
from typing import Any

from gunicorn.util import close_graceful
from gunicorn.workers.gthread import ThreadWorker

from app.streaming.draining import begin_draining

#: How long a client may leave a small body unsent, or an answer unread, in seconds. Uploads have limits of their own.
STALL_SECONDS = 30.0
#: How long a connection that ends is listened to, so that its last answer is not cut off by a reset.
LINGER_SECONDS = 1.0
#: What we override or use of gunicorn's worker.
_NEEDED = (
    "handle",
    "handle_exit",
    "handle_request",
    "murder_pending",
    "set_accept_enabled",
    "accept",
    "is_parent_alive",
    "pending_conns",
    "_cap_keepalive",
    "method_queue",
    "run",
    "init_process",
)
#: Those of them that are there once a worker is made.
_MADE_BY_INIT = {"method_queue", "pending_conns"}


class GatewayWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker with a drain. `drain_seconds` is set by gunicorn.conf.py."""

    drain_seconds = 2.0
    alive: bool  # gunicorn's: the loop runs while it is true

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drain_until: float | None = None

    def handle_request(self, req: Any, conn: Any) -> Any:
        """As gunicorn does it, with a way for the application to end the connection (`inbound.end_connection`)."""
        req.body.close_connection = req.force_close
        # Neither a body that stops coming nor an answer that nobody reads may hold a thread for ever.
        conn.sock.settimeout(STALL_SECONDS)
        if self._drain_until is not None:
            # Told in time, clients come back by a new connection, and do not meet the end of this one.
            req.force_close()
        return super().handle_request(req, conn)

    def handle(self, conn: Any) -> Any:
        """As gunicorn does it, but what ends is closed here: lingering (2 s) must not hold up accept()."""
        result = super().handle(conn)
        if result is False:
            with contextlib.suppress(OSError):
                conn.sock.setblocking(True)
                close_graceful(conn.sock, timeout=LINGER_SECONDS)
            conn.close = _nothing_left_to_close
        return result

    def handle_exit(self, _sig: int, _frame: Any) -> None:
        """SIGTERM: begin to drain; the listener closes `drain_seconds` later.

        Takes no lock: a second SIGTERM (the group's and the master's) may interrupt this one anywhere.
        """
        if self._drain_until is None:
            self._drain_until = time.monotonic() + self.drain_seconds
            begin_draining()
            self.method_queue.defer(lambda: None)  # wakes the loop

    def is_parent_alive(self) -> bool:
        """Is there a master still? One that was killed is as good as SIGTERM, but nobody is left to accept for.

        gunicorn would leave its loop as if it were alive, and keep the port from the next master till all is done.
        """
        if super().is_parent_alive():
            return True
        begin_draining()
        self.alive = False
        return False

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of the loop, which ends in time for the drain to."""
        if self._drain_until is not None and self.alive:
            left = self._drain_until - time.monotonic()
            if left <= 0:
                self.alive = False
                return
            timeout = min(timeout, left)
        super().wait_for_and_dispatch_events(timeout)

    def set_accept_enabled(self, enabled: bool) -> None:
        """As gunicorn does it; a worker that has ended its loop also takes what is queued, and closes the listener."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                self._accept_all(listener)
                listener.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """As gunicorn does it for kept connections, and for those on which nobody has asked anything yet, too.

        Browsers open such ones in advance; a stop would wait for them as long as for an idle kept one, 75 s.
        """
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _accept_all(self, listener: Any) -> None:
        before = -1
        while self.nr_conns != before:
            before = self.nr_conns
            with contextlib.suppress(OSError):
                self.accept(listener)


def _nothing_left_to_close(*, graceful: bool = False) -> None:
    """Takes the place of the connection's own `close`, which gunicorn calls on its accept thread."""
    del graceful


def choose_worker_class() -> str | type[ThreadWorker]:
    """The worker for gunicorn.conf.py: ours, or gunicorn's own where its inside is not as expected."""
    if os.name == "posix" and all(hasattr(ThreadWorker, name) or name in _MADE_BY_INIT for name in _NEEDED):
        return GatewayWorker
    return "gthread"
