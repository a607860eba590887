"""The gunicorn worker: gthread, with an end that loses no request, and clients that hold up nobody.

A plain worker that is told to stop keeps its listener open without accepting while it waits for running uploads, and
what has queued there is reset when it exits at last. This one goes on accepting for a moment, with the process
marked as draining, so that probes and new uploads hear of it; then it takes what is still queued, closes the
listener, so that nothing more can queue, and only then waits, within gunicorn's `graceful_timeout`.

It gives a thread to a request whose head is whole, and takes it back with the answer. What comes before and after is
the event loop's: waiting for heads, and reading on where the answer came before the end of the request.

It relies on the inside of gunicorn's ThreadWorker. `choose_worker_class` looks whether that is as expected; where it is
not, gunicorn's own worker serves as well, only less politely.
"""

import contextlib
import io
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.unreader import SocketUnreader
from gunicorn.util import close_graceful
from gunicorn.workers.gthread import ThreadWorker

from app import metrics
from app.server import answering
from app.server.body import SERVER_READS_ON_BYTES
from app.server.draining import begin_draining
from app.server.heads import MAX_HEAD_BYTES, Head, read_head
from app.server.lingering import Discarder, DiscardLimits

#: How long a head may take from its first byte to its end.
HEAD_SECONDS = 15.0
#: A connection that ends is read on, so that its last answer is not cut off by a reset: at most so much, for so long.
LINGER = DiscardLimits(max_bytes=1024**3, idle_seconds=2.0, total_seconds=30.0)
#: The same once the worker stops, in seconds.
STOPPING_LINGER_SECONDS = 1.0
#: Where our own TLS lies between us and the bytes: a thread lingers then, for this long.
TLS_LINGER_SECONDS = 1.0
#: How often the master hears that a worker is alive, at most; its patience is gunicorn's `timeout`.
NOTIFY_SECONDS = 0.5
# How long a worker leaves a new connection to the others for each request that it has, and up to how many count.
_YIELD_SECONDS, _MOST_YIELDS = 0.000_5, 4
# What of its time the loop may spend on that, and how much of it may be spent at once: for some uploads that begin.
_YIELD_SHARE, _MOST_YIELD_SECONDS = 0.05, 0.016
# SO_LINGER, on, for no time: close() resets the connection.
_RESET = struct.pack("ii", 1, 0)
#: What we override or use of gunicorn's worker.
_NEEDED = (
    "handle",
    "handle_error",
    "handle_exit",
    "handle_request",
    "enqueue_req",
    "finish_request",
    "on_pending_socket_readable",
    "murder_pending",
    "set_accept_enabled",
    "accept",
    "is_parent_alive",
    "notify",
    "wait_for_and_dispatch_events",
    "pending_conns",
    "poller",
    "nr_conns",
    "_cap_keepalive",
    "_keepalive_after",
    "method_queue",
    "run",
)
#: Those of them that are there once a worker is made.
_MADE_BY_INIT = {"method_queue", "pending_conns", "poller", "nr_conns"}


@dataclass(frozen=True, slots=True)
class _BodyLeft:
    """The outcome of a request whose answer keeps the connection, with some of the body still to come."""

    bytes_left: int


class GatewayWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker with a drain. `drain_seconds` is set by gunicorn.conf.py."""

    drain_seconds = 2.0
    alive: bool  # gunicorn's: the loop runs while it is true

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drain_until: float | None = None
        self._stops_at: float | None = None
        # Bytes under TLS of our own, or in HTTP/2 without it, are not ours to look at: gunicorn's threads wait then.
        self._sees_bytes = not self.cfg.is_ssl and getattr(self.cfg, "http2_cleartext", "off") == "off"
        self._sends_at_once = False
        self._notified_at = -NOTIFY_SECONDS
        #: Requests that a thread has, or is to have.
        self._busy = 0
        self._yields_left, self._yields_counted_at = _MOST_YIELD_SECONDS, time.monotonic()
        #: Connections with a part of a head, and the moments at which it must be whole; the oldest first.
        self._half_heads: dict[Any, float] = {}

    def run(self) -> None:
        """As gunicorn does it: the loop, until the worker's end."""
        self._discarder = Discarder(self.poller)
        self._sends_at_once = answering.send_heads_with_bodies()
        super().run()

    def notify(self) -> None:
        """As gunicorn does it, but not at every turn of the loop: the master looks for whole seconds."""
        now = time.monotonic()
        if now - self._notified_at >= NOTIFY_SECONDS:
            self._notified_at = now
            super().notify()

    # On the event loop's thread: connections that nobody works on

    def enqueue_req(self, conn: Any) -> None:
        """As gunicorn does it, but not before the request's head is whole."""
        if not self._sees_bytes:
            self._submit(conn)
            return
        try:
            head = self._read_head(conn)
        except OSError:  # pragma: no cover - a connection that ended between two calls
            head = Head.ENDED
        if head is not Head.PART:
            self._half_heads.pop(conn, None)
        if head in {Head.WHOLE, Head.TOO_LARGE}:
            conn.is_head_too_large = head is Head.TOO_LARGE
            self._submit(conn)
        elif head is Head.PART:
            # From the first byte: whoever drips gains no time by it.
            self._half_heads.setdefault(conn, self._at_most(HEAD_SECONDS))
            self.poller.register(conn.sock, selectors.EVENT_READ, lambda _sock: self._on_more_of_head(conn))
        elif head is Head.NOTHING:
            # Browsers open connections in advance; those wait as long as kept ones.
            conn.timeout = self._at_most(self.cfg.keepalive)
            self.pending_conns.append(conn)
            self.poller.register(
                conn.sock, selectors.EVENT_READ, lambda sock: self.on_pending_socket_readable(conn, sock)
            )
        else:
            self._close(conn)

    def accept(self, listener: Any) -> None:
        """As gunicorn does it, but a worker that is busy lets an idle one go first.

        All workers wake up for a new connection, and the first to ask gets it: what comes at once would often go to
        one of them, and wait there for its interpreter while the others have nothing to do.
        """
        if self._busy and self.alive and self.cfg.workers > 1:
            time.sleep(self._yield_seconds())
        super().accept(listener)

    def _yield_seconds(self) -> float:
        """How long to leave a new connection to the others; nothing once they come so fast that it would add up."""
        now = time.monotonic()
        earned = (now - self._yields_counted_at) * _YIELD_SHARE
        self._yields_left = min(_MOST_YIELD_SECONDS, self._yields_left + earned)
        self._yields_counted_at = now
        wanted = min(self._busy, _MOST_YIELDS) * _YIELD_SECONDS
        if wanted > self._yields_left:
            return 0.0
        self._yields_left -= wanted
        return wanted

    def finish_request(self, conn: Any, fs: "Future[Any]") -> None:
        """As gunicorn does it, but what ends lingers in the loop, and so does what keeps an unread body."""
        self._note_busy(self._busy - 1)
        outcome = None if fs.cancelled() or fs.exception() is not None else fs.result()
        if isinstance(outcome, _BodyLeft):
            limits = DiscardLimits(outcome.bytes_left, LINGER.idle_seconds, LINGER.total_seconds)
            self._discard(conn, limits, lambda is_all: self._after_rest(conn, fs, is_all=is_all))
        elif outcome is False and self._sees_bytes:
            self._linger(conn)
        else:
            super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """As gunicorn does it, and the same for half heads, and for what lingers."""
        super().murder_pending()
        now = time.monotonic()
        while self._half_heads:
            conn, deadline = next(iter(self._half_heads.items()))
            if deadline > now:
                break
            del self._half_heads[conn]
            self._unregister(conn)
            self._close(conn)
        self._discarder.expire()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of the loop, which ends in time for the drain to, and for what a stop still waits for."""
        now = time.monotonic()
        if self._drain_until is not None and self.alive:
            if now >= self._drain_until:
                self.alive = False
                return
            timeout = min(timeout, self._drain_until - now)
        if not self.alive:
            timeout = max(0.0, min([timeout, *(moment - now for moment in self._next_ends())]))
        super().wait_for_and_dispatch_events(timeout)

    def set_accept_enabled(self, enabled: bool) -> None:
        """As gunicorn does it; a worker that has ended its loop also takes what is queued, and closes the listener."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                self._accept_all(listener)
                listener.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """As gunicorn does it for kept connections, and for those on which nobody has asked a whole question, too.

        Browsers open such ones in advance; a stop would wait for them as long as for an idle kept one, 75 s.
        """
        super()._cap_keepalive(deadline)
        self._stops_at = deadline
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)
        for conn in self._half_heads:
            self._half_heads[conn] = min(self._half_heads[conn], deadline)
        self._discarder.cut_short(time.monotonic() + STOPPING_LINGER_SECONDS)

    def is_parent_alive(self) -> bool:
        """Is there a master still? One that was killed is as good as SIGTERM, but nobody is left to accept for.

        gunicorn would leave its loop as if it were alive, and keep the port from the next master till all is done.
        """
        if super().is_parent_alive():
            return True
        begin_draining()
        self.alive = False
        return False

    def _read_head(self, conn: Any) -> Head:
        # As it waits in the loop, whatever the last request has left it as.
        if conn.sock.gettimeout() != 0:
            conn.sock.setblocking(False)
        if not conn.initialized:
            first = io.BytesIO()
            head = read_head(conn.sock, first)
            if head in {Head.NOTHING, Head.ENDED}:
                return head
            # Makes the parser, and the socket blocking.
            conn.init()
            conn.sock.setblocking(False)
            conn.parser.unreader.buf = first
            return head
        return read_head(conn.sock, conn.parser.unreader.buf, is_continued=conn in self._half_heads)

    def _note_busy(self, requests: int) -> None:
        self._busy = requests
        metrics.WORKER_REQUESTS().set(requests)

    def _submit(self, conn: Any) -> None:
        self._note_busy(self._busy + 1)
        super().enqueue_req(conn)

    def _on_more_of_head(self, conn: Any) -> None:
        self._unregister(conn)
        self.enqueue_req(conn)

    def _after_rest(self, conn: Any, fs: "Future[Any]", *, is_all: bool) -> None:
        """The rest of a body is off the wire: the connection waits for its next request, as if it had been read."""
        if not is_all:
            self._close(conn)
            return
        conn.parser.mesg.body.reader.length = 0
        super().finish_request(conn, fs)

    def _linger(self, conn: Any) -> None:
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone already
            self._close(conn)
            return
        total = LINGER.total_seconds if self.alive else STOPPING_LINGER_SECONDS
        limits = DiscardLimits(LINGER.max_bytes, min(LINGER.idle_seconds, total), total)
        self._discard(conn, limits, lambda _is_all: self._close(conn))

    def _discard(self, conn: Any, limits: DiscardLimits, on_end: Callable[[bool], None]) -> None:
        conn.sock.setblocking(False)
        self._discarder.discard(conn.sock, limits, on_end)

    def _close(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    def _unregister(self, conn: Any) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)

    def _at_most(self, seconds: float) -> float:
        """The moment in so many seconds, or that at which a stop ends what waits."""
        moment = time.monotonic() + seconds
        return moment if self._stops_at is None else min(moment, self._stops_at)

    def _next_ends(self) -> list[float]:
        """When the first half head, the first silent connection and the first lingering one have to end."""
        moments = [*list(self._half_heads.values())[:1], *(conn.timeout for conn in list(self.pending_conns)[:1])]
        lingering = self._discarder.next_expiry
        return moments if lingering is None else [*moments, lingering]

    def _accept_all(self, listener: Any) -> None:
        before = -1
        while self.nr_conns != before:
            before = self.nr_conns
            with contextlib.suppress(OSError):
                self.accept(listener)

    # On a thread: a request whose head is there

    def handle(self, conn: Any) -> Any:
        """As gunicorn does it, but for heads that nobody is going to read to their end."""
        if getattr(conn, "is_head_too_large", False):
            with contextlib.suppress(OSError):
                conn.sock.settimeout(answering.STALL_SECONDS)
                refusal = LimitRequestHeaders(f"a head of more than {MAX_HEAD_BYTES} bytes")
                self.handle_error(None, conn.sock, conn.client, refusal)
            return False
        result = super().handle(conn)
        if result is False and not self._sees_bytes:
            # Here, because lingering must not hold up accept().
            with contextlib.suppress(OSError):
                conn.sock.setblocking(True)
                close_graceful(conn.sock, timeout=TLS_LINGER_SECONDS)
            conn.close = _nothing_left_to_close
        return result

    def handle_request(self, req: Any, conn: Any) -> Any:
        """As gunicorn does it, with a way for the application to end the connection (`body.end_connection`)."""
        req.body.close_connection = req.force_close
        # Neither a body that stops coming nor an answer that nobody reads may hold a thread for ever. Where there is no
        # body, the answer's own sending sees to that, and asks the kernel less.
        if not (self._sends_at_once and _has_nothing_to_come(req)):
            conn.sock.settimeout(answering.STALL_SECONDS)
        if self._drain_until is not None:
            # Told in time, clients come back by a new connection, and do not meet the end of this one.
            req.force_close()
        if getattr(req, "_expected_100_continue", False) and _may_be_left_unread(req):
            req._expected_100_continue = False
            _continue_when_read(conn)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            self.log.info("An answer was given up: its client did not read it in time.")
            # Nobody waits for what the kernel still holds of it: the end of the connection drops it.
            with contextlib.suppress(OSError):
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return False

    def _keepalive_after(self, conn: Any, keepalive: Any) -> Any:
        """As gunicorn does it, but the loop waits for the rest of an unread body, not this thread."""
        if keepalive and "chunk" in vars(conn.parser.unreader):
            # Never told to go on, the client may send its body or not: what comes next, nobody can know.
            return False
        if keepalive and _has_nothing_to_come(conn.parser.mesg):
            return True
        left = _bytes_to_come(conn) if keepalive and self._sees_bytes else 0
        return _BodyLeft(left) if left else super()._keepalive_after(conn, keepalive)

    def handle_exit(self, _sig: int, _frame: Any) -> None:
        """SIGTERM: begin to drain; the listener closes `drain_seconds` later.

        Takes no lock: a second SIGTERM (the group's and the master's) may interrupt this one anywhere.
        """
        if self._drain_until is None:
            self._drain_until = time.monotonic() + self.drain_seconds
            begin_draining()
            self.method_queue.defer(lambda: None)  # wakes the loop


