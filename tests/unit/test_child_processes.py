"""Nothing that tests start outlives them, also when they are killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, wait_until

FROZEN_CLUSTER = """
from tests.support.postgresql import PostgreSQL
cluster = PostgreSQL(Path(sys.argv[1]) / "log")
cluster.freeze()
print(*cluster.pids(), cluster.data, flush=True)
"""
PROGRAMS = """
from tests.support.processes import Child, PythonChild
folder = Path(sys.argv[1])
children = [
    Child("sleep", ["sleep", "600"], folder / "child"),
    PythonChild("server", ["http.server", "--bind", "127.0.0.1", "0"], folder / "fork", orphan_signal="KILL"),
]
print(*(child.pid for child in children), folder / "rest", flush=True)
"""


@pytest.mark.parametrize("starts", [FROZEN_CLUSTER, PROGRAMS], ids=["a frozen PostgreSQL cluster", "child processes"])
def test_what_tests_have_started_ends_when_they_are_killed(tmp_path: Path, starts: str) -> None:
    (tmp_path / "rest").mkdir()
    program = f"import os, signal, sys\nfrom pathlib import Path\n{starts}\nos.kill(os.getpid(), signal.SIGKILL)"
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    *pids, data = run.stdout.split()
    assert len(pids) > 1
    wait_until(lambda: not any(Path("/proc", pid).exists() for pid in pids), "all processes have ended")
    subprocess.run(["rm", "-r", data], check=True)
