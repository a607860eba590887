"""Signed-out sessions stay signed out until they would have ended."""

from datetime import datetime, timedelta
from typing import Protocol

import sqlalchemy as sa

from app.library import postgresql
from app.library.database import Database
from app.library.sessions import OVERLAP, SQLRevokedSessions
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


# --- the feed


def test_the_first_reading_of_the_feed_returns_no_sessions(sessions: SQLRevokedSessions, clock: Clock) -> None:
    sessions.revoke("before", clock.now + timedelta(hours=12))
    _, revoked = sessions.revoked_since(None)
    assert revoked == []


def test_each_reading_of_the_feed_returns_the_sessions_revoked_since_the_one_before(
    sessions: SQLRevokedSessions, clock: Clock
) -> None:
    """The time is the database's, so the gateway's clock does not matter."""
    moment, _ = sessions.revoked_since(None)
    clock.advance(-3_600)
    sessions.revoke("one", clock.now + timedelta(hours=12))
    clock.advance(7_200)
    sessions.revoke("two", clock.now + timedelta(hours=12))
    later, revoked = sessions.revoked_since(moment)
    assert set(revoked) == {"one", "two"}
    # SQLite's clock has milliseconds, so both readings may have the same time.
    assert timedelta() <= later - moment < timedelta(minutes=1)
    assert sessions.revoked_since(later + OVERLAP + timedelta(minutes=1))[1] == []


def test_the_feed_has_what_was_committed_after_a_reading_that_came_after_its_insert(
    sessions: SQLRevokedSessions, clock: Clock, database: Database, database_url: str
) -> None:
    moment, _ = sessions.revoked_since(None)
    other = Database(database_url)
    with other.write() as connection:
        connection.execute(sa.insert(revoked_sessions).values(sid="late", expires_at=clock.now))
        moment, revoked = sessions.revoked_since(moment)
        assert revoked == []
        moment, revoked = sessions.revoked_since(moment)
    _, revoked = sessions.revoked_since(moment)
    assert revoked == ["late"]
    other.dispose()


def test_signing_out_again_repeats_the_session_in_the_feed(
    sessions: SQLRevokedSessions, clock: Clock, database: Database
) -> None:
    """The first try may have been committed too late for the feed, and without success for its caller."""
    moment, _ = sessions.revoked_since(None)
    sessions.revoke("sid", clock.now + timedelta(hours=12))
    with database.write() as connection:
        connection.execute(sa.update(revoked_sessions).values(revoked_at=moment - timedelta(hours=1)))
    assert sessions.revoked_since(moment)[1] == []
    sessions.revoke("sid", clock.now + timedelta(hours=1))
    assert sessions.revoked_since(moment)[1] == ["sid"]


def test_the_feed_has_the_sessions_that_an_earlier_version_revokes(
    sessions: SQLRevokedSessions, clock: Clock, database: Database
) -> None:
    """During a rolling restart. That version does not know the column for the time."""
    moment, _ = sessions.revoked_since(None)
    with database.write() as connection:
        statement = sa.text("INSERT INTO revoked_sessions (sid, expires_at) VALUES ('sid', '2032-01-01 00:00:00+00')")
        connection.execute(statement)
    assert sessions.revoked_since(moment)[1] == ["sid"]


def test_the_overlap_is_longer_than_a_transaction_whose_caller_is_told_of_success() -> None:
    longest = postgresql._STATEMENT_SECONDS + postgresql._IDLE_SECONDS + postgresql.ANSWER_SECONDS
    assert timedelta(seconds=longest) < OVERLAP
