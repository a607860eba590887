"""The directory of the workers' counts: private to one master, and right when workers have been replaced."""

import fcntl
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app import metrics_files
from app.metrics_files import VARIABLE, forget_gauges, prepare_directory, restore_directory
from tests.support.counts import Counts

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has no directory yet."""
    monkeypatch.setattr(metrics_files, "_made", [])
    monkeypatch.setenv(VARIABLE, "")


def is_locked(directory: Path) -> bool:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_the_directory_is_new_private_locked_and_named_in_the_environment(tmp_path: Path) -> None:
    directory = prepare_directory(tmp_path)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert list(directory.iterdir()) == []
    assert is_locked(directory)
    assert os.environ[VARIABLE] == str(directory)


def test_a_reload_keeps_the_directory(tmp_path: Path) -> None:
    """gunicorn reads its configuration again in the same process, and the old workers still write."""
    assert prepare_directory(tmp_path) == prepare_directory(tmp_path)


def test_two_masters_never_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_directory(tmp_path)
    monkeypatch.setattr(metrics_files, "_made", [])
    assert prepare_directory(tmp_path) != first
    assert first.is_dir()


def test_the_directory_of_a_killed_master_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Not one that is locked, young, of another kind, a link, or of an earlier version, which locks a file in it."""
    names = ("visiona-counts-a", "visiona-counts-b", "visiona-counts-young", "visiona-metrics-a", "other")
    folders = [tmp_path / name for name in names]
    long_ago = time.time() - 61
    for folder in folders:
        folder.mkdir()
        (folder / "counter_1.db").write_bytes(b"x")
        if "young" not in folder.name:
            os.utime(folder, (long_ago, long_ago))
    abandoned, locked, *others = folders
    link = tmp_path / "visiona-counts-link"
    link.symlink_to(others[-1])
    descriptor = os.open(locked, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    prepare_directory(tmp_path)

    os.close(descriptor)
    assert not abandoned.exists()
    assert all((folder / "counter_1.db").exists() for folder in (locked, *others))
    assert link.is_symlink()


def test_a_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    directory = prepare_directory(tmp_path)
    directory.rmdir()
    restore_directory()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert is_locked(directory)  # or the next master would remove it


def test_a_directory_that_another_program_named_is_made_and_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "theirs"))
    restore_directory()
    assert not is_locked(tmp_path / "theirs")


def test_gauges_that_cannot_be_removed_do_not_end_the_master(tmp_path: Path) -> None:
    gauges = prepare_directory(tmp_path) / "gauge_livesum_1.db"
    gauges.mkdir()  # os.remove fails on a directory
    forget_gauges(1)
    assert gauges.is_dir()


def test_a_parent_that_is_not_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        prepare_directory(tmp_path / "absent")


REMOVES_ITS_DIRECTORY = """
import os, sys
from pathlib import Path
from app.metrics_files import prepare_directory
made = prepare_directory(Path(sys.argv[1]))
child = os.fork()
if not child:
    sys.exit(0)
os.waitpid(child, 0)
print(made.is_dir())
"""


def test_the_master_removes_the_directory_when_it_exits_and_its_workers_do_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REMOVES_ITS_DIRECTORY, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
    assert list(tmp_path.iterdir()) == []


#: A master that has one worker after another, each of which is killed; then a scrape.
REPLACES_WORKERS = """
import os, signal, sys
from pathlib import Path
from app.metrics_files import count_as, forget_gauges, prepare_directory
directory = prepare_directory(Path(sys.argv[1]))
for _ in range(20):
    worker = os.fork()
    if not worker:
        count_as(1)
        from app import metrics
        metrics.worker_started(32)
        metrics.request_ended("/healthz", "GET", 200, None, 0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(worker, 0)
    forget_gauges(1)
print(sorted(path.name for path in directory.iterdir()), file=sys.stderr)
(directory / "counter_2.db").touch()  # another worker is about to write its first count
from app import metrics
print(metrics.exposition("", is_one_of_several=True)[0].decode())
"""


def test_counts_of_killed_workers_stay_their_gauges_go_and_the_files_do_not_become_more(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPLACES_WORKERS, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == "['counter_1.db', 'histogram_1.db']\n"
    counts = Counts.of(done.stdout)
    assert counts.sum("visiona_requests_total") == 20
    assert counts.sum("visiona_request_seconds_count") == 20
    assert counts.sum("visiona_request_seconds_bucket", le="+Inf") == 20
    assert counts.sum("visiona_workers") == 0
