"""Migrations of processes that start at once, and of one that is killed at any moment.

The next start makes the database ready.
"""

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

import pytest

from app.library.migrating import migrate, pending_migrations
from tests.api.edge import ENVIRON
from tests.support.postgresql import PostgreSQL
from tests.support.simultaneous import Program, next_line, ready_programs, tell_all

pytestmark = pytest.mark.timeout(60)

#: Migrates each database that it is told.
PROGRAM = """
import sys
from app.library.migrating import migrate
print("ready", flush=True)
for url in sys.stdin:
    migrate(url.strip())
    print("done", flush=True)
"""
TURNS = 10
LONGEST_SECONDS = 0.25


def migrating_programs(count: int) -> AbstractContextManager[list[Program]]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "error", **ENVIRON}
    return ready_programs(PROGRAM, [[]] * count, environment=environment)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The URLs of ten empty databases."""
    if request.param == "sqlite":
        yield [f"sqlite:///{tmp_path / str(turn)}.db" for turn in range(TURNS)]
        return
    cluster: PostgreSQL = request.getfixturevalue("postgresql")
    urls = [cluster.create_database() for _ in range(TURNS)]
    yield urls
    for url in urls:
        cluster.drop_database(url)


def test_of_two_processes_that_start_at_once_one_migrates_ten_times(empty_databases: list[str]) -> None:
    with migrating_programs(2) as programs:
        for url in empty_databases:
            tell_all(programs, url)
            logged = [line for program in programs for line in iter(partial(next_line, program), "done")]
            assert len(logged) == 1, logged
            assert "database.migrated" in logged[0]
            assert pending_migrations(url) == []


def kill_one_while_it_migrates(url: str, after_seconds: float) -> None:
    """Start a migration, and kill it so much later."""
    with migrating_programs(1) as programs:
        tell_all(programs, url)
        time.sleep(after_seconds)  # the moment of the crash, not a wait for anything


def play(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    url = f"sqlite:///{folder / f'{seed}.db'}"
    for _ in range(draw.choice([1, 1, 2])):
        kill_one_while_it_migrates(url, draw.uniform(0, LONGEST_SECONDS))

    migrate(url, lock_timeout_seconds=1)  # no lock is left in the way

    assert pending_migrations(url) == []
    with closing(sqlite3.connect(folder / f"{seed}.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"jobs", "models", "leases", "revoked_sessions"} <= tables


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 150))
def test_migration_that_is_killed_is_done_by_the_next_start_50_times(tmp_path: Path, seed: int) -> None:
    play(tmp_path, seed)
