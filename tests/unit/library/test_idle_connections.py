"""Idle connections that have broken fail no transaction, and no ping precedes a transaction."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from app.errors import ModelStoreUnavailableError
from app.library.database import Database
from app.library.leases import SQLLeases
from tests.support.clocks import FakeClock
from tests.support.postgresql import PostgreSQL

CONNECTIONS = 6


@pytest.fixture
def engine() -> str:
    """Only PostgreSQL has a server that can restart."""
    return "postgresql"


def use_all_connections(database: Database, clock: FakeClock) -> None:
    """Write in several threads at once, so that each needs a connection of its own."""
    leases, together = SQLLeases(database, clock=clock), threading.Barrier(CONNECTIONS)

    def write(number: int) -> bool:
        with database.read() as connection:
            connection.execute(sa.select(1))
            together.wait(20)
        return leases.acquire(f"lease-{number}", "holder", 60)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        assert all(pool.map(write, range(CONNECTIONS)))


def backends(postgresql: PostgreSQL, url: str) -> list[int]:
    """Return the pids of the server's processes for the gateway's connections to a database."""
    with psycopg.connect(postgresql.url) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'visiona-gateway'"
        return [row[0] for row in connection.execute(query, (url.rpartition("/")[2],))]


def test_a_restart_of_the_server_fails_no_transaction_on_an_idle_connection(
    postgresql: PostgreSQL, database: Database, clock: FakeClock
) -> None:
    use_all_connections(database, clock)
    with postgresql.stopped():
        pass
    use_all_connections(database, clock)


def test_connections_that_end_between_two_transactions_fail_none_however_recently_they_were_used(
    postgresql: PostgreSQL, database: Database, database_url: str, clock: FakeClock
) -> None:
    use_all_connections(database, clock)
    pids = backends(postgresql, database_url)
    assert len(pids) == CONNECTIONS
    with psycopg.connect(postgresql.url) as connection:
        connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s::int[]) AS pid", (pids,))
    use_all_connections(database, clock)


def test_a_transaction_on_a_server_that_is_away_fails_and_leaves_no_connection_in_use(
    postgresql: PostgreSQL, database_url: str, clock: FakeClock
) -> None:
    database = Database(database_url, pool_size=1, pool_timeout_seconds=0.5)
    database.ping()
    with postgresql.stopped():
        for _ in range(3):
            with pytest.raises(ModelStoreUnavailableError, match="refused"):
                database.ping()
    database.ping()
    database.dispose()


def test_a_transaction_costs_a_round_trip_for_each_statement_and_two_for_itself(
    postgresql: PostgreSQL, database_url: str, clock: FakeClock
) -> None:
    postgresql.log_statements(database_url)
    database = Database(database_url)
    for _ in range(2):  # the first one connects
        before = len(postgresql.statements_of(database_url))
        assert SQLLeases(database, clock=clock).acquire("lease", "holder", 60)
    sent = [statement.split(maxsplit=1)[0] for statement in postgresql.statements_of(database_url)[before:]]
    assert sent == ["BEGIN;", "INSERT", "COMMIT"]
    database.dispose()
