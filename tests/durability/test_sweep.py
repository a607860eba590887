"""The sweep removes what crashes leave, nothing that is in use, and runs in one process at a time."""

import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.bootstrap import build_gateway, open_stores
from app.domain.job import Job
from app.errors import ConverterUnavailableError
from app.services.deferred_writes import DeferredWrites
from app.services.leases import LeaseHolder
from app.services.library_sweep import LibrarySweep
from app.services.ownership import JobOwnership
from app.services.sweep import Sweep, SweepReport, SweepSchedule
from tests.support.fakes import FakeConverter, a_job
from tests.support.fleet import all_at_once
from tests.support.libraries import CONTENT, HOUR, Library, open_library
from tests.support.processes import wait_until

NOTHING = dict.fromkeys(
    (
        "temporary_files",
        "restored",
        "files_without_record",
        "records_without_file",
        "quarantine",
        "expired_leases",
        "forgotten_uploads",
    ),
    0,
)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """A pair: its first sweep has run."""
    with open_library(f"sqlite:///{tmp_path}/gateway.db", (tmp_path / "models").as_uri()) as library:
        library.sweep()
        yield library


def leave_temporary(library: Library, *, age_seconds: float) -> Path:
    """Leave the temporary file of a killed writer. Its age follows the system's clock."""
    folder = library.folder / ".tmp"
    before = set(folder.iterdir()) if folder.is_dir() else set()
    with library.stores.storage.open_writer("a/b"):
        [path] = set(folder.iterdir()) - before
        kept = path.with_name(uuid4().hex)
        kept.hardlink_to(path)
    stamp = time.time() - age_seconds
    os.utime(kept, (stamp, stamp))
    return kept


def sweep_with(library: Library, converter: FakeConverter) -> Sweep:
    """The library's sweep in a gateway with conversion."""
    stores, leases = library.stores, LeaseHolder(library.stores.leases, DeferredWrites())
    return Sweep(
        library=LibrarySweep(stores.models, stores.storage, stores.pair, stores.quarantine, leases, library.clock),
        ledger=stores.ledger,
        expired_leases=stores.leases,
        leases=leases,
        ownership=JobOwnership(converter, stores.ledger, DeferredWrites(), clock=library.clock),  # type: ignore[arg-type]
        clock=library.clock,
    )


def test_sweep_of_a_complete_library_removes_nothing(library: Library) -> None:
    models = [library.keep_model() for _ in range(5)]
    library.clock.advance(2 * HOUR)

    assert library.sweep().removed == NOTHING
    assert all(library.is_whole(model) for model in models)


def test_sweep_handles_old_remnants_of_every_kind_and_leaves_young_ones(library: Library) -> None:
    """What could still be in use stays for an hour, and an upload for a day. After that it is a remnant."""
    sweep = sweep_with(library, FakeConverter())

    def leave_everything() -> dict[str, Any]:
        library.stores.leases.acquire(f"job:{uuid4().hex}", "crashed", 150)
        library.stores.ledger.open_upload(uuid4().hex, "alice", library.clock())
        return {
            "file": library.store_file(),
            "model": library.keep_model(with_file=False),
            "temporary": leave_temporary(library, age_seconds=0),
        }

    kept = [library.keep_model() for _ in range(5)]
    old = leave_everything()
    assert removed_by(sweep) == NOTHING

    library.clock.advance(25 * HOUR)
    stamp = time.time() - 2 * HOUR
    os.utime(old["temporary"], (stamp, stamp))
    young = leave_everything()

    assert removed_by(sweep) == dict.fromkeys(NOTHING, 1) | {"restored": 0, "quarantine": 0}
    assert not old["temporary"].exists()
    assert young["temporary"].exists()
    assert library.stores.models.find("alice", old["model"].id) is None
    assert library.stores.models.find("alice", young["model"].id) is not None
    assert len(library.stores.ledger.pending_uploads("alice")) == 1
    assert {file.key for file in library.stores.storage.files()} == {model.storage_key for model in kept} | {
        young["file"]
    }


def removed_by(sweep: Sweep) -> dict[str, int]:
    report = sweep.run()
    assert report is not None
    assert report.failed == []
    return report.removed


def test_files_whose_names_the_gateway_does_not_make_are_never_swept(library: Library) -> None:
    """An operator's own files in the folder, or in a bucket without a prefix, are not remnants."""
    for key in ("backup/monday", "notes", f"job/{uuid4()}", uuid4().hex, f"{uuid4()}-job"):
        library.store_file(key)
    assert library.sweep_later().removed == NOTHING
    assert len(list(library.stores.storage.files())) == 5


def test_records_stay_if_the_storage_looks_lost(library: Library) -> None:
    for _ in range(30):
        library.keep_model(with_file=False)
    assert library.sweep_later().removed == NOTHING
    assert len(library.stores.models.page("alice", limit=100, after=None)) == 30


