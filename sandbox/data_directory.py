"""The directory for what must outlive a process: keys, tokens, jobs, files.

Several processes may use one directory at once, because each service can run alone. So shared data is in SQLite, and
secrets are created exactly once. The data need not survive a power cut.
"""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS authorization_codes (
    code TEXT PRIMARY KEY, facts TEXT NOT NULL, expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS download_tokens (
    token TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT NOT NULL, object_key TEXT NOT NULL,
    method TEXT NOT NULL, expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS issued_secrets (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS gateways (url TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, model_filename TEXT NOT NULL,
    parameters TEXT NOT NULL, created_at REAL NOT NULL, duration_seconds REAL NOT NULL,
    clock_at REAL NOT NULL, clock_elapsed REAL NOT NULL, clock_speed REAL NOT NULL, forced TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_user ON jobs (user_id, number);
CREATE TABLE IF NOT EXISTS objects (
    object_key TEXT PRIMARY KEY, path TEXT NOT NULL, filename TEXT NOT NULL, size INTEGER NOT NULL,
    sha256 TEXT NOT NULL, content_type TEXT NOT NULL, modified_at REAL NOT NULL
);
"""


class DataDirectory:
    """The layout of the directory. Safe for several threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.uploads.mkdir(parents=True, exist_ok=True)
        self.jobs.mkdir(exist_ok=True)
        self.files.mkdir(exist_ok=True)
        # One process at a time: SQLite refuses two concurrent changes of the journal mode, whatever the busy timeout.
        with (self.path / "lock").open("w") as lock, closing(self._connect()) as connection:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)

    @property
    def uploads(self) -> Path:
        """Bodies that are still arriving. Files left here by a crash are unused."""
        return self.path / "uploads"

    @property
    def jobs(self) -> Path:
        """One directory per accepted job: the model, reference images, and the result once promoted."""
        return self.path / "jobs"

    @property
    def files(self) -> Path:
        """Objects that a test has put into the File Access Agent."""
        return self.path / "files"

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction with the write lock from its start, so that what it has read cannot change before it writes."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def secret(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the bytes stored under `name`; create them at first use."""
        return create_once(self.path / name, make)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path / "sandbox.sqlite3", timeout=10.0, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = OFF")
        return connection


def create_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the content of a private file; create it at first use. Concurrent callers get the same content."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(make())
        try:
            # Making a hard link is atomic, and fails if another process has created the file meanwhile.
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()
