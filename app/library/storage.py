"""What every storage of this package is and checks: keys, ranges, and the protocol beyond the services' port.

`local` keeps files in a folder, `s3` in a bucket; `storage_urls` says which of them a URL names. What a file is for,
who may read it and when it may go are not known here.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.errors import StorageUnavailableError

MAX_CHUNK_BYTES = 1024 * 1024
MAX_KEY_SEGMENTS = 4

SEGMENT = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is there, for the sweep. `modified_at` is when it was committed."""

    key: str
    size: int
    modified_at: datetime


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

    def is_marked(self) -> bool:
        """Did `mark` mark this storage? False for an empty folder in its place."""

    def mark(self) -> None:
        """Mark this storage as the one that the records are about. May be repeated."""

    def files(self) -> Iterator[StoredFile]:
        """All files that are there, in no order. One that comes or goes meanwhile may or may not be told."""

    def remove_stale_temporaries(self, *, older_than_seconds: float) -> int:
        """Remove what unfinished writers left and nobody has touched for that long; how many."""


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
