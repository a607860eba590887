"""The register of objects: which file a key names, and its metadata.

The converter adds an object when a job is promoted. A test may add or remove objects, too.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox.data_directory import DataDirectory


@dataclass(frozen=True)
class StoredObject:
    """A file under its key; `path` is relative to the data directory."""

    object_key: str
    path: str
    filename: str
    size: int
    sha256: str
    content_type: str
    modified_at: float

    @property
    def etag(self) -> str:
        return f'"{self.sha256[:32]}"'


class Objects:
    """The register of objects. Safe for several threads and processes."""

    def __init__(self, data: DataDirectory) -> None:
        self._data = data

    def find(self, object_key: str) -> StoredObject | None:
        with self._data.reading() as database:
            row = database.execute("SELECT * FROM objects WHERE object_key = ?", (object_key,)).fetchone()
        return None if row is None else StoredObject(**row)

    def path_of(self, stored: StoredObject) -> Path:
        return self._data.path / stored.path

    def add(self, stored: StoredObject) -> None:
        """Register an existing file; it replaces the earlier object of the key."""
        with self._data.writing() as database:
            database.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    stored.object_key,
                    stored.path,
                    stored.filename,
                    stored.size,
                    stored.sha256,
                    stored.content_type,
                    stored.modified_at,
                ),
            )

    def put(self, object_key: str, chunks: Iterable[bytes], content_type: str) -> StoredObject:
        """Store the bytes under the key. Readers see the old object or the new one, nothing in between."""
        path = self._data.files / secrets.token_hex(16)
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            size = file.tell()
        relative = os.fspath(path.relative_to(self._data.path))
        filename = object_key.rpartition("/")[2]
        stored = StoredObject(object_key, relative, filename, size, digest.hexdigest(), content_type, time.time())
        self.add(stored)
        return stored

    def remove(self, object_key: str) -> None:
        with self._data.writing() as database:
            database.execute("DELETE FROM objects WHERE object_key = ?", (object_key,))
