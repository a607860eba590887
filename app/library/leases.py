"""Named, expiring locks in the database. Implements the port `Leases`.

A lease expires, so a crashed holder blocks others for its time to live at most. It does not fence: a holder that was
stopped for longer learns from `renew` that it has lost the lease.

The times come from the clocks of the machines that run the gateway. Replicas need NTP: a clock that is ahead by d
acquires leases d too early, and one that is behind waits d too long.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.library.database import Database
from app.library.tables import leases


class SQLLeases:
    """Leases in a database; see the port `Leases` for what each method promises. Thread-safe.

    Each method is one transaction, which the database makes atomic over all threads, workers and replicas.
    Every method raises ModelStoreUnavailableError when the database fails.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        """Store the leases in `database`. `clock` returns aware UTC times."""
        self._database = database
        self._clock = clock

    def acquire(self, name: str, holder: str, ttl_seconds: float) -> bool:
        """Acquire the lease for `ttl_seconds` if it is free, expired or already this holder's."""
        with self._database.write() as connection:
            # The clock is read after the wait for other writers, which may have taken seconds.
            now = self._clock()
            insert = self._database.insert(leases).values(
                name=name, holder=holder, expires_at=now + timedelta(seconds=ttl_seconds)
            )
            taken = connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[leases.c.name],
                    set_={"holder": insert.excluded.holder, "expires_at": insert.excluded.expires_at},
                    where=sa.or_(leases.c.expires_at <= now, leases.c.holder == holder),
                ).returning(leases.c.name)
            )
            return taken.first() is not None

    def renew(self, name: str, holder: str, ttl_seconds: float) -> bool:
        """Extend the lease to `ttl_seconds` from now. An expired lease that nobody has acquired is still ours."""
        with self._database.write() as connection:
            renewed = connection.execute(
                sa.update(leases)
                .where(leases.c.name == name, leases.c.holder == holder)
                .values(expires_at=self._clock() + timedelta(seconds=ttl_seconds))
                .returning(leases.c.name)
            )
            return renewed.first() is not None

    def is_held(self, name: str) -> bool:
        """Return whether the lease is held. This may be out of date at once."""
        with self._database.read() as connection:
            found = connection.execute(
                sa.select(leases.c.name).where(leases.c.name == name, leases.c.expires_at > self._clock())
            )
            return found.first() is not None

    def release(self, name: str, holder: str) -> None:
        """Release the lease if it is this holder's. Otherwise do nothing."""
        ours = sa.delete(leases).where(leases.c.name == name, leases.c.holder == holder)
        with self._database.write() as connection:
            if connection.execute(ours.returning(leases.c.name)).first() is not None:
                return
            # A frozen server may be about to commit an `acquire` whose response we no longer wait for. A DELETE doesn't
            # see the row before the commit, but an INSERT waits for it.
            connection.execute(
                self._database.insert(leases)
                .values(name=name, holder=holder, expires_at=self._clock())
                .on_conflict_do_nothing()
            )
            connection.execute(ours)

    def remove_expired(self, *, older_than_seconds: float) -> int:
        """Remove the leases that crashed holders left and that expired that long ago. Return how many."""
        with self._database.write() as connection:
            limit = self._clock() - timedelta(seconds=older_than_seconds)
            removed = connection.execute(sa.delete(leases).where(leases.c.expires_at < limit).returning(leases.c.name))
            return len(removed.all())
