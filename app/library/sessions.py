"""Sessions that were signed out before they expired. Implements the port `RevokedSessions`.

Nothing is cached: the caller decides how long a worker may rely on "not revoked".
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.library.database import Database
from app.library.tables import DatabaseTime, revoked_sessions

#: A row is stored this much longer than the session lives, because a replica's clock may be behind ours.
CLOCK_SKEW = timedelta(minutes=5)
#: How far `revoked_since` reads back before the last reading. A row has the time of its INSERT, but is visible only
#: after its commit. The server ends a statement after 4 s and an idle transaction after 10 s, and nobody is told of a
#: commit that takes longer than 4.5 s (`postgresql`). So a revocation that its caller was told of is never missed.
OVERLAP = timedelta(seconds=20)


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
            latest = sa.case(
                (revoked_sessions.c.expires_at < insert.excluded.expires_at, insert.excluded.expires_at),
                else_=revoked_sessions.c.expires_at,
            )
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[revoked_sessions.c.sid],
                    # A new time, because the first try may have been committed too late for `revoked_since`.
                    set_={"expires_at": latest, "revoked_at": DatabaseTime()},
                )
            )

    def is_revoked(self, sid: str) -> bool:
        """Return whether this session was signed out. Rows of expired sessions may still say so."""
        with self._database.read() as connection:
            found = connection.execute(sa.select(revoked_sessions.c.sid).where(revoked_sessions.c.sid == sid))
            return found.first() is not None

    def revoked_since(self, moment: datetime | None) -> tuple[datetime, Sequence[str]]:
        """Return the database's current time, and the sessions revoked since `moment`, some of them repeatedly.

        `moment` is the time that the previous call returned, so that no revocation is missed; None for the first call,
        which returns no sessions.
        """
        since = sa.false() if moment is None else revoked_sessions.c.revoked_at >= moment - OVERLAP
        clock = sa.select(DatabaseTime().label("now")).subquery()
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(clock.c.now, revoked_sessions.c.sid).select_from(clock.outerjoin(revoked_sessions, since))
            ).all()
        return rows[0].now, [row.sid for row in rows if row.sid is not None]
