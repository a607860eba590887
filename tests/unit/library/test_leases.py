"""Leases have one holder at a time, across threads and processes, and block no longer than their time to live."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from app.domain.running_upload import RunningUpload
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


def test_the_lease_of_an_upload_shows_it_until_it_expires(leases: SQLLeases, clock: FakeClock) -> None:
    assert leases.acquire("upload/alice", "one", 150, upload_id="u1", total_bytes=3_000_000_000)
    shown = RunningUpload("one", "u1", clock(), 0, 3_000_000_000, is_complete=False)
    assert leases.find_upload("upload/alice") == shown
    clock.advance(20)
    assert leases.renew("upload/alice", "one", 150, received_bytes=2_500_000_000)
    assert leases.find_upload("upload/alice") == replace(shown, received_bytes=2_500_000_000)
    clock.advance(150)
    assert leases.find_upload("upload/alice") is None
    assert leases.request_end("upload/alice", "u1") is None


def test_an_upload_is_asked_to_end_by_its_id_and_its_users_lease(leases: SQLLeases) -> None:
    assert leases.acquire("upload/alice", "one", 150, upload_id="u1")
    assert leases.acquire("upload/bob", "two", 150, upload_id="u2")
    assert leases.request_end("upload/alice", "u2") is None
    assert leases.requested_ends() == []
    asked = leases.request_end("upload/alice", "u1")
    assert asked is not None
    assert asked.holder == "one"
    assert leases.requested_ends() == [("upload/alice", "one")]
    assert not leases.acquire("upload/alice", "three", 150, upload_id="u3")


def test_a_complete_upload_answers_and_is_not_asked_again(leases: SQLLeases) -> None:
    assert leases.acquire("upload/alice", "one", 150, upload_id="u1")
    leases.request_end("upload/alice", "u1")
    leases.note_complete("upload/alice", "another")
    assert leases.requested_ends() == [("upload/alice", "one")]
    leases.note_complete("upload/alice", "one")
    assert leases.requested_ends() == []
    asked = leases.request_end("upload/alice", "u1")
    assert asked is not None
    assert asked.is_complete


def test_the_next_holder_of_an_upload_lease_is_not_asked_to_end(leases: SQLLeases, clock: FakeClock) -> None:
    assert leases.acquire("upload/alice", "killed", 150, upload_id="u1", total_bytes=10)
    leases.request_end("upload/alice", "u1")
    leases.note_complete("upload/alice", "killed")
    clock.advance(150)
    assert leases.acquire("upload/alice", "next", 150, upload_id="u2")
    assert leases.requested_ends() == []
    assert leases.find_upload("upload/alice") == RunningUpload("next", "u2", clock(), 0, None, is_complete=False)
    assert leases.acquire("sweep", "one", 150)
    assert leases.find_upload("sweep") is None


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
