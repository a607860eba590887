"""A library in the tests' own process: a real database, a real storage, a clock to turn, and the real sweep."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from app.bootstrap import Gateway, Stores, build_gateway, open_stores
from app.config import load_settings
from app.domain.model import Model, storage_key_of
from app.library.migrating import migrate
from app.services.sweep import SweepReport
from tests.api.edge import ENVIRON
from tests.support.clocks import FakeClock

HOUR = 3_600.0
DAY = 24 * HOUR
CONTENT = b"nef"


@dataclass
class Library:
    """One pair of a database and a storage, as a gateway's process sees it."""

    environment: dict[str, str]
    clock: FakeClock
    gateway: Gateway
    stores: Stores

    @property
    def folder(self) -> Path:
        """The storage's folder, where it is one."""
        return Path(urlsplit(self.environment["VISIONA_STORAGE_URL"]).path)

    def keep_model(self, *, with_file: bool = True, job_id: str | None = None) -> Model:
        """Record a model of alice's, as promoting does."""
        id_ = uuid4().hex
        job_id = job_id or f"job-{id_}"
        model = Model(
            id=id_,
            user_id="alice",
            source_job_id=job_id,
            name="net",
            platform="720",
            filename="net.nef",
            size=len(CONTENT),
            sha256="0" * 64,
            content_type="application/octet-stream",
            storage_key=storage_key_of(job_id, id_),
            created_at=self.clock(),
        )
        if with_file:
            self.store_file(model.storage_key)
        return self.stores.models.add(model)

    def store_file(self, key: str | None = None) -> str:
        """Commit a file and return its key. In a folder it is as old as the clock says; S3 uses its own clock."""
        key = key or storage_key_of(f"job-{uuid4().hex}", uuid4().hex)
        with self.stores.storage.open_writer(key) as writer:
            writer.write(CONTENT)
            writer.commit()
        if self.environment["VISIONA_STORAGE_URL"].startswith("file:"):
            stamp = self.clock().timestamp()
            os.utime(self.folder / key, (stamp, stamp))
        return key

    def has_file(self, key: str) -> bool:
        return self.stores.storage.has_file(key)

    def is_whole(self, model: Model) -> bool:
        """Return whether the model's record and its file exist."""
        return self.stores.models.find("alice", model.id) == model and self.has_file(model.storage_key)

    def sweep(self) -> SweepReport:
        """Run the sweep; every step has to succeed."""
        report = self.gateway.sweep.run()
        assert report is not None
        assert report.failed == []
        return report

    def sweep_later(self, seconds: float = 2 * HOUR) -> SweepReport:
        """Run the sweep at a time when everything is old enough for it."""
        self.clock.advance(seconds)
        return self.sweep()


@contextmanager
def open_library(database_url: str, storage_url: str, clock: FakeClock | None = None) -> Iterator[Library]:
    """Migrate the database and open both, as a gateway does at its start."""
    clock = clock or FakeClock(datetime.now(UTC))
    environment = {"VISIONA_DATABASE_URL": database_url, "VISIONA_STORAGE_URL": storage_url}
    settings = load_settings(ENVIRON | environment)
    migrate(database_url)
    stores = open_stores(settings, clock)
    try:
        yield Library(environment, clock, build_gateway(settings, stores=stores, clock=clock), stores)
    finally:
        stores.close()


@dataclass(frozen=True)
class Place:
    """A database and a storage, and others that a mistake in the settings may name."""

    database_url: str
    storage_url: str
    other_database_url: str
    other_storage_url: str

    @contextmanager
    def opened(self, clock: FakeClock | None = None, **wrong: str) -> Iterator[Library]:
        """Open the pair; `wrong` may name another `database_url` or `storage_url`."""
        place = replace(self, **wrong)
        with open_library(place.database_url, place.storage_url, clock) as library:
            yield library
