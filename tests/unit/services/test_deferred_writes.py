"""Deferred writes: retried until they succeed, in order, bounded, and reported if they are lost."""

import threading

import pytest
import structlog

from app.errors import ModelStoreUnavailableError
from app.services.deferred_writes import LEASE, LEDGER, DeferredWrites
from tests.support.clocks import FakeMonotonic, FakeSleep
from tests.support.counts import increase


class Database:
    """Writes words; refuses to while it is down."""

    def __init__(self) -> None:
        self.is_down = True
        self.tries = 0
        self.written: list[str] = []

    def write(self, word: str) -> None:
        self.tries += 1
        if self.is_down:
            raise ModelStoreUnavailableError("down")
        self.written.append(word)


def fail() -> None:
    raise ModelStoreUnavailableError("this one only")


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def monotonic() -> FakeMonotonic:
    return FakeMonotonic(now=0)


@pytest.fixture
def writes(monotonic: FakeMonotonic) -> DeferredWrites:
    return DeferredWrites(most=3, monotonic=monotonic, sleep=FakeSleep(monotonic))


def test_a_write_is_retried_until_it_succeeds_and_then_never_again(writes: DeferredWrites, database: Database) -> None:
    waiting = increase("visiona_deferred_writes_waiting", kind="ledger")
    written = increase("visiona_deferred_writes_total", kind="ledger", outcome="written")
    assert writes.add(LEDGER, "job-1", lambda: database.write("one"))
    assert not writes.flush()
    assert not writes.flush()
    assert (waiting(), written(), database.written) == (1, 0, [])
    database.is_down = False
    assert writes.flush()
    assert writes.flush()
    assert (waiting(), written(), database.written) == (0, 1, ["one"])


def test_a_round_ends_with_the_first_failure_so_that_a_database_that_is_down_is_asked_once(
    writes: DeferredWrites, database: Database
) -> None:
    for word in ("one", "two", "three"):
        writes.add(LEDGER, word, lambda word=word: database.write(word))  # type: ignore[misc]
    writes.flush()
    assert database.tries == 1


def test_a_write_queued_during_a_slow_one_comes_before_other_slow_ones(
    writes: DeferredWrites, database: Database
) -> None:
    """A lease is released although many calls to the converter are slow."""
    database.is_down = False

    def ask_slowly() -> None:
        database.write("first")
        writes.add(LEASE, "lease", lambda: database.write("lease"))

    writes.add(LEDGER, "first", ask_slowly, is_slow=True)
    writes.add(LEDGER, "second", lambda: database.write("second"), is_slow=True)
    writes.add(LEDGER, "note", lambda: database.write("note"))
    while not writes.flush():
        pass
    assert database.written == ["note", "first", "lease", "second"]


def test_a_write_that_always_fails_does_not_delay_others(writes: DeferredWrites, database: Database) -> None:
    database.is_down = False
    writes.add(LEASE, "bad", fail)
    for word in ("one", "two"):
        writes.add(LEDGER, word, lambda word=word: database.write(word))  # type: ignore[misc]
    writes.flush()
    writes.flush()
    assert database.written == ["one", "two"]
    writes.add(LEDGER, "slow", lambda: database.write("slow"), is_slow=True)
    writes.flush()
    writes.flush()
    assert database.written == ["one", "two", "slow"]
    assert len(writes) == 1


def test_the_newest_write_of_a_key_replaces_the_older_one(writes: DeferredWrites, database: Database) -> None:
    writes.add(LEDGER, "job-1", lambda: database.write("running"))
    writes.add(LEDGER, "job-1", lambda: database.write("completed"))
    database.is_down = False
    writes.flush()
    assert database.written == ["completed"]


def test_a_write_that_is_replaced_while_it_is_tried_is_not_forgotten(
    writes: DeferredWrites, database: Database
) -> None:
    database.is_down = False

    def write_and_replace() -> None:
        database.write("running")
        writes.add(LEDGER, "job-1", lambda: database.write("completed"))

    writes.add(LEDGER, "job-1", write_and_replace)
    assert not writes.flush()
    assert writes.flush()
    assert database.written == ["running", "completed"]


