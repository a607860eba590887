"""Slots that the processes of a host share: counted exactly, and free again however their holder ends."""

import errno
import fcntl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.services.host_slots import HostSlots
from tests.support.parallel import in_parallel
from tests.support.processes import ROOT

_HOLDER = """
import sys
from pathlib import Path
from app.services.host_slots import HostSlots
slots = HostSlots(Path(sys.argv[1]))
assert slots.acquire("download alice", 2)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_name_has_its_slots_and_not_one_more() -> None:
    slots = HostSlots(None)
    releases = [slots.acquire("alice", 2) for _ in range(2)]
    assert all(releases)
    assert slots.acquire("alice", 2) is None
    assert slots.acquire("bob", 1) is not None
    assert releases[0] is not None
    releases[0]()
    assert slots.acquire("alice", 2) is not None
    assert slots.acquire("alice", 2) is None


def test_a_hundred_threads_get_exactly_as_many_slots_as_there_are(tmp_path: Path) -> None:
    slots = HostSlots(tmp_path)
    outcomes = in_parallel(100, lambda _: slots.acquire("alice", 7))
    assert sum(callable(outcome) for outcome in outcomes) == 7


@pytest.mark.parametrize("is_removed", [False, True], ids=["", "the directory is removed"])
def test_a_slot_is_in_use_for_other_processes_until_its_holder_is_killed(tmp_path: Path, is_removed: bool) -> None:
    """Two processes hold the two slots of a name. SIGKILL frees one at once, and no file is left."""
    directory = tmp_path / "shared"
    directory.mkdir()
    ours = HostSlots(directory)
    command = [sys.executable, "-c", _HOLDER, str(directory)]
    holders = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for holder in holders:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
        if is_removed:
            (directory / "slots.lock").unlink()
            directory.rmdir()
        assert ours.acquire("download alice", 2) is None
        assert ours.acquire("download bob", 2) is not None
        holders[0].kill()
        holders[0].wait(10)
        assert ours.acquire("download alice", 2) is not None
        assert ours.acquire("download alice", 2) is None
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate(timeout=10)
    assert is_removed or [path.name for path in directory.iterdir()] == ["slots.lock"]


def test_neither_a_refusal_nor_a_failure_leaves_a_file_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    def open_files() -> int:
        return sum(path.resolve().is_relative_to(tmp_path) for path in Path("/proc/self/fd").iterdir())

    slots = HostSlots(tmp_path)
    release = slots.acquire("alice", 1)
    assert release is not None
    assert open_files() == 2
    assert slots.acquire("alice", 1) is None
    monkeypatch.setattr(fcntl, "fcntl", fail)
    with pytest.raises(OSError, match="no locks"):
        slots.acquire("bob", 1)
    assert open_files() == 2
    release()


def test_taking_a_slot_costs_far_less_than_a_request() -> None:
    slots = HostSlots(None)
    began = time.thread_time()
    for _ in range(100):
        release = slots.acquire("alice", 2)
        assert release is not None
        release()
    assert (time.thread_time() - began) / 100 < 0.001
