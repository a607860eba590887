"""Look at what a crash has left in the database and the files of a stopped or running gateway.

It reads the gateway's database and storage themselves, and the sandbox converter's jobs.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.bootstrap import Gateway, build_gateway, open_stores
from app.clients.retry import MATRIX, Retrier
from app.config import load_settings
from app.services.leases import TTL_SECONDS
from app.services.sweep import SweepReport
from sandbox.converter.jobs import Jobs
from sandbox.data_directory import DataDirectory
from tests.support.processes import wait_until
from tests.support.scaled_gateway import scaled
from tests.support.stack import Stack

#: Longer than anything that the sweep leaves alone because it could still be under way.
LATER = timedelta(hours=25)


@dataclass(frozen=True)
class Lease:
    """A row of the leases, and how many seconds it still holds."""

    name: str
    seconds_left: float


class Aftermath:
    """The state behind one stack's gateway."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows of a statement, by a connection of our own."""
        return self._stack.stores.rows(statement, *values)

    def is_intact(self) -> bool:
        return self._stack.stores.is_intact()

    def leases(self) -> list[Lease]:
        rows = self.rows("SELECT name, expires_at FROM leases")
        # Read after the rows: reading may wait, and a lease that was renewed meanwhile would seem to hold for too long.
        now = datetime.now(UTC)
        return [Lease(row["name"], (_time(row["expires_at"]) - now).total_seconds()) for row in rows]

    def let_leases_expire(self) -> None:
        """Make every lease expire."""
        self.rows("UPDATE leases SET expires_at = ?", "2000-01-01 00:00:00.000000")

    def stored(self) -> dict[str, bytes]:
        """Return the complete files of the storage, by key."""
        return self._stack.stores.stored()

    def temporaries(self) -> list[str]:
        return self._stack.stores.temporaries()

    def models_without_file(self) -> list[str]:
        """Return the ids of models whose file is missing or differs from the record."""
        stored = self.stored()
        found = []
        for row in self.rows("SELECT id, storage_key, size, sha256 FROM models"):
            data = stored.get(row["storage_key"], b"")
            if len(data) != row["size"] or hashlib.sha256(data).hexdigest() != row["sha256"]:
                found.append(row["id"])
        return found

    def files_without_model(self) -> list[str]:
        known = {row["storage_key"] for row in self.rows("SELECT storage_key FROM models")}
        return sorted(set(self.stored()) - known)

    def jobs_at_the_converter(self, user_id: str) -> list[str]:
        """Return the ids of all jobs that the converter has made for a user, the newest first."""
        return [job.job_id for job in Jobs(DataDirectory(self._stack.sandbox.data)).of_user(user_id)]

    def sweep(self, *, later: timedelta = LATER) -> SweepReport:
        """Sweep in this process, on the gateway's own database and files, as if it were that much later.

        Wait for a worker that sweeps: each does so when it has started.
        """
        self._stack.stores.age_temporaries(time.time() - later.total_seconds())
        with opened_gateway(self._stack, later=later) as gateway:
            return wait_until(gateway.sweep.run, "no worker sweeps")


@contextmanager
def opened_gateway(stack: Stack, *, later: timedelta = timedelta(), try_seconds: float = 2.0) -> Iterator[Gateway]:
    """Open the gateway's services in this process, on the stack's database, files and sandbox, at a later time of day.

    No try of an upstream call takes longer than `try_seconds`.
    """
    environment = stack.environment()
    settings = load_settings(environment)

    def clock() -> datetime:
        return datetime.now(UTC) + later

    with pytest.MonkeyPatch.context() as ours:
        # boto3 finds its server by variables, when its client is made.
        for name in filter(lambda name: name.startswith("AWS_"), environment):
            ours.setenv(name, environment[name])
        stores = open_stores(settings, clock)
    retrier = Retrier(scaled(MATRIX, try_seconds=try_seconds, wait_factor=0.02))
    try:
        yield build_gateway(settings, stores=stores, retrier=retrier, clock=clock)
    finally:
        stores.close()


def _time(value: str | datetime) -> datetime:
    """Parse a time of the database. SQLite stores text in UTC without a zone."""
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value


def verify_leases(aftermath: Aftermath) -> None:
    """Raise AssertionError if a lease holds for longer than its time to live."""
    too_long = [lease for lease in aftermath.leases() if lease.seconds_left > TTL_SECONDS]
    assert not too_long, too_long
