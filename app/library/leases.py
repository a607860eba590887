"""Named, expiring locks in the database. Implements the port `Leases`.

A lease expires, so a crashed holder blocks others for its time to live at most. It does not fence: a holder that was
stopped for longer learns from `renew` that it has lost the lease.

The times come from the clocks of the machines that run the gateway. Replicas need NTP: a clock that is ahead by d
acquires leases d too early, and one that is behind waits d too long.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import CursorResult

from app.domain.running_upload import RunningUpload
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

    def acquire(
        self,
        name: str,
        holder: str,
        ttl_seconds: float,
        *,
        upload_id: str | None = None,
        total_bytes: int | None = None,
    ) -> bool:
        """Acquire the lease for `ttl_seconds` if it is free, expired or already this holder's."""
        with self._database.write() as connection:
            # The clock is read after the wait for other writers, which may have taken seconds.
            now = self._clock()
            values = {
                "holder": holder,
                "expires_at": now + timedelta(seconds=ttl_seconds),
                "upload_id": upload_id,
                "started_at": now,
                "received_bytes": 0,
                "total_bytes": total_bytes,
                "is_end_requested": False,
                "is_complete": False,
            }
            insert = self._database.insert(leases).values(name=name, **values)
            taken = connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[leases.c.name],
                    set_={column: insert.excluded[column] for column in values},
                    where=sa.or_(leases.c.expires_at <= now, leases.c.holder == holder),
                ).returning(leases.c.name)
            )
            return taken.first() is not None

    def renew(self, name: str, holder: str, ttl_seconds: float, *, received_bytes: int | None = None) -> bool:
        """Extend the lease to `ttl_seconds` from now. An expired lease that nobody has acquired is still ours."""
        with self._database.write() as connection:
            renewed = connection.execute(
                sa.update(leases)
                .where(leases.c.name == name, leases.c.holder == holder)
                .values(expires_at=self._clock() + timedelta(seconds=ttl_seconds), received_bytes=received_bytes)
                .returning(leases.c.name)
            )
            return renewed.first() is not None

    def is_held(self, name: str) -> bool:
        """Return whether the lease is held. This may be out of date at once."""
        with self._database.read() as connection:
            found = connection.execute(sa.select(leases.c.name).where(leases.c.name == name, self._is_held()))
            return found.first() is not None

    def find_upload(self, name: str) -> RunningUpload | None:
        """Return the upload that holds the lease now. None if there is none, or an earlier version holds the lease."""
        with self._database.read() as connection:
            return _running_upload(
                connection.execute(
                    sa.select(leases).where(leases.c.name == name, leases.c.upload_id.is_not(None), self._is_held())
                )
            )

    def request_end(self, name: str, upload_id: str) -> RunningUpload | None:
        """Ask the lease's holder to end this upload. Return the upload, or None if another or none holds the lease."""
        with self._database.write() as connection:
            return _running_upload(
                connection.execute(
                    sa.update(leases)
                    .where(leases.c.name == name, leases.c.upload_id == upload_id, self._is_held())
                    .values(is_end_requested=True)
                    .returning(leases)
                )
            )

    def requested_ends(self) -> Sequence[tuple[str, str]]:
        """Return name and holder of each lease whose upload has to end, unless the holder has answered."""
        with self._database.read() as connection:
            found = connection.execute(
                sa.select(leases.c.name, leases.c.holder).where(leases.c.is_end_requested, ~leases.c.is_complete)
            )
            return [(row.name, row.holder) for row in found]

    def note_complete(self, name: str, holder: str) -> None:
        """Answer a request to end the upload of this holder: it is too late."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(leases).where(leases.c.name == name, leases.c.holder == holder).values(is_complete=True)
            )

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

    def _is_held(self) -> sa.ColumnElement[bool]:
        return leases.c.expires_at > self._clock()


def _running_upload(found: CursorResult[Any]) -> RunningUpload | None:
    row = found.first()
    return row and RunningUpload(
        holder=row.holder,
        upload_id=row.upload_id,
        started_at=row.started_at,
        received_bytes=row.received_bytes,
        total_bytes=row.total_bytes,
        is_complete=row.is_complete,
    )
