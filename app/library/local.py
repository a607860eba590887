"""Files in a local folder.

Implements the port `Storage`. A file is visible only when it is whole: it is written under a temporary name, synced,
renamed, and the folders that name it are synced too, so that after `commit` neither a crash nor a power cut takes it.

Failures of the folder become StorageUnavailableError, but only those of our own calls. What a caller raises
inside a `with` block passes as it is: the errors of `requests` are OSErrors too.
"""

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from uuid import uuid4

from app.errors import StorageUnavailableError
from app.library.storage import (
    LIBRARY_ID_NAME,
    MAX_CHUNK_BYTES,
    MAX_KEY_SEGMENTS,
    QUARANTINE,
    SEGMENT,
    QuarantinedFile,
    StoredFile,
    check_key,
    check_range,
    quarantine_name,
    range_end,
    read_quarantine_name,
)

_TEMPORARY_FOLDER = ".tmp"  # no key's segment can be named so
_COMMIT_TRIES = 20


class LocalStorage:
    """Files in one folder, which other processes of this host may share. Thread-safe, but for a single writer.

    Folders are made with mode 0700 and files with 0600. Every method raises ValueError for a malformed key, and
    StorageUnavailableError when the folder fails, for example because the disk is full.
    """

    def __init__(self, root: Path) -> None:
        """Keep files under `root`, which is made when it is first needed."""
        self._root = root
        self._temporaries = root / _TEMPORARY_FOLDER

    @contextmanager
    def open_writer(self, key: str) -> Iterator["LocalWriter"]:
        """Begin a file. Leaving the block without `commit` removes what was written."""
        path = self._path(key)
        with _translated():
            writer = LocalWriter(self._root, path, *self._make_temporary())
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def open_reader(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[Iterator[bytes]]:
        """Read `length` bytes (None: all that follow) from `start`, in chunks of at most 1 MiB.

        On entering the block raises FileNotFoundError if there is no such file, and StorageUnavailableError if it is
        shorter than the range. A file that is deleted or replaced meanwhile is read to its end as it was.
        """
        check_range(start, length)
        path = self._path(key)
        try:
            file = path.open("rb", buffering=0)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "no such file", key) from None
        except OSError as error:
            raise _unavailable(error) from error
        with file:
            with _translated():
                size = os.fstat(file.fileno()).st_size
                end = range_end(size, start, length)
                file.seek(start)
            yield _chunks(file, end - start)

    def delete(self, key: str) -> None:
        """Remove a file, and the folders that this empties; without one, do nothing.

        Nothing is synced: a file that a power cut brings back has no record, and the sweep removes it.
        """
        path = self._path(key)
        with _translated():
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                path.unlink()
            self._remove_empty_folders(path)

    def ping(self) -> None:
        """Return if a file can be written; raises StorageUnavailableError if not. Leaves nothing behind."""
        with _translated():
            _make_folders(self._root, self._temporaries)
            # The file never gets a name where the file system can do so (O_TMPFILE), and loses it at once elsewhere.
            with tempfile.TemporaryFile(dir=self._temporaries, buffering=0) as file:
                file.write(b"ping")

    def library_id(self) -> str | None:
        """The id in the folder, which goes with it when a volume is unmounted; None if there is none."""
        with _translated():
            try:
                return (self._root / LIBRARY_ID_NAME).read_text(encoding="ascii", errors="replace").strip()
            except FileNotFoundError:
                return None

    def write_library_id(self, library_id: str) -> None:
        """Keep the id durably, in place of another one."""
        with _translated():
            writer = LocalWriter(self._root, self._root / LIBRARY_ID_NAME, *self._make_temporary())
        try:
            writer.write(library_id.encode())
            writer.commit()
        finally:
            writer.close()

    def files(self) -> Iterator[StoredFile]:
        """All files that are there, in no order; the folder is not locked meanwhile.

        A name that cannot be a key's is passed over: whatever it is, it is not ours to sweep.
        """
        with _translated():
            yield from self._files_below(self._root, "")

    def _files_below(self, folder: Path, prefix: str) -> Iterator[StoredFile]:
        try:
            with os.scandir(folder) as scan:
                entries = [entry for entry in scan if SEGMENT.fullmatch(entry.name)]
        except (FileNotFoundError, NotADirectoryError):  # gone, or a file that is not ours, such as .DS_Store
            return
        for entry in entries:
            key = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if key.count("/") < MAX_KEY_SEGMENTS - 1:
                    yield from self._files_below(folder / entry.name, key + "/")
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield StoredFile(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def quarantine(self, key: str, at: datetime) -> None:
        """Move a file out of the library; without one, do nothing."""
        self._move(self._path(key), self._root / quarantine_name(key, at))

    def quarantined(self) -> Iterator[QuarantinedFile]:
        """All files in quarantine, in no order."""
        folder = self._root / QUARANTINE
        with _translated():
            try:
                times = [entry.name for entry in folder.iterdir()]
            except FileNotFoundError:
                return
            for time_name in times:
                for file in self._files_below(folder / time_name, ""):
                    with suppress(ValueError):
                        at, key = read_quarantine_name(f"{QUARANTINE}/{time_name}/{file.key}")
                        yield QuarantinedFile(key, file.size, at)

    def restore(self, file: QuarantinedFile) -> bool:
        """Move a file back from quarantine. False, and nothing changes, if the library has a file of this key."""
        path = self._path(file.key)
        with _translated():
            if path.exists():
                return False
        return self._move(self._root / quarantine_name(file.key, file.quarantined_at), path)

    def remove_quarantined(self, file: QuarantinedFile) -> None:
        """Remove a file from quarantine for good; without one, do nothing."""
        path = self._root / quarantine_name(file.key, file.quarantined_at)
        with _translated():
            path.unlink(missing_ok=True)
            self._remove_empty_folders(path)

    def _move(self, source: Path, target: Path) -> bool:
        """Rename a file durably; False if there is none."""
        with _translated():
            _make_folders(self._root, target.parent)
            try:
                source.replace(target)
            except FileNotFoundError:
                self._remove_empty_folders(target)
                return False
            _sync_folders(self._root, target)
            self._remove_empty_folders(source)
            return True

    def _remove_empty_folders(self, path: Path) -> None:
        for folder in path.parents:  # pragma: no branch - the root is always among them
            if folder == self._root:
                break
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                # Not empty: another file is in it, or a writer was faster. Such writers make it again.
                if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                    break
                raise  # pragma: no cover - a permission that was taken away meanwhile; the tests' account has all

    def remove_stale_temporaries(self, *, older_than_seconds: float, is_in_use: Callable[[str], bool]) -> int:
        """Remove the temporary files that nobody has written to for that long; how many they were.

        A writer that is at work touches its file with every write, so that an hour is safe and `is_in_use` not asked.
        """
        del is_in_use
        removed = 0
        limit = time.time() - older_than_seconds
        with _translated():
            try:
                entries = list(self._temporaries.iterdir())
            except FileNotFoundError:
                return 0
            for path in entries:
                with suppress(FileNotFoundError):
                    if path.stat(follow_symlinks=False).st_mtime < limit:
                        path.unlink()
                        removed += 1
        return removed

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*check_key(key))

    def _make_temporary(self) -> tuple[Path, int]:
        _make_folders(self._root, self._temporaries)
        path = self._temporaries / uuid4().hex
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


