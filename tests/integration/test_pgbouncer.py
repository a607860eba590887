"""The database code works behind PgBouncer in transaction mode, where each transaction may get another session."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.domain.job import Job, JobStatus
from app.errors import ModelStoreUnavailableError
from app.library.database import Database
from app.library.leases import SQLLeases
from app.library.ledger import SQLJobLedger
from app.library.migrating import migrate
from app.library.sessions import SQLRevokedSessions
from tests.support.pgbouncer import pgbouncer
from tests.support.postgresql import PostgreSQL


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def url(postgresql_url: str, tmp_path: Path) -> Iterator[str]:
    """A migrated database behind a PgBouncer that has two server connections for all clients."""
    with pgbouncer(postgresql_url, tmp_path / "pgbouncer.log", server_connections=2) as through:
        migrate(through)
        yield through


@pytest.fixture
def databases(url: str) -> Iterator[list[Database]]:
    """Two processes' worth of clients."""
    with ExitStack() as opened:
        both = [Database(url), Database(url)]
        for database in both:
            opened.callback(database.dispose)
        yield both


def test_many_clients_run_every_statement_of_the_requests(databases: list[Database]) -> None:
    """Each statement runs often enough for the driver to prepare it, if it did.

    Renewals run one after the other, because the driver starts counting again after a read-only transaction.
    """

    def work(number: int) -> bool:
        database, user = databases[number % 2], f"user-{number}"
        ledger, leases = SQLJobLedger(database, clock=now), SQLLeases(database, clock=now)
        sessions = SQLRevokedSessions(database, clock=now)
        for turn in range(12):
            upload, job = f"upload-{number}-{turn}", f"job-{number}-{turn}"
            assert leases.acquire(f"upload:{user}", upload, 60)
            ledger.open_upload(upload, user, now())
            ledger.assign_job(user, upload, Job(job, JobStatus.RUNNING), filename="m.onnx", size=1)
            ledger.record_job(user, Job(job, JobStatus.COMPLETED))
            assert not sessions.is_revoked(upload)
            assert sessions.revoked_since(now())[1] == []
            record = ledger.find_job(user, job)
            assert record is not None
            assert record.started_at.tzinfo is UTC
            leases.release(f"upload:{user}", upload)
        assert leases.acquire(f"upload:{user}", "long", 60)
        assert all(leases.renew(f"upload:{user}", "long", 60) for _ in range(20))
        return len(ledger.history(user, limit=20, after=None)) == 12

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_transaction_leaves_the_session_to_the_next_as_it_found_it(databases: list[Database]) -> None:
    """Settings of one transaction must not reach another client that gets the same server session."""
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    names = (*limits, "TimeZone", "default_transaction_read_only")

    def shown(connection: sa.Connection) -> dict[str, str]:
        return {name: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names}

    for database in databases:
        with database.read() as connection:
            inside = shown(connection)
    assert inside["TimeZone"] == "UTC"
    assert [inside[name] for name in limits] == ["4s", "3s", "10s"]
    plain = sa.create_engine(databases[0]._url, poolclass=sa.NullPool)
    seen = set()
    for _ in range(4):
        with plain.connect() as connection:
            seen.add(tuple(shown(connection).items()))
    assert len(seen) == 1
    outside = dict(seen.pop())
    assert [outside[name] for name in limits] == ["0", "0", "0"]
    assert outside["default_transaction_read_only"] == "off"


def test_limits_hold_behind_a_pooler(url: str) -> None:
    """A writer that waits for a lock gives up at the limit of its own transaction."""
    one, two = Database(url), Database(url, busy_timeout_seconds=0.05)
    later = datetime(2030, 1, 1, tzinfo=UTC)
    row = {"name": "a", "holder": "h", "expires_at": later}
    table = sa.table("leases", sa.column("name"), sa.column("holder"), sa.column("expires_at"))
    with one.write() as connection:
        connection.execute(sa.insert(table).values(row))
        with pytest.raises(ModelStoreUnavailableError, match="LockNotAvailable"), two.write() as other:
            other.execute(sa.insert(table).values(row))
    two.ping()
    one.dispose()
    two.dispose()


def test_a_restart_of_the_server_behind_a_pooler_fails_no_transaction_on_an_idle_connection(
    databases: list[Database], postgresql: PostgreSQL
) -> None:
    for database in databases:
        database.ping()
    with postgresql.stopped():
        pass
    for turn in range(3):
        for database in databases:
            database.ping()
            assert SQLLeases(database, clock=now).acquire(f"lease-{turn}", "holder", 60)
