"""kill -9 during the first migration, at any moment of it, leaves a database that the next start makes ready."""

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from app.library.migrating import migrate, pending_migrations
from tests.api.edge import ENVIRON
from tests.support.processes import ROOT

pytestmark = pytest.mark.timeout(60)

#: Printed when everything is imported, so that a blow falls into the migration and not into the interpreter's start.
PROGRAM = """
import sys
from app.library.migrating import migrate
print("ready", flush=True)
sys.stdin.readline()
migrate(sys.argv[1])
"""
MOMENTS = 4
LONGEST_SECONDS = 0.25


def kill_one_while_it_migrates(url: str, after_seconds: float) -> int:
    """Start a migration, kill it so much later; its exit code (0: it was faster)."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **ENVIRON},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("\n")
        child.stdin.flush()
        time.sleep(after_seconds)  # the moment of the crash, not a wait for anything
        child.kill()
        return child.wait()


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


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_migration_that_is_killed_is_done_by_the_next_start(tmp_path: Path, seed: int) -> None:
    play(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 150))
def test_migration_that_is_killed_is_done_by_the_next_start_50_times(tmp_path: Path, seed: int) -> None:
    play(tmp_path, seed)