class LocalWriter:
    """A file in the making; made by `LocalStorage.open_writer`. For one thread at a time.

    Every method raises StorageUnavailableError when the folder fails, and ValueError once the writer is done.
    """

    def __init__(self, root: Path, path: Path, temporary: Path, descriptor: int) -> None:
        self._root = root
        self._path = path
        self._temporary = temporary
        self._descriptor: int | None = descriptor

    def write(self, data: bytes) -> None:
        """Append bytes."""
        descriptor = self._open_descriptor()
        with _translated(), memoryview(data) as view:
            written = 0
            while written < len(view):
                written += os.write(descriptor, view[written:])

    def commit(self) -> None:
        """Make the file durable and visible. It stands in place whole or not at all; only where this raises it may
        be either, and without a record the sweep removes it.
        """
        descriptor = self._open_descriptor()
        with _translated():
            # The bytes before the name: a name that survives a power cut must not lead to an empty file.
            os.fsync(descriptor)
            self._descriptor = None
            os.close(descriptor)
            self._rename()
            _sync_folders(self._root, self._path)

    def close(self) -> None:
        """Let go of the file, and remove it unless it was committed. Raises nothing; the sweep gets what stays."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)
        # After `commit` there is no such name any more.
        with suppress(OSError):
            self._temporary.unlink()

    def _rename(self) -> None:
        for tries_left in reversed(range(_COMMIT_TRIES)):  # pragma: no branch - the last try returns or raises
            try:
                _make_folders(self._root, self._path.parent)
                self._temporary.replace(self._path)
                return
            except FileNotFoundError:
                # `delete` has removed the empty folder between our two calls.
                if not tries_left or not self._temporary.exists():
                    raise

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is committed or closed")
        return self._descriptor


def _chunks(file: FileIO, length: int) -> Iterator[bytes]:
    while length:
        with _translated():
            chunk = file.read(min(MAX_CHUNK_BYTES, length))
        if not chunk:
            raise StorageUnavailableError("the file became shorter while it was read")
        length -= len(chunk)
        yield chunk


def _make_folders(root: Path, folder: Path) -> None:
    """Make `folder`, `root` above it and whatever is missing above that, all with mode 0700."""
    missing: list[Path] = []
    while not folder.is_dir():  # the root of all is one
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            if root in path.parents:
                continue
            _sync_folder(path.parent)


def _sync_folders(root: Path, path: Path) -> None:
    """Make a file's name durable.

    An entry is durable when its folder is synced, and so on up. All of them each time: a folder that is there already
    may have been made by a writer that has not come to its own sync.
    """
    for folder in path.parents:  # pragma: no branch - the root is always among them
        _sync_folder(folder)
        if folder == root:
            break


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn an OSError into StorageUnavailableError. Never around a caller's code."""
    try:
        yield
    except OSError as error:
        raise _unavailable(error) from error


def _unavailable(error: OSError) -> StorageUnavailableError:
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return StorageUnavailableError(f"{name}: {os.strerror(error.errno) if error.errno else 'storage failed'}")
