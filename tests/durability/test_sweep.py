"""The sweep removes what crashes leave, takes nothing that is alive, and runs in one process at a time."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.bootstrap import Gateway, Stores, build_gateway, open_stores
from app.config import load_settings
from app.domain.model import Model
from app.errors import ConverterUnavailableError
from app.library.migrating import migrate
from app.services.deferred_writes import DeferredWrites
from app.services.leases import LeaseKeeper
from app.services.ownership import JobOwnership
from app.services.sweep import Sweep, SweepReport, SweepSchedule
from tests.api.edge import ENVIRON
from tests.support.clocks import FakeClock
from tests.support.fakes import FakeConverter
from tests.support.fleet import all_at_once
from tests.support.processes import wait_until

HOUR = 3_600.0
NOTHING = dict.fromkeys(
    ("temporary_files", "files_without_record", "records_without_file", "expired_leases", "forgotten_uploads"), 0
)


@dataclass
class Library:
    """A real database and a real folder, with a clock to turn, and as many gateways as a test wants."""

    folder: Path
    clock: FakeClock
    gateway: Gateway
    stores: Stores

    def keep_model(self, *, with_file: bool = True) -> Model:
        id_ = uuid4().hex
        model = Model(
            id=id_,
            user_id="alice",
            source_job_id=f"job-{id_}",
            name="net",
            platform="720",
            filename="net.nef",
            size=3,
            sha256="0" * 64,
            content_type="application/octet-stream",
            storage_key=f"job-{id_}/{id_}",
            created_at=self.clock(),
        )
        if with_file:
            self.store_file(model.storage_key)
        return self.stores.models.add(model)

    def store_file(self, key: str) -> None:
        """A file that was committed now, by the test's clock."""
        with self.stores.storage.open_writer(key) as writer:
            writer.write(b"nef")
            writer.commit()
        stamp = self.clock().timestamp()
        os.utime(self.folder / "models" / key, (stamp, stamp))

    def leave_temporary(self, *, age_seconds: float) -> Path:
        """What a writer leaves that was killed. Its age is by the system's clock, which wrote the file."""
        folder = self.folder / "models" / ".tmp"
        before = set(folder.iterdir()) if folder.is_dir() else set()
        with self.stores.storage.open_writer("a/b"):
            [path] = set(folder.iterdir()) - before
            kept = path.with_name(uuid4().hex)
            kept.hardlink_to(path)
        stamp = time.time() - age_seconds
        os.utime(kept, (stamp, stamp))
        return kept

    def has_file(self, model: Model) -> bool:
        return (self.folder / "models" / model.storage_key).is_file()

    def sweep(self) -> SweepReport:
        report = self.gateway.sweep.run()
        assert report is not None
        assert report.failed == []
        return report


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    clock = FakeClock(datetime.now(UTC))
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    environ = {"VISIONA_DATABASE_URL": url, "VISIONA_STORAGE_URL": (tmp_path / "models").as_uri()}
    settings = load_settings(ENVIRON | environ)
    migrate(url)
    stores = open_stores(settings, clock)
    yield Library(tmp_path, clock, build_gateway(settings, stores=stores, clock=clock), stores)
    stores.close()


def test_sweep_of_a_whole_library_removes_nothing(library: Library) -> None:
    models = [library.keep_model() for _ in range(5)]
    library.clock.advance(2 * HOUR)

    assert library.sweep().removed == NOTHING
    assert all(library.has_file(model) for model in models)


