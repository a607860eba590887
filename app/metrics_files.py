"""Where gunicorn's workers keep their counts, so that any one of them can tell the sum of all.

Each worker writes into files of its own (prometheus-client's multiprocess mode), in a directory that belongs to one
master: two gateways on one machine never add up. The directory has a random name and is nobody else's to read. It is
empty at start, because it is new; what masters left that were killed is removed by the next one.

The files of a worker that has ended are added to one file of ended workers, so that counters never go back, and the
directory does not grow with every worker that was replaced.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: By this variable prometheus-client knows the directory, and that there is one; it looks when it is first imported.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "visiona-metrics-"
_OWNER, _SCRAPES = "owner.lock", "scrapes.lock"
# A directory younger than this may be one whose owner has not locked it yet.
_YOUNG_SECONDS = 60.0
# How long the master waits for a scrape to end; otherwise the files stay until the next worker ends.
_PATIENCE_SECONDS, _TURN_SECONDS = 0.2, 0.01
_ENDED = "ended"
#: What of a dead worker still counts. Its gauges told what it was doing, which is nothing any more.
_SUMMED = ("counter", "histogram")

_made: dict[str, Any] = {}


def prepare_directory(parent: Path | None = None) -> Path:
    """Make this master's directory below `parent` and name it in the environment. To be called before the fork.

    Without `parent` it lies in memory (/dev/shm) where there is such a place, else with the temporary files. Called
    again in the same process, as gunicorn does when it reloads, it returns the directory that there is. Removed when
    the process ends. Raises OSError where it cannot be made.
    """
    if "directory" in _made:
        return Path(_made["directory"])
    parent = parent or _default_parent()
    _remove_abandoned(parent)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    _made.update(directory=directory, owner=_lock(directory))
    os.environ[VARIABLE] = str(directory)
    atexit.register(_remove_own, os.getpid(), directory)
    return directory


def shared_directory() -> Path | None:
    """The directory of this process's master, or what another server's configuration has named; None: there is none."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def restore_directory() -> None:
    """Make the directory again if somebody has removed it; a worker could not start without it."""
    directory = shared_directory()
    if directory is None or directory.is_dir():
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _made.get("directory") == directory:
        os.close(_made["owner"])
        _made["owner"] = _lock(directory)


def readable_files(directory: Path) -> list[str]:
    """The files that hold counts; without those that a worker is only about to make."""
    found = []
    for path in directory.glob("*.db"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size:
                found.append(str(path))
    return found


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Read the files in the block; meanwhile none of them is added to another."""
    with (directory / _SCRAPES).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def keep_counts_of_ended_workers() -> None:
    """In the master, when a worker has ended: keep what it has counted, and forget what it was doing.

    Does nothing while somebody is reading; the next call makes up for it. Raises OSError where files cannot be written.
    """
    # Imported here: it must not be imported before the directory is named, and the master needs it for nothing else.
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

    directory = shared_directory()
    if directory is None or not directory.is_dir():
        return
    ended = sorted(pid for pid in _pids(directory) if not _is_alive(pid))
    if not ended:
        return
    with _alone(directory) as is_alone:
        if not is_alone:
            return
        for kind in _SUMMED:
            _add_up(directory, kind, [directory / f"{kind}_{pid}.db" for pid in ended])
        for pid in ended:
            mark_process_dead(pid, str(directory))


def _add_up(directory: Path, kind: str, files: list[Path]) -> None:
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415

    total, unfinished = directory / f"{kind}_{_ENDED}.db", directory / f"{kind}_{_ENDED}.unfinished"
    files = [file for file in files if file.exists()]
    if not files:
        return
    sums: dict[str, float] = {}
    for file in [total, *files]:
        for key, value in _values(file):
            sums[key] = sums.get(key, 0.0) + value
    unfinished.unlink(missing_ok=True)
    written = MmapedDict(str(unfinished))
    try:
        for key, value in sums.items():
            written.write_value(key, value, 0.0)
    finally:
        written.close()
    unfinished.replace(total)
    for file in files:
        file.unlink()


def _values(file: Path) -> list[tuple[str, float]]:
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415

    if not file.exists() or not file.stat().st_size:
        return []
    try:
        return [(key, value) for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file))]
    except (RuntimeError, ValueError, struct.error):
        # Torn, as only a full disk or a failing machine leaves it. Kept where it is, it would fail every scrape.
        return []


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Has this process the files for itself in the block? It does not wait long: a reader may have been stopped."""
    until = time.monotonic() + _PATIENCE_SECONDS
    with (directory / _SCRAPES).open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    yield False
                    return
                time.sleep(_TURN_SECONDS)
            else:
                yield True
                return


def _pids(directory: Path) -> set[int]:
    last_words = (path.stem.rpartition("_")[2] for path in directory.glob("*.db"))
    return {int(word) for word in last_words if word.isdigit()}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # pragma: no cover - the tests' account may signal everybody
        return False  # the number is somebody else's now
    return True


def _lock(directory: Path) -> int:
    """Hold the directory for as long as this process or one that it forks lives; they inherit the open file."""
    owner = os.open(directory / _OWNER, os.O_WRONLY | os.O_CREAT, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return owner


def _default_parent() -> Path:
    memory = Path("/dev/shm")  # noqa: S108 - what is made in it has a random name and is ours alone
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def _remove_abandoned(parent: Path) -> None:
    """Remove the directories of masters that were killed: ours by their owner, and locked by nobody."""
    for directory in parent.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone already
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                continue
            if time.time() - directory.stat().st_mtime < _YOUNG_SECONDS:
                continue
            with (directory / _OWNER).open("ab") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory)


def _remove_own(pid: int, directory: Path) -> None:
    # Workers inherit this with the fork, and end by themselves; only the master that made the directory removes it.
    if os.getpid() == pid:  # pragma: no branch - a worker's end, which is tested, tells nothing to coverage
        shutil.rmtree(directory, ignore_errors=True)
