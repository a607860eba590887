"""Sessions that were signed out before they expired. Implements the port `RevokedSessions`.

Nothing is cached: the caller decides how long a worker may rely on "not revoked".
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.library.database import Database
from app.library.tables import revoked_sessions

#: A row is stored this much longer than the session lives, because a replica's clock may be behind ours.
CLOCK_SKEW = timedelta(minutes=5)


class SQLRevokedSessions:
    """Signed-out sessions in a database; see the port `RevokedSessions` for the methods. Thread-safe.

    Every method raises ModelStoreUnavailableError when the database fails.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        """Store the sessions in `database`. `clock` returns aware UTC times."""
        self._database = database
        self._clock = clock

    def revoke(self, sid: str, expires_at: datetime) -> None:
        """Record that this session has ended, and remove the rows of expired sessions. May be repeated."""
        with self._database.write() as connection:
            # First the old rows, then the new one: transactions that lock in one order cannot deadlock.
            connection.execute(
                sa.delete(revoked_sessions).where(revoked_sessions.c.expires_at < self._clock() - CLOCK_SKEW)
            )
            insert = self._database.insert(revoked_sessions).values(sid=sid, expires_at=expires_at)
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[revoked_sessions.c.sid],
                    set_={"expires_at": insert.excluded.expires_at},
                    where=revoked_sessions.c.expires_at < insert.excluded.expires_at,
                )
            )

    def is_revoked(self, sid: str) -> bool:
        """Return whether this session was signed out. Rows of expired sessions may still say so."""
        with self._database.read() as connection:
            found = connection.execute(sa.select(revoked_sessions.c.sid).where(revoked_sessions.c.sid == sid))
            return found.first() is not None
