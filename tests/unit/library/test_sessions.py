"""Signed-out sessions stay signed out until they would have ended."""

from datetime import datetime, timedelta
from typing import Protocol

import sqlalchemy as sa

from app.library.database import Database
from app.library.sessions import SQLRevokedSessions
from app.library.tables import revoked_sessions


class Clock(Protocol):
    now: datetime

    def advance(self, seconds: float) -> None: ...


def noted(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.scalars(sa.select(revoked_sessions.c.sid)))


def test_a_session_is_revoked_by_signing_out(sessions: SQLRevokedSessions, clock: Clock) -> None:
    assert not sessions.is_revoked("sid")
    sessions.revoke("sid", clock.now + timedelta(hours=12))
    assert sessions.is_revoked("sid")
    assert not sessions.is_revoked("other")


def test_revoking_again_never_shortens_the_time(sessions: SQLRevokedSessions, clock: Clock, database: Database) -> None:
    sessions.revoke("sid", clock.now + timedelta(hours=12))
    sessions.revoke("sid", clock.now + timedelta(hours=1))
    clock.advance(6 * 3600)
    sessions.revoke("other", clock.now + timedelta(hours=12))
    assert sessions.is_revoked("sid")


def test_revoking_removes_rows_of_sessions_that_expired_on_every_replicas_clock(
    sessions: SQLRevokedSessions, clock: Clock, database: Database
) -> None:
    sessions.revoke("over", clock.now + timedelta(minutes=1))
    sessions.revoke("nearly over", clock.now + timedelta(minutes=8))
    clock.advance(10 * 60)
    sessions.revoke("new", clock.now + timedelta(hours=12))
    assert noted(database) == {"nearly over", "new"}
