"""A PostgreSQL server that stops answering: waiting callers fail within 5 s, all others at once."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest
import sqlalchemy as sa

from app.errors import ModelStoreUnavailableError
from app.library.database import Database
from app.library.leases import SQLLeases
from app.library.postgresql import Silence, connect
from tests.support.clocks import FakeClock
from tests.support.postgresql import PostgreSQL
from tests.support.processes import wait_until

LIMIT_SECONDS = 5.0
AT_ONCE_SECONDS = 2.0


@pytest.fixture
def engine() -> str:
    """Only PostgreSQL has a server that can stop."""
    return "postgresql"


def failing_after(action: Callable[[], object]) -> float:
    """Return after how many seconds the action fails because the database is unavailable."""
    started = time.monotonic()
    with pytest.raises(ModelStoreUnavailableError):
        action()
    return time.monotonic() - started


def answers(database: Database) -> bool:
    try:
        database.ping()
    except ModelStoreUnavailableError:
        return False
    return True


def test_a_frozen_server_fails_waiting_callers_within_five_seconds_and_later_ones_at_once(
    postgresql: PostgreSQL, database: Database
) -> None:
    """With a pooled connection and without one. The server is used again once it answers."""
    database.ping()
    with postgresql.frozen(), ThreadPoolExecutor(8) as pool:
        first = list(pool.map(failing_after, [database.ping] * 8))
        later = [failing_after(database.ping) for _ in range(10)]
    assert max(first) < LIMIT_SECONDS
    assert max(later) < AT_ONCE_SECONDS
    wait_until(lambda: answers(database), "the database is used again", seconds=LIMIT_SECONDS)


@pytest.mark.parametrize("step", ["statement", "commit"])
def test_a_server_that_freezes_within_a_transaction_fails_it_within_five_seconds(
    postgresql: PostgreSQL, database: Database, step: str
) -> None:
    frozen_at: list[float] = []

    def write() -> None:
        with database.write() as connection:
            connection.execute(sa.select(1))
            postgresql.freeze()
            frozen_at.append(time.monotonic())
            if step == "statement":
                connection.execute(sa.select(2))

    try:
        failing_after(write)
        assert time.monotonic() - frozen_at[0] < LIMIT_SECONDS
    finally:
        postgresql.thaw()
    wait_until(lambda: answers(database), "the database is used again", seconds=LIMIT_SECONDS)


def test_the_addresses_of_a_host_share_the_timeout(postgresql: PostgreSQL, database_url: str) -> None:
    parts = sa.make_url(database_url)
    twice = {"host": ["127.0.0.1", "127.0.0.1"], "port": [str(parts.port)] * 2}
    query = {name: ",".join(values) for name, values in twice.items()}
    database = Database(str(sa.URL.create("postgresql", parts.username, database=parts.database, query=query)))
    database.ping()
    database.dispose()
    with postgresql.frozen():
        assert failing_after(database.ping) < LIMIT_SECONDS
    database.dispose()


def test_a_slow_statement_is_ended_by_the_server_and_does_not_count_as_silence(database: Database) -> None:
    """One slow statement, or one wait for a lock, must not fail all other callers."""

    def sleep() -> None:
        with database.read() as connection:
            connection.execute(sa.select(sa.func.pg_sleep(30)))

    with ThreadPoolExecutor(1) as pool:
        sleeping = pool.submit(failing_after, sleep)
        while not sleeping.done():
            database.ping()
            time.sleep(0.05)
    assert sleeping.result() < LIMIT_SECONDS
    database.ping()


def test_a_change_of_the_schema_waits_without_a_timeout(database_url: str) -> None:
    patient = Database(database_url, pool_size=1, is_patient=True)
    with patient.write() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.select(sa.func.pg_sleep(LIMIT_SECONDS)))
    patient.dispose()


def test_a_release_waits_for_a_lease_that_a_frozen_server_is_about_to_commit(
    database: Database, database_url: str, clock: FakeClock
) -> None:
    """The holder has given up its `acquire`, but the server continues with it later."""
    leases = SQLLeases(database, clock=clock)
    insert = "INSERT INTO leases (name, holder, expires_at) VALUES ('upload:alice', 'lost', %s)"
    with psycopg.connect(database_url) as in_doubt, ThreadPoolExecutor(1) as pool:
        in_doubt.execute(insert, [datetime(2030, 1, 1, tzinfo=UTC)])
        released = pool.submit(leases.release, "upload:alice", "lost")
        wait_until(lambda: is_waiting_for_a_lock(database), "the release waits")
        in_doubt.commit()
        released.result()
    assert leases.acquire("upload:alice", "next", 60)


def is_waiting_for_a_lock(database: Database) -> bool:
    with database.read() as connection:
        waiting = connection.exec_driver_sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(waiting.scalar_one())


# The memory of a silence, by itself


class Server:
    """Answers only when the test says so."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        if not self.answers.is_set():
            raise ModelStoreUnavailableError("silent")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def silence(server: Server) -> Iterator[Silence]:
    made = Silence(server.ask, ask_every_seconds=0.01)
    yield made
    made.close()


def is_over(silence: Silence) -> bool:
    try:
        silence.require_none()
    except ModelStoreUnavailableError:
        return False
    return True


def test_one_thread_asks_until_the_server_answers(server: Server, silence: Silence) -> None:
    silence.require_none()
    for _ in range(20):
        silence.begin()
    assert [thread.name for thread in threading.enumerate()].count("database-silence") == 1
    with pytest.raises(ModelStoreUnavailableError):
        silence.require_none()
    wait_until(lambda: server.asked > 3, "it asks again")
    server.answers.set()
    wait_until(lambda: is_over(silence), "the silence is over")
    silence.begin()
    wait_until(lambda: is_over(silence), "the second silence is over")


def test_no_thread_connects_while_the_server_is_silent(silence: Silence) -> None:
    silence.begin()
    with pytest.raises(ModelStoreUnavailableError):
        connect({"host": "127.0.0.1"}, silence)


def test_a_closed_database_is_not_asked_any_more(server: Server, silence: Silence) -> None:
    silence.begin()
    silence.close()
    wait_until(lambda: is_over(silence), "the thread has ended")
    asked = server.asked
    silence.begin()
    silence.require_none()
    assert server.asked == asked