def test_sweep_removes_old_remnants_of_every_kind_and_leaves_young_ones(library: Library) -> None:
    """What could still be under way is left; an hour later (a day, for an upload) it is a remnant, too."""

    def leave_everything() -> dict[str, Any]:
        library.store_file(f"job-{uuid4().hex}/orphan")
        library.stores.leases.acquire(f"job:{uuid4().hex}", "crashed", 150)
        library.stores.ledger.open_upload(uuid4().hex, "alice", library.clock())
        return {"model": library.keep_model(with_file=False), "temporary": library.leave_temporary(age_seconds=0)}

    kept = [library.keep_model() for _ in range(5)]
    old = leave_everything()
    assert library.sweep().removed == NOTHING

    library.clock.advance(25 * HOUR)
    stamp = time.time() - 2 * HOUR
    os.utime(old["temporary"], (stamp, stamp))
    young = leave_everything()

    assert library.sweep().removed == dict.fromkeys(NOTHING, 1)
    assert not old["temporary"].exists()
    assert young["temporary"].exists()
    assert library.stores.models.find("alice", old["model"].id) is None
    assert library.stores.models.find("alice", young["model"].id) is not None
    assert len(library.stores.ledger.pending_uploads("alice")) == 1
    assert len(list(library.stores.storage.files())) == len(kept) + 1
    assert all(library.has_file(model) for model in kept)


@pytest.mark.parametrize("models", [2, 30])
def test_records_are_left_alone_when_the_storage_looks_lost(library: Library, models: int) -> None:
    """An unmounted folder is no reason to forget what was in it."""
    for _ in range(models):
        library.keep_model(with_file=False)
    library.clock.advance(2 * HOUR)

    assert library.sweep().removed["records_without_file"] == 0
    assert len(library.stores.models.page("alice", limit=100, after=None)) == models


@pytest.mark.parametrize("models", [1, 8])
@pytest.mark.parametrize("was_swept_before", [True, False])
def test_library_whose_volume_was_unmounted_for_a_while_loses_nothing(
    library: Library, models: int, was_swept_before: bool
) -> None:
    """Neither the records while the files are elsewhere, nor the files when they are back."""
    kept = [library.keep_model() for _ in range(models)]
    if was_swept_before:
        library.sweep()
    library.clock.advance(2 * HOUR)
    volume, elsewhere = library.folder / "models", library.folder / "unmounted"
    volume.rename(elsewhere)
    meanwhile = library.keep_model()  # goes to the folder under the mount point
    library.clock.advance(2 * HOUR)
    assert library.sweep().removed == NOTHING
    volume.rename(library.folder / "below")
    elsewhere.rename(volume)
    library.clock.advance(2 * HOUR)
    library.sweep()
    for model in kept:
        assert library.stores.models.find("alice", model.id) is not None
        with library.stores.storage.open_reader(model.storage_key) as chunks:
            assert b"".join(chunks) == b"nef"
    assert meanwhile.id not in {model.id for model in kept}


def test_files_are_left_alone_when_the_database_looks_lost(library: Library) -> None:
    for number in range(30):
        library.store_file(f"job-{number}/model")
    library.clock.advance(2 * HOUR)
    assert library.sweep().removed == NOTHING
    assert len(list(library.stores.storage.files())) == 30


def test_sweep_goes_on_past_a_step_that_fails(library: Library) -> None:
    """A storage that cannot be read keeps nobody's leases."""
    library.stores.leases.acquire("job:x", "crashed", 150)
    library.clock.advance(2 * HOUR)
    (library.folder / "models").write_text("a file where the folder should be", encoding="utf-8")

    report = library.gateway.sweep.run()

    assert report is not None
    assert "files_without_record" in report.failed
    assert report.removed["expired_leases"] == 1


