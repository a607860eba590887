"""The gunicorn worker: gthread with a drain that loses no request, and with connections that end off the accept thread.

gunicorn's own worker, told to stop, keeps its listener open without accepting while it waits for running uploads, and
the connections that queue there are reset when it exits. This one goes on accepting for `drain_seconds`, and
`/readyz` responds `draining`; then it accepts what has queued, closes the listener, and waits for its requests
within gunicorn's `graceful_timeout`.

It overrides methods of gunicorn's ThreadWorker that have no stable interface: gunicorn's version is pinned, and
tests/durability and tests/wire fail where an upgrade changes them. The gateway belongs behind nginx, which collects
heads and small bodies; slow clients of gunicorn's own port are not this worker's concern.
"""

import contextlib
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import structlog
from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from app import metrics
from app.server.balance import TOLERATED_DIFFERENCE, Loads
from app.server.body import SERVER_READS_ON_BYTES
from app.server.draining import begin_draining
from app.server.lingering import LingeringConnections
from app.server.refusals import PageCatcher, refusal

log = structlog.get_logger(__name__)

#: How long a thread waits for a small body to go on, or for the client to take one piece of a response, in seconds.
#: nginx takes the next piece of a download when a third of its send buffer is free, so behind it a client that reads
#: 20 KB/s seems idle for most of a minute. A piece of 128 KB in a minute is the slowest download.
STALL_SECONDS = 60.0
#: How long before the end of gunicorn's `graceful_timeout` the gateway ends the last uploads, in seconds. So they
#: release their leases, and their clients get a response.
_LAST_SECONDS = 3.0
#: The largest stack of a thread, in address space; a thread uses about 0.1 MB. The default is the limit of the shell
#: that started the process. Python's recursion limit is reached within 2 MB, and a full stack would end the process.
_STACK_BYTES = 4 * 1024 * 1024


class GatewayWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker with a drain. gunicorn.conf.py sets the class's attributes."""

    drain_seconds = 2.0
    #: The headers of the responses that gunicorn makes by itself.
    security_headers: Mapping[str, str] = {}
    #: The loads of all workers of this master.
    loads = Loads()
    number = 0
    alive: bool  # gunicorn's: the loop runs while it is true

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drain_until: float | None = None
        self._requests = 0
        #: Until when this worker leaves new connections to others.
        self._pauses_until: float | None = None
        #: Whether this worker would refuse a new upload.
        self.is_full: Callable[[], bool] = lambda: False

    def get_thread_pool(self) -> Any:
        """Return the pool, whose threads have small stacks. It starts a thread only if all others are busy."""
        threading.stack_size(_STACK_BYTES)
        return _ThreadPool(self.cfg.threads)

    def run(self) -> None:
        """Run the event loop until the worker's end."""
        self._lingering = LingeringConnections(self.poller, self._close)
        self._note_load()
        super().run()

    # On the event loop's thread

    def handle_exit(self, _sig: int, _frame: Any) -> None:
        """Begin to drain (SIGTERM). Without it every stop and every reload would fail requests.

        Takes no lock: a second SIGTERM (the process group's and the master's) may interrupt this one anywhere.
        """
        if self._drain_until is None:
            self._drain_until = time.monotonic() + self.drain_seconds
            begin_draining(self.cfg.graceful_timeout - _LAST_SECONDS)
            self.method_queue.defer(lambda: None)  # wakes the loop

    def murder_pending(self) -> None:
        """End what has waited too long, and the drain when it is over. gunicorn calls this in each turn of its loop.

        Without it a client that reads no further would hold its connection, and a stopped worker would never end.
        """
        super().murder_pending()
        self._lingering.expire()
        self._note_load()
        self._end_pause()
        if self._drain_until is not None and time.monotonic() >= self._drain_until:
            self.alive = False

    def accept(self, listener: Any) -> None:
        """Accept a connection, unless another worker is less busy: then leave it to that one for a moment."""
        self._note_load()
        seconds = self.loads.pause_seconds(self.number) if self.alive else 0.0
        if seconds:
            self._pauses_until = time.monotonic() + seconds
            self.set_accept_enabled(False)
        else:
            super().accept(listener)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, at most until the end of a pause."""
        if self._pauses_until is not None:
            timeout = min(timeout, max(0.0, self._pauses_until - time.monotonic()))
        super().wait_for_and_dispatch_events(timeout)

    def _end_pause(self) -> None:
        """Accept what no other worker has accepted during a pause that is over."""
        if self._pauses_until is not None and time.monotonic() >= self._pauses_until:
            self._pauses_until = None
            for listener in self.sockets:
                self._accept_all(listener, TOLERATED_DIFFERENCE)

    def _note_load(self) -> None:
        if self.alive and self._drain_until is None:
            self.loads.note(self.number, self._requests, is_full=self.is_full())
        else:
            self.loads.forget(self.number)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting; at the worker's end also accept what has queued, and close the listener.

        A client whose connection has queued would otherwise meet a reset.
        """
        super().set_accept_enabled(enabled and self._pauses_until is None)
        if not enabled and not self.alive:
            self._pauses_until = None
            for listener in self.sockets:
                self._accept_all(listener)
                listener.close()

    def is_parent_alive(self) -> bool:
        """Return whether there is still a master; stop as after a drain if not.

        After a crash of the master, the next one could not bind the port until the last upload of this one is done.
        """
        if super().is_parent_alive():
            return True
        begin_draining(self.cfg.graceful_timeout - _LAST_SECONDS)
        self.alive = False
        return False

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread, and count it for `visiona_worker_requests`, which an alert reads."""
        self._count(+1)
        super().enqueue_req(conn)

    def finish_request(self, conn: Any, fs: "Future[Any]") -> None:
        """Take a connection back from its thread; one that ends is closed without waiting for it here.

        gunicorn waits up to two seconds for each, on the thread that accepts, and reads 64 KB: a dozen refused uploads
        would stall the server, and nginx would turn the response to a longer one into a 502. With gunicorn's own TLS,
        which a gateway behind nginx does not use, gunicorn still does this.
        """
        self._count(-1)
        is_over = not fs.cancelled() and fs.exception() is None and fs.result() is False
        if is_over and not self.cfg.is_ssl:
            self._lingering.add(conn)
        else:
            super().finish_request(conn, fs)

    def _cap_keepalive(self, deadline: float) -> None:
        """Close silent connections with the idle ones. Browsers open some in advance: a stop would wait 75 s."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _accept_all(self, listener: Any, most: int = sys.maxsize) -> None:
        """Accept until no connection waits, at most so many.

        A connection that queues between the last check and `close` is reset, so the check must be fast. A failing
        `accept` would not be: it lets other threads run, and can take milliseconds.
        """
        with contextlib.suppress(OSError):
            while most and _queued_connections(listener):
                most -= 1
                super().accept(listener)

    def _count(self, difference: int) -> None:
        self._requests += difference
        metrics.WORKER_REQUESTS().set(self._requests)

    def _close(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    # On a thread of the pool

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve a request; returns whether the connection stays open.

        The application may end the connection (`body.end_connection`): gunicorn would promise to leave it open
        and then close it because of an unread body, and nginx's next request on it would fail.
        """
        req.body.close_connection = req.force_close
        # A download that nobody reads would hold its thread and its slot forever.
        conn.sock.settimeout(STALL_SECONDS)
        if self._drain_until is not None:
            # Told in time, nginx opens a new connection and does not meet the end of this one.
            req.force_close()
        if req._expected_100_continue and _may_stay_unread(req):
            req._expected_100_continue = False
            _continue_at_first_read(conn)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            # gunicorn would log a traceback.
            self.log.info("A response was aborted because its client did not read it in time.")
            return False

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Refuse what gunicorn could not parse, with a problem document and our headers.

        gunicorn's own page shows parts of the request and has no security headers. nginx passes on some heads that
        gunicorn refuses, such as more than 64 fields.
        """
        page = PageCatcher()
        super().handle_error(req, page, addr, exc)
        with contextlib.suppress(OSError):
            util.write_nonblock(client, refusal(page.status, page.reason, self.security_headers))


class _ThreadPool(ThreadPoolExecutor):
    """A pool that goes on with the threads it has if the system allows no more, for example in a small container.

    The exception would end the event loop, and with the worker all its uploads.
    """

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise
            log.warning("worker.thread_refused", threads=len(self._threads))


def _queued_connections(listener: Any) -> int:
    """Return how many connections wait to be accepted: `tcpi_unacked` of a listening socket in Linux's tcp_info.

    Of a Unix socket, which has none, only whether one waits.
    """
    if listener.family == socket.AF_UNIX:
        return len(select.select([listener], [], [], 0)[0])
    (count,) = struct.unpack_from("I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)
    return int(count)


def _may_stay_unread(req: Any) -> bool:
    """Return whether a response before this request's body would end the connection (see `app/api/tracing.py`)."""
    left = getattr(req.body.reader, "length", None)
    return not isinstance(left, int) or left >= SERVER_READS_ON_BYTES


def _continue_at_first_read(conn: Any) -> None:
    """Send 100 Continue when the body is first read. gunicorn sends it at once, so a refused upload comes all the same.

    nginx answers `Expect` itself; a curl without nginx in between would send gigabytes in vain.
    """
    unreader = conn.parser.unreader
    read_on = unreader.chunk

    def chunk(size_hint: int | None = None) -> Any:
        del unreader.chunk
        conn.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return read_on(size_hint)

    unreader.chunk = chunk
