"""Files in a local folder.

A file becomes visible only when it is complete: it is written under a temporary name, synced and renamed, and then its
folder is synced. So after `commit` neither a crash nor a power cut loses it.

OSErrors of our own calls become StorageUnavailableError. What the caller raises inside a `with` block passes unchanged:
the exceptions of `requests` are OSErrors too.
"""

import errno
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from app.errors import StorageUnavailableError
from app.library.storage import FileStorage, FileWriter, StoredFile, range_end, read_chunks

#: The folders that older versions made: `<folder>/<name>` and `.quarantine/<time>/<folder>/<name>`. Other folders hold
#: nothing of ours, and may be unreadable, such as a volume's lost+found.
_FOLDER = re.compile(r"[A-Za-z0-9_-]+|\.quarantine/[0-9TZ]+(/[A-Za-z0-9_-]+)?")


class LocalStorage(FileStorage):
    """Files in one folder, which other processes of this host may share.

    Folders are made with mode 0700 and files with mode 0600.
    """

    def __init__(self, root: Path) -> None:
        """Store files in `root`, which is made when it is first needed."""
        self._root = root
        self._temporaries = root / ".tmp"

    def ping(self) -> None:
        """Return if a file can be written. Leaves nothing behind."""
        with _translated():
            _make_folder(self._temporaries)
            with tempfile.TemporaryFile(dir=self._temporaries, buffering=0) as file:
                file.write(b"ping")

    def remove_stale_temporaries(self, *, older_than_seconds: float, is_in_use: Callable[[str], bool]) -> int:
        """Remove the temporary files that nobody has written to for that long. Return how many.

        `is_in_use` is not asked: a writer touches its file with every write.
        """
        del is_in_use
        removed = 0
        limit = time.time() - older_than_seconds
        with _translated():
            try:
                paths = list(self._temporaries.iterdir())
            except FileNotFoundError:
                return 0
            for path in paths:
                with suppress(FileNotFoundError):
                    if path.stat(follow_symlinks=False).st_mtime < limit:
                        path.unlink()
                        removed += 1
        return removed

    def _begin(self, name: str) -> "LocalWriter":
        with _translated():
            _make_folder(self._temporaries)
            return LocalWriter(*tempfile.mkstemp(dir=self._temporaries), self._root / name)

    @contextmanager
    def _read(self, name: str, start: int = 0, length: int | None = None) -> Iterator[Iterator[bytes]]:
        try:
            file = (self._root / name).open("rb", buffering=0)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unavailable(error) from error

        def read(size: int) -> bytes:
            with _translated():
                return file.read(size)

        with file:
            with _translated():
                end = range_end(os.fstat(file.fileno()).st_size, start, length)
                file.seek(start)
            yield read_chunks(read, end - start)

    def _remove(self, name: str) -> None:
        # Nothing is synced: a file that comes back after a power cut has no record, and the sweep removes it.
        with _translated():
            (self._root / name).unlink(missing_ok=True)

    def _move(self, source: str, target: str) -> bool:
        path = self._root / target
        with _translated():
            _make_folder(path.parent)
            try:
                (self._root / source).replace(path)
            except FileNotFoundError:
                return False
            _sync_folder(path.parent)
            return True

    def _list(self, prefix: str) -> Iterator[StoredFile]:
        with _translated():
            yield from self._walk(prefix)

    def _walk(self, prefix: str) -> Iterator[StoredFile]:
        try:
            with os.scandir(self._root / prefix) as scan:
                entries = [entry for entry in scan if not entry.name.startswith(".")]
        except FileNotFoundError:
            return
        for entry in entries:
            name = prefix + entry.name
            if entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield StoredFile(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
            elif entry.is_dir(follow_symlinks=False) and _FOLDER.fullmatch(name):
                yield from self._walk(name + "/")


class LocalWriter(FileWriter):
    """A file in the making, in a folder."""

    def __init__(self, descriptor: int, temporary: str, path: Path) -> None:
        self._file = os.fdopen(descriptor, "wb")
        self._temporary = Path(temporary)
        self._path = path

    def write(self, data: bytes) -> None:
        """Append bytes."""
        with _translated():
            self._file.write(data)

    def commit(self) -> None:
        """Make the file durable and visible."""
        with _translated():
            # The bytes before the name: a name that survives a power cut must not lead to an empty file.
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _make_folder(self._path.parent)
            self._temporary.replace(self._path)
            _sync_folder(self._path.parent)

    def close(self) -> None:
        """Remove the file unless it was committed."""
        with suppress(OSError):
            self._file.close()
        # After a commit there is no such name any more.
        with suppress(OSError):
            self._temporary.unlink()


def _make_folder(folder: Path) -> None:
    """Make a missing folder, and those above it, durably and with mode 0700."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn an OSError into StorageUnavailableError. Never used around a caller's code."""
    try:
        yield
    except OSError as error:
        raise _unavailable(error) from error


def _unavailable(error: OSError) -> StorageUnavailableError:
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return StorageUnavailableError(f"{name}: {os.strerror(error.errno) if error.errno else 'storage failed'}")
