"""Where a stack's gateway stores its records and files, and what is really there.

`LocalStores` is SQLite and a folder, `ServerStores` PostgreSQL and S3. The looks are by connections of our own, past
the gateway.
"""

import os
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.rows import dict_row

from app.library.migrating import migrate
from tests.support.postgresql import PostgreSQL
from tests.support.s3_server import S3Server


@cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "visiona.db"
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


def make_database(path: Path) -> None:
    """Make a migrated SQLite database as a copy of one, which is much quicker than migrating an empty one."""
    path.write_bytes(_migrated_file())


class Stores(Protocol):
    """What tests ask of either kind."""

    @property
    def environment(self) -> dict[str, str]:
        """The gateway's variables that name the two."""

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows of a statement with `?` for each value. A change is committed and returns nothing."""

    def is_intact(self) -> bool:
        """Return whether the database passes its own integrity check."""

    def stored(self) -> dict[str, bytes]:
        """The finished files of the storage, by key; what begins with a dot (drafts, a mark) is no key's."""

    def temporaries(self) -> list[str]:
        """Return the files that writers have begun and not committed."""

    def age_temporaries(self, stamp: float) -> None:
        """Set the time of the last write of all temporary files, in seconds since the epoch."""

    def empty_database(self) -> None:
        """Remove everything from the database, its schema too. It must not be in use."""

    def close(self) -> None:
        """Release both."""


class LocalStores:
    """A SQLite file and a folder in the stack's directory, which ends with the test."""

    def __init__(self, directory: Path) -> None:
        self.database_path = directory / "visiona.db"
        self.storage_path = directory / "models"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "VISIONA_DATABASE_URL": f"sqlite:///{self.database_path}",
            "VISIONA_STORAGE_URL": self.storage_path.as_uri(),
        }

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.database_path, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            found = [dict(row) for row in connection.execute(statement, values)]
            connection.commit()
            return found

    def is_intact(self) -> bool:
        return self.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]

    def stored(self) -> dict[str, bytes]:
        root = self.storage_path
        found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        return {key: path.read_bytes() for key, path in found.items() if not key.startswith(".")}

    def temporaries(self) -> list[str]:
        return [path.name for path in self._temporary_paths()]

    def age_temporaries(self, stamp: float) -> None:
        for path in self._temporary_paths():
            os.utime(path, (stamp, stamp))

    def empty_database(self) -> None:
        for path in self.database_path.parent.glob(self.database_path.name + "*"):
            path.unlink()

    def close(self) -> None:
        pass

    def _temporary_paths(self) -> list[Path]:
        folder = self.storage_path / ".tmp"
        return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


class ServerStores:
    """A database and a bucket of their own at the tests' servers."""

    _PREFIX = "models/"

    def __init__(self, postgresql: PostgreSQL, s3_server: S3Server) -> None:
        self._postgresql = postgresql
        self._s3_server = s3_server
        self._bucket = s3_server.create_bucket()
        self._url = postgresql.create_database()

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self._s3_server.environment,
            "VISIONA_DATABASE_URL": self._url,
            "VISIONA_STORAGE_URL": f"s3://{self._bucket}/{self._PREFIX}",
        }

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(self._url, row_factory=dict_row, connect_timeout=10) as connection:
            cursor = connection.execute(statement.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []

    def is_intact(self) -> bool:
        # Its server is killed by no test; each table can be read.
        tables = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return bool(tables) and all(self.rows(f"SELECT count(*) FROM {table['tablename']}") for table in tables)

    def stored(self) -> dict[str, bytes]:
        client = self._s3_server.client
        found = client.list_objects_v2(Bucket=self._bucket, Prefix=self._PREFIX).get("Contents", [])
        keys = [entry["Key"] for entry in found if not entry["Key"].startswith(f"{self._PREFIX}.")]
        return {
            key.removeprefix(self._PREFIX): client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            for key in keys
        }

    def temporaries(self) -> list[str]:
        uploads = self._s3_server.client.list_multipart_uploads(Bucket=self._bucket).get("Uploads", [])
        return [upload["Key"] for upload in uploads]

    def age_temporaries(self, stamp: float) -> None:
        """Nothing to do: the server says of every upload that it was begun years ago."""

    def empty_database(self) -> None:
        self.rows("DROP SCHEMA public CASCADE")
        self.rows("CREATE SCHEMA public")

    def close(self) -> None:
        self._postgresql.drop_database(self._url)
