"""Where gunicorn's workers store their counts, so that any of them can report the sum of all.

Each worker writes to files of its own in one directory (prometheus-client's multiprocess mode). The directory belongs
to one master, so two gateways on one machine are not added up. The files are named after the worker's number and not
after its process id: a worker that replaces another one continues its files. So counters never fall, and the directory
does not grow with the number of restarts.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

#: prometheus-client finds the directory by this variable, which it reads when it is first imported.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: Not the prefix of earlier versions, which lock their directories in another way.
_PREFIX = "visiona-counts-"
_YOUNG_SECONDS = 60.0

_made: list[Path] = []


def prepare_directory(parent: Path | None = None) -> Path:
    """Make this master's directory in `parent` and name it in the environment. Call it before the workers are forked.

    Without `parent` it is made in memory (/dev/shm) if there is such a folder, else with the temporary files. Called
    again in the same process, as on a reload, it returns the same directory. The directory is removed when the process
    exits; if the process is killed, the next master removes it. Raises OSError if it cannot be made.
    """
    if _made:
        return _made[0]
    if parent is None:
        parent = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())  # noqa: S108 - random name
    for abandoned in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, or another user's
            # A young one may belong to a master that has not locked it yet.
            if time.time() - abandoned.stat().st_mtime > _YOUNG_SECONDS:
                os.close(_lock(abandoned))
                shutil.rmtree(abandoned)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    _lock(directory)
    _made.append(directory)
    os.environ[VARIABLE] = str(directory)
    atexit.register(_remove, directory, os.getpid())
    return directory


def shared_directory() -> Path | None:
    """Return the directory of this process's master, or None if there is none."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def restore_directory() -> None:
    """Make the directory again if it has been removed: a new worker could not start without it."""
    directory = shared_directory()
    if directory is None or directory.is_dir():
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory in _made:
        _lock(directory)  # the other lock is the removed directory's


def count_as(number: int) -> None:
    """Let this worker continue the files of `number`. Call it after the fork and before anything is counted."""
    # Imported late, here and below, because the directory must be named first.
    from prometheus_client import values  # noqa: PLC0415

    values.ValueClass = values.MultiProcessValue(lambda: number)


def forget_gauges(number: int) -> None:
    """Remove the gauges of a worker that has ended. Its counters and histograms stay."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

    # An exception would end the master: it calls this.
    with contextlib.suppress(OSError):
        mark_process_dead(number, str(shared_directory()))


def _lock(directory: Path) -> int:
    """Lock the directory until this process and all its children have exited. Raises OSError if it is locked."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(directory: Path, pid: int) -> None:
    # Workers inherit this exit handler; only the master may remove the directory.
    if os.getpid() == pid:  # pragma: no branch - a worker's exit is tested, but coverage doesn't see it
        shutil.rmtree(directory, ignore_errors=True)
