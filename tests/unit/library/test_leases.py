"""Leases have one holder at a time, across threads and processes, and block no longer than their time to live."""

from collections.abc import Callable

import pytest

from app.library.database import Database
from app.library.leases import SQLLeases
from tests.support.clocks import FakeClock
from tests.support.parallel import in_parallel
from tests.support.simultaneous import next_line, ready_programs, tell_all


def acquired_by_50_threads(leases: SQLLeases) -> list[int]:
    outcomes = in_parallel(50, lambda number: leases.acquire("upload/alice", f"upload-{number}", 150))
    return [number for number, is_acquired in enumerate(outcomes) if is_acquired is True]


def test_of_50_threads_exactly_one_acquires_a_free_lease(leases: SQLLeases) -> None:
    assert len(acquired_by_50_threads(leases)) == 1


def test_of_50_threads_exactly_one_takes_over_an_expired_lease(leases: SQLLeases, clock: FakeClock) -> None:
    assert leases.acquire("upload/alice", "crashed", 150)
    clock.advance(150)
    (winner,) = acquired_by_50_threads(leases)
    assert not leases.renew("upload/alice", "crashed", 150)
    assert leases.renew("upload/alice", f"upload-{winner}", 150)


def test_of_50_threads_none_acquires_a_lease_that_is_held(leases: SQLLeases, clock: FakeClock) -> None:
    assert leases.acquire("upload/alice", "holder", 150)
    clock.advance(149.999)
    assert not acquired_by_50_threads(leases)


def test_leases_of_different_names_are_independent(leases: SQLLeases) -> None:
    assert leases.acquire("upload/alice", "one", 150)
    assert leases.acquire("upload/bob", "two", 150)


@pytest.mark.parametrize("extend", [SQLLeases.acquire, SQLLeases.renew])
def test_acquiring_again_and_renewing_extend_the_holders_own_lease(
    leases: SQLLeases, clock: FakeClock, extend: Callable[[SQLLeases, str, str, float], bool]
) -> None:
    assert leases.acquire("upload/alice", "one", 150)
    clock.advance(100)
    assert extend(leases, "upload/alice", "one", 150)
    clock.advance(100)
    assert not leases.acquire("upload/alice", "two", 150)


def test_an_expired_lease_that_nobody_acquired_can_be_renewed(leases: SQLLeases, clock: FakeClock) -> None:
    assert leases.acquire("upload/alice", "one", 150)
    clock.advance(1000)
    assert leases.renew("upload/alice", "one", 150)
    assert not leases.acquire("upload/alice", "two", 150)


def test_only_the_holder_renews_a_lease(leases: SQLLeases) -> None:
    assert not leases.renew("upload/alice", "one", 150)
    assert leases.acquire("upload/alice", "one", 150)
    assert not leases.renew("upload/alice", "two", 150)


def test_a_released_lease_is_free_at_once(leases: SQLLeases) -> None:
    assert leases.acquire("upload/alice", "one", 150)
    leases.release("upload/alice", "one")
    assert leases.acquire("upload/alice", "two", 150)


def test_only_the_holder_releases_a_lease(leases: SQLLeases) -> None:
    leases.release("upload/alice", "one")
    assert leases.acquire("upload/alice", "two", 150)
    leases.release("upload/alice", "one")
    assert not leases.acquire("upload/alice", "one", 150)


def test_a_lease_is_held_until_it_expires_or_is_released(leases: SQLLeases, clock: FakeClock) -> None:
    assert not leases.is_held("upload/alice")
    assert leases.acquire("upload/alice", "one", 150)
    assert leases.is_held("upload/alice")
    assert not leases.is_held("upload/bob")
    leases.release("upload/alice", "one")
    assert not leases.is_held("upload/alice")
    assert leases.acquire("upload/alice", "two", 150)
    clock.advance(149.999)
    assert leases.is_held("upload/alice")
    clock.advance(0.001)
    assert not leases.is_held("upload/alice")


def test_the_sweep_removes_only_what_expired_long_ago(leases: SQLLeases, clock: FakeClock) -> None:
    assert leases.acquire("old", "crashed", 150)
    clock.advance(3000)
    assert leases.acquire("recent", "crashed", 150)
    clock.advance(1000)
    assert leases.acquire("held", "alive", 150)
    assert leases.remove_expired(older_than_seconds=3600) == 1
    assert not leases.renew("old", "crashed", 150)
    assert leases.renew("recent", "crashed", 150)
    assert leases.renew("held", "alive", 150)


CONTENDER = """
import sys
from datetime import datetime, UTC
from concurrent.futures import ThreadPoolExecutor
from app.library.database import Database
from app.library.leases import SQLLeases
database = Database(sys.argv[1])
leases = SQLLeases(database, clock=lambda: datetime.now(UTC))
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(10) as pool:
    print(sum(pool.map(lambda n: leases.acquire("promote/job", f"{sys.argv[2]}-{n}", 600), range(10))))
database.dispose()
"""


def test_of_ten_threads_in_each_of_two_processes_exactly_one_acquires(database: Database, database_url: str) -> None:
    with ready_programs(CONTENDER, [[database_url, name] for name in ("one", "two")]) as programs:
        tell_all(programs)
        assert sorted(next_line(program) for program in programs) == ["0", "1"]
