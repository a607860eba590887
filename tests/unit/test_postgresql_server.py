"""The tests' own PostgreSQL does what tests of failures rely on."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.support.postgresql import PostgreSQL
from tests.support.processes import ROOT, wait_until


def value_in(url: str) -> int:
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute("SELECT a FROM t").fetchone()
        assert row is not None
        return int(row[0])


def test_databases_are_apart_and_survive_a_stop(postgresql: PostgreSQL, postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS a")
    copy = postgresql.create_database(template=postgresql_url)
    empty = postgresql.create_database()
    with postgresql.stopped(), pytest.raises(psycopg.OperationalError):
        value_in(postgresql_url)
    assert value_in(postgresql_url) == value_in(copy) == 7
    with pytest.raises(psycopg.errors.UndefinedTable):
        value_in(empty)
    for url in (copy, empty):
        postgresql.drop_database(url)


def test_a_frozen_cluster_accepts_connections_and_answers_none(postgresql: PostgreSQL) -> None:
    with psycopg.connect(postgresql.url) as held:
        with postgresql.frozen():
            # The kernel accepts: it is the wait for an answer that ends, and nothing is refused.
            with pytest.raises(psycopg.errors.ConnectionTimeout):
                psycopg.connect(postgresql.url, connect_timeout=2)
            assert state_of(held.info.backend_pid) == "T"
        assert held.execute("SELECT 1").fetchone() == (1,)


DIES_WITH_A_FROZEN_CLUSTER = """
import os, signal, sys
from pathlib import Path
from tests.support.postgresql import PostgreSQL
cluster = PostgreSQL(Path(sys.argv[1]))
cluster.freeze()
print(*cluster.pids(), cluster.data, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_cluster_ends_when_its_tests_are_killed_even_while_it_is_frozen(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", DIES_WITH_A_FROZEN_CLUSTER, tmp_path / "log"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    *pids, data = run.stdout.split()
    assert len(pids) > 3
    wait_until(lambda: not any(Path("/proc", pid).exists() for pid in pids), "all processes of the cluster have ended")
    subprocess.run(["rm", "-r", data], check=True)


def state_of(pid: int) -> str:
    """T for a stopped process."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    return os.strerror(3)