def _bytes_to_come(conn: Any) -> int:
    """How much of the last request's body is still on the wire; what is in the parser's buffer is taken from it.

    0 where there is none, and where gunicorn has to find its end (a chunked body: its answer has ended the connection,
    if it was not read).
    """
    reader = conn.parser.mesg.body.reader
    unreader = conn.parser.unreader
    left = getattr(reader, "length", None)
    if not isinstance(left, int) or left <= 0 or getattr(conn.parser.mesg.body, "failed", False):
        return 0
    at_hand = min(left, unreader.buf.seek(0, io.SEEK_END))
    if at_hand:
        unreader.read(at_hand)
    reader.length = left - at_hand
    return int(reader.length)


def _has_nothing_to_come(req: Any) -> bool:
    """Has a request no body, or one that was read to its end? (Not of one whose end gunicorn has to find.)"""
    return getattr(req.body.reader, "length", None) == 0 and not getattr(req.body, "failed", False)


def _may_be_left_unread(req: Any) -> bool:
    """Would an answer that comes before this request's body end the connection (as `app/api/tracing.py` has it)?"""
    left = getattr(req.body.reader, "length", None)
    return not isinstance(left, int) or left > SERVER_READS_ON_BYTES


def _continue_when_read(conn: Any) -> None:
    """Tell the client to send its body (100 Continue) when the first of it is asked for, and not before.

    gunicorn would tell it at once, and a refused upload would come all the same.
    """
    unreader = conn.parser.unreader
    read_on = unreader.chunk

    def chunk(size_hint: int | None = None) -> Any:
        del unreader.chunk
        conn.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return read_on(size_hint)

    unreader.chunk = chunk


def _nothing_left_to_close(*, graceful: bool = False) -> None:
    """Takes the place of the connection's own `close`, which gunicorn calls on its accept thread."""
    del graceful


def choose_worker_class() -> str | type[ThreadWorker]:
    """The worker for gunicorn.conf.py: ours, or gunicorn's own where its inside is not as expected."""
    has_all = all(hasattr(ThreadWorker, name) or name in _MADE_BY_INIT for name in _NEEDED)
    if os.name == "posix" and has_all and isinstance(getattr(SocketUnreader(None), "buf", None), io.BytesIO):
        return GatewayWorker
    return "gthread"
