"""Decide whether a session has been signed out, without a query to the database for each request."""

import math
import threading
from collections.abc import Callable
from datetime import datetime

from cachetools import LRUCache

from app.errors import ModelStoreUnavailableError, UnauthenticatedError
from app.services.ports import RevokedSessions

#: How long "not signed out" is valid.
FRESH_SECONDS = 1.0
#: How long a session that was not signed out may still read while the database is down.
GRACE_SECONDS = 60.0
#: At 240 bytes each, 12 MB.
_MAX_SESSIONS = 50_000


class SessionGate:
    """Lets sessions through that were not signed out. Thread-safe.

    A process asks for each session once, and then reads once a second which sessions were signed out in the meantime
    (the feed). The first request that finds the feed older than FRESH_SECONDS reads it, so an idle process asks
    nothing. Requests that find it old while another reads it ask for their own session, whose result is fresh as long.

    "Signed out" is cached for good. If the database is down, requests that only read are let through until the session
    has not been confirmed for GRACE_SECONDS. The caches are bounded; a session that has left them is asked for again.
    """

    def __init__(
        self, revoked: RevokedSessions, monotonic: Callable[[], float], *, max_sessions: int = _MAX_SESSIONS
    ) -> None:
        self._revoked = revoked
        self._monotonic = monotonic
        self._lock = threading.Lock()
        #: When each session was asked for, and was not signed out.
        self._seen_active: LRUCache[str, float] = LRUCache(max_sessions)
        self._signed_out: LRUCache[str, bool] = LRUCache(max_sessions)
        self._reading_feed = threading.Lock()
        self._feed_moment: datetime | None = None
        self._feed_read_at = -math.inf
        #: The feed covers what happens after its first reading, or after the database's clock was set back.
        self._feed_began_at = math.inf

    def check(self, sid: str, *, is_read_only: bool) -> None:
        """Return if the session was not signed out.

        Raises UnauthenticatedError if it was, and ModelStoreUnavailableError if the database is down and the grace
        period does not cover the request.
        """
        now = self._monotonic()
        if self._seconds_since_confirmed(sid, now) < FRESH_SECONDS:
            return
        try:
            if now - self._feed_read_at >= FRESH_SECONDS:
                self._read_feed()
            if self._seconds_since_confirmed(sid, now) >= FRESH_SECONDS:
                self._ask_for(sid)
        except ModelStoreUnavailableError:
            if not is_read_only or self._seconds_since_confirmed(sid, now) >= GRACE_SECONDS:
                raise

    def revoke(self, sid: str, expires_at: datetime) -> None:
        """Sign the session out for all processes; for this one even if the database is down.

        Raises ModelStoreUnavailableError if the other processes cannot be told.
        """
        with self._lock:
            self._set_signed_out(sid)
        self._revoked.revoke(sid, expires_at)

    def _seconds_since_confirmed(self, sid: str, now: float) -> float:
        """Return for how long the database has not confirmed the session. Raises UnauthenticatedError if signed out."""
        with self._lock:
            self._require_not_signed_out(sid)
            asked_at = self._seen_active.get(sid, -math.inf)
            is_in_feed = asked_at >= self._feed_began_at
            return now - (max(asked_at, self._feed_read_at) if is_in_feed else asked_at)

    def _read_feed(self) -> None:
        """Read which sessions were signed out since the last reading, unless another thread is doing so."""
        if not self._reading_feed.acquire(blocking=False):
            return
        try:
            # The time before the query, because its result may be as old as that.
            now = self._monotonic()
            moment, signed_out = self._revoked.revoked_since(self._feed_moment)
            with self._lock:
                for sid in signed_out:
                    self._set_signed_out(sid)
                # After a failover the clock may be behind. Logouts in between then look too old for the next reading.
                if self._feed_moment is None or moment < self._feed_moment:
                    self._feed_began_at = self._monotonic()
                self._feed_moment, self._feed_read_at = moment, now
        finally:
            self._reading_feed.release()

    def _ask_for(self, sid: str) -> None:
        now = self._monotonic()
        is_revoked = self._revoked.is_revoked(sid)
        with self._lock:
            if is_revoked:
                self._set_signed_out(sid)
            # Another thread may have signed the session out during the query.
            self._require_not_signed_out(sid)
            self._seen_active[sid] = now

    def _require_not_signed_out(self, sid: str) -> None:
        if sid in self._signed_out:
            raise UnauthenticatedError("the session was signed out")

    def _set_signed_out(self, sid: str) -> None:
        self._seen_active.pop(sid, None)
        self._signed_out[sid] = True