@pytest.mark.parametrize("turn", range(3))
def test_of_several_sweeps_at_once_one_runs(library: Library, turn: int) -> None:
    """Eight sweeps of eight gateways on one database: one does it, seven do nothing, and none waits."""
    for _ in range(3):
        library.store_file(f"job-{uuid4().hex}/orphan")
    library.clock.advance(2 * HOUR)
    under_way, others_are_done = threading.Event(), threading.Event()
    files = library.stores.storage.files

    def slow_files() -> Iterator[Any]:
        under_way.set()
        assert others_are_done.wait(10)
        yield from files()

    library.stores.storage.files = slow_files  # type: ignore[method-assign]
    settings = library.gateway.settings
    others = [open_stores(settings, library.clock) for _ in range(7)]

    def first() -> list[SweepReport | None]:
        return [library.gateway.sweep.run()]

    def second() -> list[SweepReport | None]:
        assert under_way.wait(10)
        gateways = [build_gateway(settings, stores=stores, clock=library.clock) for stores in others]
        reports = all_at_once([gateway.sweep.run for gateway in gateways])
        others_are_done.set()
        return reports

    [[done], skipped] = all_at_once([first, second])
    for stores in others:
        stores.close()

    assert skipped == [None] * 7
    assert done is not None
    assert done.removed["files_without_record"] == 3


def test_sweep_that_was_skipped_is_tried_again_when_the_lease_is_over(library: Library) -> None:
    """The schedule does not wait an hour because a process was killed at its sweep."""
    library.stores.leases.acquire("sweep", "crashed", 150)
    library.store_file(f"job-{uuid4().hex}/orphan")
    schedule = SweepSchedule(library.gateway.sweep, every_seconds=HOUR, skipped_seconds=0.01)
    schedule.start()
    try:
        library.clock.advance(2 * HOUR)
        wait_until(lambda: not list(library.stores.storage.files()), "the orphan is swept")
    finally:
        schedule.stop()


def test_sweep_that_was_killed_blocks_the_next_one_for_its_lease_only(library: Library) -> None:
    library.stores.leases.acquire("sweep", "crashed", 150)

    assert library.gateway.sweep.run() is None
    library.clock.advance(timedelta(seconds=150).total_seconds())
    assert library.sweep().removed == NOTHING


def test_records_are_left_alone_when_the_marked_storage_has_lost_much_at_once(library: Library) -> None:
    """A volume that came back from an older copy has the mark, and lacks what was stored since."""
    models = [library.keep_model() for _ in range(30)]
    library.clock.advance(2 * HOUR)
    assert library.sweep().removed == NOTHING
    for model in models[:12]:
        (library.folder / "models" / model.storage_key).unlink()

    assert library.sweep().removed == NOTHING
    assert all(library.stores.models.find("alice", model.id) for model in models)


@pytest.mark.parametrize(("users", "asked"), [(2, 2), (8, 3)])
def test_a_converter_that_is_down_does_not_hold_up_the_sweep(library: Library, users: int, asked: int) -> None:
    """Uploads whose job is unknown stay for the next time; after three failures nobody further is asked for."""
    stores, converter = library.stores, FakeConverter(failing=ConverterUnavailableError("down"))
    for number in range(users):
        stores.ledger.open_upload(uuid4().hex, f"user-{number}", library.clock())
    sweep = Sweep(
        storage=stores.storage,
        models=stores.models,
        ledger=stores.ledger,
        expired_leases=stores.leases,
        leases=LeaseKeeper(stores.leases),
        ownership=JobOwnership(converter, stores.ledger, DeferredWrites(), clock=library.clock),  # type: ignore[arg-type]
        clock=library.clock,
    )
    library.clock.advance(HOUR)

    report = sweep.run()

    assert report is not None
    assert (report.removed["forgotten_uploads"], report.failed) == (0, [])
    assert len(converter.calls) == asked
    assert all(stores.ledger.pending_uploads(f"user-{number}") for number in range(users))


def test_a_sweep_that_has_a_bug_does_not_end_all_further_ones() -> None:
    runs: list[int] = []

    class Buggy:
        def run(self) -> SweepReport:
            runs.append(len(runs))
            if len(runs) == 1:
                raise ZeroDivisionError
            return SweepReport()

    schedule = SweepSchedule(Buggy(), every_seconds=0.01)  # type: ignore[arg-type]
    schedule.start()
    wait_until(lambda: len(runs) > 2, "it is run again")
    schedule.stop()
