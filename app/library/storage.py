"""Files by key: what the storages in a folder (`local`) and in a bucket (`s3`) have in common.

This module decides on the names: keys, the library's id, the quarantine. The two storages move bytes by name. What a
file is for, who may read it and when it may be removed is not known here.

A key is `<name>`, a file directly in the storage. Keys of the form `<folder>/<name>` are those of older versions; they
are still read, moved and deleted, but no longer made. A file in quarantine is `.quarantine/<time>+<key>`, with "+" for
the key's slash; older versions wrote `.quarantine/<time>/<key>`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from app.errors import StorageUnavailableError

MAX_CHUNK_BYTES = 1024 * 1024

_KEY = re.compile(r"[A-Za-z0-9_-]{1,200}(/[A-Za-z0-9_-]{1,128})?")
#: Names with a dot are not keys.
_LIBRARY_ID = ".library-id"
_QUARANTINE = ".quarantine/"
_QUARANTINE_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file.

    `modified_at` is when it was committed, or earlier: S3 reports when a multipart upload began. So a file may be
    younger than it looks.
    """

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class QuarantinedFile:
    """A file that the sweep has moved out of the library, and when, to the second. `name` is where it is now."""

    key: str
    size: int
    quarantined_at: datetime
    name: str


class FileWriter(ABC):
    """A file in the making, for one thread at a time.

    Every method but `close` raises StorageUnavailableError when the storage fails, and ValueError once the file is
    committed or closed.
    """

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Append bytes."""

    @abstractmethod
    def commit(self) -> None:
        """Make the file durable and visible, all at once.

        If this raises, the file may be there or not; without a record the sweep removes it.
        """

    @abstractmethod
    def close(self) -> None:
        """Remove the file unless it was committed. Raises nothing; the sweep removes what stays."""


class FileStorage(ABC):
    """Files by key. Implements the port `Storage`, and what health checks, pairing and the sweep need. Thread-safe.

    Every method raises ValueError for a malformed key, and StorageUnavailableError when the storage fails.
    """

    @contextmanager
    def open_writer(self, key: str) -> Iterator[FileWriter]:
        """Begin a file. Leaving the block without `commit` removes what was written."""
        with self._written(check_key(key)) as writer:
            yield writer

    def open_reader(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Read `length` bytes (None: all that follow) from `start`, in chunks of at most 1 MiB.

        On entering the block raises FileNotFoundError if there is no such file, and StorageUnavailableError if it is
        shorter than the range. A file that is deleted or replaced meanwhile is read to its end as it was.
        """
        if start < 0 or (length is not None and length < 0):
            raise ValueError("a range must not be negative")
        return self._read(check_key(key), start, length)

    def has_file(self, key: str) -> bool:
        """Return whether there is a file of this key."""
        try:
            with self.open_reader(key, length=0):
                return True
        except FileNotFoundError:
            return False

    def delete(self, key: str) -> None:
        """Remove a file. Does nothing if there is none."""
        self._remove(check_key(key))

    def library_id(self) -> str | None:
        """Return the id of the library that this storage belongs to, or None if none was ever written."""
        try:
            with self._read(_LIBRARY_ID) as chunks:
                return b"".join(chunks).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None

    def write_library_id(self, library_id: str) -> None:
        """Store the id durably, replacing another one."""
        with self._written(_LIBRARY_ID) as writer:
            writer.write(library_id.encode())
            writer.commit()

    def files(self) -> Iterator[StoredFile]:
        """Iterate over all files, in no order. A file that comes or goes meanwhile may be missing.

        Files whose name is not a key are passed over: they are not ours.
        """
        return (file for file in self._list("") if is_key(file.key))

    def quarantine(self, key: str, at: datetime) -> None:
        """Move a file out of the library and note the time `at`. Does nothing if there is no such file."""
        time = at.astimezone(UTC).strftime(_QUARANTINE_TIME)
        self._move(check_key(key), f"{_QUARANTINE}{time}+{key.replace('/', '+')}")

    def quarantined(self) -> Iterator[QuarantinedFile]:
        """Iterate over all files in quarantine, in no order."""
        for file in self._list(_QUARANTINE):
            time, _, key = file.key.removeprefix(_QUARANTINE).replace("+", "/").partition("/")
            with suppress(ValueError):  # not ours
                at = datetime.strptime(time, _QUARANTINE_TIME).replace(tzinfo=UTC)
                yield QuarantinedFile(check_key(key), file.size, at, file.key)

    def restore(self, file: QuarantinedFile) -> bool:
        """Move a file back from quarantine. Return False, and change nothing, if the library has a file of this key."""
        return not self.has_file(file.key) and self._move(file.name, file.key)

    def remove_quarantined(self, file: QuarantinedFile) -> None:
        """Remove a file from quarantine for good. Does nothing if it is gone."""
        self._remove(file.name)

    @abstractmethod
    def ping(self) -> None:
        """Return if the storage can be written to."""

    @abstractmethod
    def remove_stale_temporaries(self, *, older_than_seconds: float, is_in_use: Callable[[str], bool]) -> int:
        """Remove what unfinished writers left and nobody has touched for that long. Return how many.

        A storage that cannot tell when a writer last wrote asks `is_in_use` about the file's key.
        """

    @contextmanager
    def _written(self, name: str) -> Iterator[FileWriter]:
        writer = self._begin(name)
        try:
            yield writer
        finally:
            writer.close()

    @abstractmethod
    def _begin(self, name: str) -> FileWriter: ...

    @abstractmethod
    def _read(
        self, name: str, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Iterator[bytes]]: ...

    @abstractmethod
    def _remove(self, name: str) -> None: ...

    @abstractmethod
    def _move(self, source: str, target: str) -> bool:
        """Move a file to another name, durably. Return False if there is none."""

    @abstractmethod
    def _list(self, prefix: str) -> Iterator[StoredFile]:
        """Iterate over the files whose name begins with `prefix`; their `key` is the whole name."""


def is_key(name: str) -> bool:
    """Return whether `name` can be the key of a file."""
    return _KEY.fullmatch(name) is not None


def check_key(key: str) -> str:
    """Return `key`. Raises ValueError if it is not one."""
    if not is_key(key):
        raise ValueError("not a storage key")
    return key


def range_end(size: int, start: int, length: int | None) -> int:
    """Return where a read ends in a file of `size` bytes.

    Raises StorageUnavailableError if the file is too short: callers ask for what a record promises, so the storage has
    lost something.
    """
    end = size if length is None else start + length
    if not start <= end <= size:
        raise StorageUnavailableError(f"the file has {size} bytes; {start} to {end} were asked for")
    return end


def read_chunks(read: Callable[[int], bytes], length: int) -> Iterator[bytes]:
    """Iterate over `length` bytes in bounded chunks. Raises StorageUnavailableError if `read` returns fewer."""
    while length:
        chunk = read(min(MAX_CHUNK_BYTES, length))
        if not chunk:
            raise StorageUnavailableError("the file ended early")
        length -= len(chunk)
        yield chunk
