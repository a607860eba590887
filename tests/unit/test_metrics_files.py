"""The directory of workers' counts: one master's alone, and true when workers have ended."""

import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from app import metrics_files
from app.metrics_files import (
    VARIABLE,
    keep_counts_of_ended_workers,
    prepare_directory,
    readable_files,
    reading,
    restore_directory,
)

LONG_AGO = 1_000_000_000


@pytest.fixture(autouse=True)
def _another_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has no directory yet; what it names in the environment, and what it locks, is gone afterwards."""
    made: dict[str, int] = {}
    monkeypatch.setattr(metrics_files, "_made", made)
    monkeypatch.setenv(VARIABLE, "")
    yield
    if "owner" in made:
        os.close(made["owner"])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return prepare_directory(tmp_path)


@pytest.fixture(scope="module")
def dead() -> list[int]:
    """Process numbers that nobody has; no new ones are given out again before thousands of others."""
    children = [subprocess.Popen([sys.executable, "-c", ""]) for _ in range(3)]
    for child in children:
        child.wait()
    return [child.pid for child in children]


def write(directory: Path, name: str, **values: float) -> Path:
    """A worker's file, with counts of one metric by label."""
    path = directory / name
    written = MmapedDict(str(path))
    for label, value in values.items():
        written.write_value(mmap_key("seen", "seen_total", ["by"], [label], "Seen."), value, 0.0)
    written.close()
    return path


def total(directory: Path) -> dict[str, float]:
    families = MultiProcessCollector.merge(readable_files(directory), accumulate=True)
    return {
        sample.labels["by"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "seen_total"
    }


def test_the_directory_is_new_private_and_named(tmp_path: Path) -> None:
    first = prepare_directory(tmp_path)
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    assert readable_files(first) == []
    assert os.environ[VARIABLE] == str(first)
    # gunicorn reads its configuration again when it reloads; its workers of before write on.
    assert prepare_directory(tmp_path) == first


def test_two_masters_never_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_directory(tmp_path)
    monkeypatch.setattr(metrics_files, "_made", {})
    assert prepare_directory(tmp_path) != first
    assert first.is_dir()


def test_what_a_killed_master_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    names = ("visiona-metrics-left", "visiona-metrics-young", "visiona-metrics-alive", "something-else")
    left, young, alive, other = (tmp_path / name for name in names)
    for folder in (left, young, alive, other):
        folder.mkdir()
        write(folder, "counter_1.db", x=1)
    link = tmp_path / "visiona-metrics-link"
    link.symlink_to(other)
    with (alive / "owner.lock").open("ab") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        for folder in (left, alive, other):
            os.utime(folder, (LONG_AGO, LONG_AGO))
        prepare_directory(tmp_path)
    assert not left.exists()
    assert all((folder / "counter_1.db").exists() for folder in (young, alive, other))
    assert link.is_symlink()


def test_the_directory_of_a_living_master_is_locked(directory: Path) -> None:
    with (directory / "owner.lock").open("ab") as owner, pytest.raises(BlockingIOError):
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_directory_that_was_tidied_away_is_made_again(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()
    restore_directory()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    test_the_directory_of_a_living_master_is_locked(directory)


def test_counts_of_ended_workers_are_kept_and_their_files_are_not(directory: Path, dead: list[int]) -> None:
    """However many workers come and go, there is one file for all that have ended, and the sum stays what it was."""
    living = write(directory, f"counter_{os.getpid()}.db", x=1)
    expected = {"x": 1.0}
    for number, pid in enumerate(dead):
        write(directory, f"counter_{pid}.db", x=10, **{f"only_{number}": 2})
        write(directory, f"gauge_livesum_{pid}.db", level=5)
        expected |= {"x": expected["x"] + 10, f"only_{number}": 2.0}
        assert total(directory)["x"] == expected["x"]
        keep_counts_of_ended_workers()
        assert total(directory) == expected
        assert {path.name for path in directory.glob("*.db")} == {living.name, "counter_ended.db"}


def test_a_histogram_of_an_ended_worker_is_not_summed_up_twice(directory: Path, dead: list[int]) -> None:
    """Buckets are stored each for itself, and told with all below them; adding up must not confuse the two."""
    for pid in (os.getpid(), dead[0]):
        written = MmapedDict(str(directory / f"histogram_{pid}.db"))
        for bucket, value in (("1.0", 2), ("5.0", 3), ("+Inf", 1)):
            written.write_value(mmap_key("took", "took_bucket", ["le"], [bucket], "Took."), value, 0.0)
        written.close()
    before = MultiProcessCollector.merge(readable_files(directory), accumulate=True)
    expected = {(s.name, s.labels.get("le")): s.value for family in before for s in family.samples}
    assert expected["took_bucket", "+Inf"] == 12
    keep_counts_of_ended_workers()
    after = MultiProcessCollector.merge(readable_files(directory), accumulate=True)
    assert {(s.name, s.labels.get("le")): s.value for family in after for s in family.samples} == expected


def test_nothing_is_moved_while_somebody_reads(directory: Path, dead: list[int]) -> None:
    """Between adding a file to the others and removing it a reader would count it twice."""
    file = write(directory, f"counter_{dead[0]}.db", x=3)
    with reading(directory):
        started = time.monotonic()
        keep_counts_of_ended_workers()
        assert time.monotonic() - started < 2  # the master has others to look after
        assert file.exists()
    keep_counts_of_ended_workers()
    assert not file.exists()
    assert total(directory) == {"x": 3.0}


def test_a_torn_file_fails_neither_the_master_nor_the_next_scrape(directory: Path, dead: list[int]) -> None:
    write(directory, f"counter_{dead[0]}.db", x=3)
    (directory / f"counter_{dead[1]}.db").write_bytes(b"\x40\0\0\0\0\0\0\0\xff\xff\0\0torn")
    (directory / f"counter_{dead[2]}.db").touch()
    keep_counts_of_ended_workers()
    assert total(directory) == {"x": 3.0}


def test_a_file_that_is_only_about_to_be_written_is_not_read(directory: Path) -> None:
    (directory / f"counter_{os.getpid()}.db").touch()
    assert readable_files(directory) == []


def test_without_a_directory_there_is_nothing_to_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_counts_of_ended_workers()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    keep_counts_of_ended_workers()


def test_a_parent_that_is_no_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        prepare_directory(tmp_path / "absent")


def test_it_is_removed_when_the_process_ends(tmp_path: Path) -> None:
    """And only by the one that made it: workers end with a copy of its memory."""
    script = (
        "import os, sys; from pathlib import Path; from app.metrics_files import prepare_directory\n"
        "made = prepare_directory(Path(sys.argv[1]))\n"
        "child = os.fork()\n"
        "if not child: sys.exit(0)\n"
        "os.waitpid(child, 0); print(made.is_dir())\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
    assert list(tmp_path.iterdir()) == []


def test_while_all_workers_live_their_files_stay(directory: Path) -> None:
    living = write(directory, f"counter_{os.getpid()}.db", x=1)
    keep_counts_of_ended_workers()
    assert list(directory.glob("*.db")) == [living]


def test_a_directory_that_somebody_else_named_is_made_and_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner is that server's master, which removes it as well."""
    named = tmp_path / "named"
    monkeypatch.setattr(metrics_files, "_made", {})
    monkeypatch.setenv(VARIABLE, str(named))
    restore_directory()
    assert list(named.iterdir()) == []