def test_a_write_that_succeeds_at_once_waits_for_nothing(writes: DeferredWrites, database: Database) -> None:
    database.is_down = False
    assert writes.write(LEDGER, "one", lambda: database.write("one"))
    assert (database.written, len(writes)) == (["one"], 0)


def test_a_write_that_fails_is_retried_for_a_moment_before_it_is_deferred(
    writes: DeferredWrites, database: Database, monotonic: FakeMonotonic
) -> None:
    def write() -> None:
        database.is_down = monotonic() < 0.5
        database.write("one")

    assert writes.write(LEDGER, "one", write, patience_seconds=2)
    assert (database.written, len(writes)) == (["one"], 0)
    assert not writes.write(LEDGER, "two", fail, patience_seconds=2)
    assert monotonic() == 2.5
    assert len(writes) == 1


def test_a_write_replaces_the_older_one_that_is_queued_under_its_key(
    writes: DeferredWrites, database: Database
) -> None:
    assert not writes.write(LEDGER, "job-1", lambda: database.write("running"))
    database.is_down = False
    assert writes.write(LEDGER, "job-1", lambda: database.write("completed"))
    assert writes.flush()
    assert database.written == ["completed"]


def test_a_full_queue_refuses_and_names_what_is_lost(writes: DeferredWrites, database: Database) -> None:
    lost = increase("visiona_deferred_writes_total", kind="lease", outcome="lost")
    for key in ("one", "two", "three"):
        assert writes.add(LEDGER, key, lambda: database.write("x"))
    with structlog.testing.capture_logs() as logs:
        assert not writes.add(LEASE, "four", lambda: database.write("x"))
    assert [(entry["event"], entry["key"], entry["log_level"]) for entry in logs] == [
        ("deferred_write.lost", "four", "error")
    ]
    assert lost() == 1
    assert writes.add(LEDGER, "three", lambda: database.write("newer")), "a replacement takes no room"


def test_a_bug_in_a_write_is_reported_and_not_repeated(writes: DeferredWrites, database: Database) -> None:
    def crash() -> None:
        raise ValueError("a bug")

    lost = increase("visiona_deferred_writes_total", kind="ledger", outcome="lost")
    database.is_down = False
    writes.add(LEDGER, "bad", crash)
    writes.add(LEDGER, "good", lambda: database.write("good"))
    with structlog.testing.capture_logs() as logs:
        assert writes.flush()
    assert [entry["event"] for entry in logs] == ["deferred_write.crashed"]
    assert database.written == ["good"]
    assert lost() == 1


def test_the_end_of_a_worker_waits_for_the_database_for_a_while(
    writes: DeferredWrites, database: Database, monotonic: FakeMonotonic
) -> None:
    def write() -> None:
        database.is_down = monotonic() < 3
        database.write("one")

    writes.add(LEDGER, "one", write)
    writes.close(patience_seconds=20)
    assert database.written == ["one"]
    assert 3 <= monotonic() < 5


def test_what_the_end_of_a_worker_cannot_write_is_named(
    writes: DeferredWrites, database: Database, monotonic: FakeMonotonic
) -> None:
    writes.add(LEDGER, "job job-1", lambda: database.write("one"))
    with structlog.testing.capture_logs() as logs:
        writes.close(patience_seconds=20)
    assert monotonic() <= 20
    assert [entry["key"] for entry in logs if entry["event"] == "deferred_write.lost"] == ["job job-1"]


def test_a_worker_without_deferred_writes_ends_at_once(writes: DeferredWrites, monotonic: FakeMonotonic) -> None:
    writes.close(patience_seconds=20)
    assert monotonic() == 0


def test_the_thread_writes_by_itself_once_the_database_is_back(database: Database) -> None:
    tried, written = threading.Event(), threading.Event()

    def write() -> None:
        try:
            database.write("one")
        finally:
            tried.set()
        written.set()

    writes = DeferredWrites(retry_seconds=0.01)
    writes.start()
    writes.add(LEDGER, "one", write)
    assert tried.wait(10)
    database.is_down = False
    assert written.wait(10)
