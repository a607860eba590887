"""What every storage of this package is and checks: keys, ranges, and the protocol beyond the services' port.

`local` keeps files in a folder, `s3` in a bucket; `storage_urls` says which of them a URL names. What a file is for,
who may read it and when it may go are not known here.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from app.errors import StorageUnavailableError

MAX_CHUNK_BYTES = 1024 * 1024
MAX_KEY_SEGMENTS = 4

SEGMENT = re.compile(r"[A-Za-z0-9_-]{1,128}")

#: The name under which a storage keeps the library's id; no key can be named so.
LIBRARY_ID_NAME = ".library-id"
#: Quarantined files are at `.quarantine/<time>/<key>`; no key can begin so.
QUARANTINE = ".quarantine"
_QUARANTINE_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file, for the sweep.

    `modified_at` is when it was committed, or earlier: S3 tells when a multipart upload began. It says how young a
    file can be, and not how old it is.
    """

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class QuarantinedFile:
    """A file that the sweep has moved out of the library, and when, to the second."""

    key: str
    size: int
    quarantined_at: datetime


class Writer(Protocol):
    """What `open_writer` gives; the port `StorageWriter` says the same to the services."""

    def write(self, data: bytes) -> None:
        """Append bytes."""

    def commit(self) -> None:
        """Make the file durable and visible."""


class SweepableStorage(Protocol):
    """Everything that a storage of this package can do: the port `Storage`, health, and what the sweep needs."""

    def open_writer(self, key: str) -> AbstractContextManager[Writer]:
        """See the port."""

    def open_reader(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """See the port."""

    def delete(self, key: str) -> None:
        """See the port."""

    def ping(self) -> None:
        """Return if the storage can be written to; raises StorageUnavailableError if not."""

    def library_id(self) -> str | None:
        """The id of the library that this storage belongs to; None if none was ever written."""

    def write_library_id(self, library_id: str) -> None:
        """Keep the id durably, in place of another one."""

    def files(self) -> Iterator[StoredFile]:
        """All files that are there, in no order. One that comes or goes meanwhile may or may not be told."""

    def quarantine(self, key: str, at: datetime) -> None:
        """Move a file out of the library; without one, do nothing. `at` is when, for `quarantined`."""

    def quarantined(self) -> Iterator[QuarantinedFile]:
        """All files in quarantine, in no order."""

    def restore(self, file: QuarantinedFile) -> bool:
        """Move a file back from quarantine. False, and nothing changes, if the library has a file of this key."""

    def remove_quarantined(self, file: QuarantinedFile) -> None:
        """Remove a file from quarantine for good; without one, do nothing."""

    def remove_stale_temporaries(self, *, older_than_seconds: float, is_in_use: Callable[[str], bool]) -> int:
        """Remove what unfinished writers left and nobody has touched for that long; how many.

        Where a storage cannot tell when a writer was last at work, it asks `is_in_use` about the file's key.
        """


def has_file(storage: SweepableStorage, key: str) -> bool:
    """Return whether the storage has a file of this key. Raises StorageUnavailableError if it can't tell."""
    try:
        with storage.open_reader(key, start=0, length=0):
            return True
    except FileNotFoundError:
        return False


def quarantine_name(key: str, at: datetime) -> str:
    """Return the name of a quarantined file, below the storage's root."""
    check_key(key)
    return f"{QUARANTINE}/{at.astimezone(UTC).strftime(_QUARANTINE_TIME)}/{key}"


def read_quarantine_name(name: str) -> tuple[datetime, str]:
    """Return the time and the key that a name of `quarantine_name` holds. Raises ValueError for any other name."""
    folder, _, rest = name.partition("/")
    time, _, key = rest.partition("/")
    if folder != QUARANTINE:
        raise ValueError("not the name of a quarantined file")
    check_key(key)
    return datetime.strptime(time, _QUARANTINE_TIME).replace(tzinfo=UTC), key


def check_key(key: str) -> list[str]:
    """The segments of a storage key. Raises ValueError unless there are 1 to 4 of `[A-Za-z0-9_-]{1,128}`."""
    segments = key.split("/")
    if len(segments) > MAX_KEY_SEGMENTS or not all(SEGMENT.fullmatch(segment) for segment in segments):
        raise ValueError("not a storage key")
    return segments


def check_range(start: int, length: int | None) -> None:
    """Raises ValueError for a range that no file of any size could have."""
    if start < 0 or (length is not None and length < 0):
        raise ValueError("a range begins at 0 or after and is not negative")


def range_end(size: int, start: int, length: int | None) -> int:
    """Where a read ends in a file of `size` bytes.

    Raises StorageUnavailableError if the file is too short: callers ask for what a record promised them, so that the
    storage has lost something.
    """
    end = size if length is None else start + length
    if not start <= end <= size:
        raise StorageUnavailableError(f"the file has {size} bytes; {start} to {end} were asked for")
    return end