@pytest.mark.parametrize("models", [1, 8])
def test_a_library_whose_volume_was_unmounted_loses_nothing(library: Library, models: int) -> None:
    """Neither records while the files are missing, nor files when they are back."""
    kept = [library.keep_model() for _ in range(models)]
    library.clock.advance(2 * HOUR)
    volume, elsewhere = library.folder, library.folder.with_name("unmounted")
    volume.rename(elsewhere)
    meanwhile = library.keep_model()  # goes to the folder under the mount point
    library.clock.advance(2 * HOUR)
    assert library.sweep().removed == NOTHING
    volume.rename(volume.with_name("below"))
    elsewhere.rename(volume)
    library.clock.advance(2 * HOUR)
    library.sweep()
    for model in kept:
        assert library.stores.models.find("alice", model.id) is not None
        with library.stores.storage.open_reader(model.storage_key) as chunks:
            assert b"".join(chunks) == CONTENT
    assert meanwhile.id not in {model.id for model in kept}


def test_files_stay_if_the_database_looks_lost(library: Library) -> None:
    for _ in range(30):
        library.store_file()
    assert library.sweep_later().removed == NOTHING
    assert len(list(library.stores.storage.files())) == 30


def test_sweep_continues_after_a_failed_step(library: Library) -> None:
    library.stores.leases.acquire("job:x", "crashed", 150)
    library.clock.advance(2 * HOUR)
    library.folder.rename(library.folder.with_name("elsewhere"))
    library.folder.write_text("a file where the folder should be", encoding="utf-8")

    report = library.gateway.sweep.run()

    assert report is not None
    assert report.failed == ["pairing"]
    assert report.removed["expired_leases"] == 1


@pytest.mark.parametrize("turn", range(3))
def test_one_of_several_concurrent_sweeps_runs(library: Library, turn: int) -> None:
    for _ in range(3):
        library.store_file()
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


def test_a_skipped_sweep_is_tried_again_when_the_lease_has_expired(library: Library) -> None:
    """After a process was killed during its sweep, the next one does not wait for an hour."""
    library.stores.leases.acquire("sweep", "crashed", 150)
    library.store_file()
    schedule = SweepSchedule(library.gateway.sweep, every_seconds=HOUR, skipped_seconds=0.01)
    schedule.start()
    try:
        library.clock.advance(2 * HOUR)
        wait_until(lambda: not list(library.stores.storage.files()), "the orphan is swept")
    finally:
        schedule.stop()
        # What follows the files in the sweep has to give its connection back before the database is closed.
        for thread in threading.enumerate():
            if thread.name == "sweep":
                thread.join(10)


def test_a_killed_sweep_blocks_the_next_one_until_its_lease_expires(library: Library) -> None:
    library.stores.leases.acquire("sweep", "crashed", 150)

    assert library.gateway.sweep.run() is None
    library.clock.advance(timedelta(seconds=150).total_seconds())
    assert library.sweep().removed == NOTHING


def test_records_stay_if_the_paired_storage_has_lost_much_at_once(library: Library) -> None:
    """A volume that was restored from an older copy has the id and lacks what was stored since."""
    models = [library.keep_model() for _ in range(30)]
    assert library.sweep_later().removed == NOTHING
    for model in models[:12]:
        (library.folder / model.storage_key).unlink()

    assert library.sweep().removed == NOTHING
    assert all(library.stores.models.find("alice", model.id) for model in models)


@pytest.mark.parametrize(("users", "asked"), [(2, 2), (8, 3)])
def test_a_converter_that_is_down_does_not_delay_the_sweep(library: Library, users: int, asked: int) -> None:
    """Uploads without a job stay for the next sweep. After three failures the converter is not asked again."""
    stores, converter = library.stores, FakeConverter(failing=ConverterUnavailableError("down"))
    for number in range(users):
        stores.ledger.open_upload(uuid4().hex, f"user-{number}", library.clock())
    sweep = sweep_with(library, converter)
    library.clock.advance(HOUR)

    report = sweep.run()

    assert report is not None
    assert (report.removed["forgotten_uploads"], report.failed) == (0, [])
    assert len(converter.calls) == asked
    assert all(stores.ledger.pending_uploads(f"user-{number}") for number in range(users))


@pytest.mark.parametrize("response", ["runs", "does not run", "no response", "nobody to ask"])
def test_an_old_upload_is_forgotten_only_if_the_converter_runs_no_job_of_it(library: Library, response: str) -> None:
    """A converter that is down for a day must not make us forget the owners of its jobs."""
    stores = library.stores
    stores.ledger.open_upload(uuid4().hex, "alice", library.clock())
    converter = FakeConverter()
    if response == "runs":
        job: Job = a_job("job-1", created_at=library.clock())
        converter.jobs["job-1"], converter.owners["job-1"] = job, "alice"
    elif response == "no response":
        converter.failing = ConverterUnavailableError("down")
    sweep = library.gateway.sweep if response == "nobody to ask" else sweep_with(library, converter)
    library.clock.advance(25 * HOUR)

    assert removed_by(sweep)["forgotten_uploads"] == (1 if response == "does not run" else 0)
    assert (stores.ledger.find_job("alice", "job-1") is not None) == (response == "runs")
    assert len(stores.ledger.pending_uploads("alice")) == (1 if response in {"no response", "nobody to ask"} else 0)


def test_a_bug_in_a_sweep_does_not_stop_later_ones() -> None:
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
