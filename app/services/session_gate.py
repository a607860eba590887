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
_MAX_SESSIONS = 10_000


class SessionGate:
    """Lets sessions through that were not signed out. Thread-safe.

    "Signed out" is cached for good. "Not signed out" is cached for FRESH_SECONDS, and up to GRACE_SECONDS for requests
    that only read while the database is down. Both caches are bounded; a session that has left them is looked up again.
    """

    def __init__(
        self, revoked: RevokedSessions, monotonic: Callable[[], float], *, max_sessions: int = _MAX_SESSIONS
    ) -> None:
        self._revoked = revoked
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._seen_active: LRUCache[str, float] = LRUCache(max_sessions)
        self._signed_out: LRUCache[str, bool] = LRUCache(max_sessions)

    def check(self, sid: str, *, is_read_only: bool) -> None:
        """Return if the session was not signed out.

        Raises UnauthenticatedError if it was, and ModelStoreUnavailableError if the database is down and the grace
        period does not cover the request.
        """
        now = self._monotonic()
        with self._lock:
            if sid in self._signed_out:
                raise UnauthenticatedError("the session was signed out")
            seen_at = self._seen_active.get(sid, -math.inf)
        age = now - seen_at
        if age < FRESH_SECONDS:
            return
        try:
            is_revoked = self._revoked.is_revoked(sid)
        except ModelStoreUnavailableError:
            if is_read_only and age < GRACE_SECONDS:
                return
            raise
        with self._lock:
            # Another thread may have signed the session out during the query.
            if is_revoked or sid in self._signed_out:
                self._set_signed_out(sid)
                raise UnauthenticatedError("the session was signed out")
            # The time before the query, because its result may be as old as that.
            self._seen_active[sid] = now

    def revoke(self, sid: str, expires_at: datetime) -> None:
        """Sign the session out for all processes; for this one even if the database is down.

        Raises ModelStoreUnavailableError if the other processes cannot be told.
        """
        with self._lock:
            self._set_signed_out(sid)
        self._revoked.revoke(sid, expires_at)

    def _set_signed_out(self, sid: str) -> None:
        self._seen_active.pop(sid, None)
        self._signed_out[sid] = True
