"""Database and storage have one library id. With a wrong one of the two, nothing is removed from either."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from app.errors import StorageMismatchError, StorageUnavailableError
from app.library.database import Database
from app.library.migrating import migrate
from app.library.pairing import PairState
from app.library.storage import StoredFile
from app.library.storage_urls import open_storage
from app.library.tables import library as library_table
from tests.api.edge import ENVIRON
from tests.support.clocks import FakeClock
from tests.support.counts import increase
from tests.support.fleet import all_at_once
from tests.support.forking import run_module
from tests.support.libraries import HOUR, Library, Place, open_library
from tests.support.postgresql import PostgreSQL
from tests.support.processes import ROOT, wait_until
from tests.support.simultaneous import ready_programs, tell_all
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["sqlite and folder", "postgresql and s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite and folder":
        database, folder = f"sqlite:///{tmp_path}/visiona.db", (tmp_path / "models").as_uri()
        yield Place(database, folder, f"sqlite:///{tmp_path}/vsiona.db", (tmp_path / "model").as_uri())
        return
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    bucket = request.getfixturevalue("s3_bucket")
    with ExitStack() as databases:
        urls = [postgresql.create_database() for _ in range(2)]
        for url in urls:
            databases.callback(postgresql.drop_database, url)
        yield Place(urls[0], f"s3://{bucket}/models", urls[1], f"s3://{bucket}/model")


def state_of(library: Library) -> PairState:
    return library.stores.pair.state()


def verify_alarm(library: Library, state: str) -> None:
    """Check that a sweep counts it, changes nothing, and is counted as partial."""
    alarms = increase("visiona_library_alarms_total", state=state)
    partial = increase("visiona_sweeps_total", outcome="partial")
    report = library.sweep_later()
    assert (report.pair, set(report.removed.values())) == (PairState(state), {0})
    assert (alarms(), partial()) == (1, 1)


def forget_pair(library: Library) -> None:
    """As in a library from before there were ids."""
    database = Database(library.environment["VISIONA_DATABASE_URL"])
    with database.write() as connection:
        connection.execute(sa.delete(library_table))
    database.dispose()
    storage = library.stores.storage
    if hasattr(storage, "_bucket"):
        storage._client.delete_object(Bucket=storage._bucket, Key=storage._prefix + ".library-id")
    else:
        (library.folder / ".library-id").unlink(missing_ok=True)


def test_a_promote_relies_on_the_databases_id_for_a_minute_and_always_reads_the_storages(place: Place) -> None:
    minute = timedelta(minutes=1)
    with place.opened() as right:
        right.sweep()
        pair, storage = right.stores.pair, right.stores.storage
        pair.require_match()
        storage.write_library_id("another")
        with pytest.raises(StorageMismatchError):
            pair.require_match(max_age=minute)
        storage.write_library_id(str(pair.database_id()[0]))
        database = Database(place.database_url)
        with database.write() as connection:
            connection.execute(sa.delete(library_table))
        database.dispose()
        right.clock.advance(59)
        pair.require_match(max_age=minute)
        right.clock.advance(1)
        with pytest.raises(StorageMismatchError):
            pair.require_match(max_age=minute)


# The wrong one of either


def test_with_a_wrong_database_no_file_is_lost(place: Place) -> None:
    """A misspelled URL leads to an empty, migrated database that knows none of the files. They must stay."""
    with place.opened() as right:
        kept = [right.keep_model() for _ in range(8)]
        assert right.sweep().pair is PairState.PAIRED

        with place.opened(right.clock, database_url=place.other_database_url) as wrong:
            verify_alarm(wrong, "mismatch")
            with pytest.raises(StorageMismatchError):
                wrong.stores.checks["storage"]()
            wrong.stores.checks["database"]()
            verify_alarm(wrong, "mismatch")

        right.stores.checks["storage"]()
        assert set(right.sweep_later().removed.values()) == {0}
        assert all(right.is_whole(model) for model in kept)


@pytest.mark.parametrize("belongs_to_another", [False, True], ids=["empty", "another library's"])
def test_with_a_wrong_storage_neither_records_nor_files_are_lost(place: Place, belongs_to_another: bool) -> None:
    """A wrong prefix, bucket or folder has none of the files. The records stay, and later so do the files."""
    with place.opened() as right, ExitStack() as others:
        kept = [right.keep_model() for _ in range(8)]
        right.sweep()
        foreign = None
        if belongs_to_another:
            other = others.enter_context(
                place.opened(right.clock, database_url=place.other_database_url, storage_url=place.other_storage_url)
            )
            foreign = other.keep_model()
            other.sweep()

        with place.opened(right.clock, storage_url=place.other_storage_url) as wrong:
            verify_alarm(wrong, "mismatch")
            with pytest.raises(StorageMismatchError):
                wrong.stores.checks["storage"]()

        assert set(right.sweep_later().removed.values()) == {0}
        assert all(right.is_whole(model) for model in kept)
        if foreign is not None:
            assert set(other.sweep_later().removed.values()) == {0}
            assert other.is_whole(foreign)


def test_a_missing_bucket_is_a_failure_and_not_a_storage_without_an_id(tmp_path: Path, s3_bucket: str) -> None:
    with open_library(f"sqlite:///{tmp_path}/visiona.db", f"s3://absent-{s3_bucket}/models") as wrong:
        report = wrong.gateway.sweep.run()
        assert report is not None
        assert (report.pair, report.failed) == (None, ["pairing"])
        with pytest.raises(StorageUnavailableError):
            wrong.stores.checks["storage"]()


def test_an_empty_database_is_not_paired_with_a_storage_that_has_files(place: Place) -> None:
    """At the first start after the upgrade neither side has an id, and the URL of the database is misspelled."""
    with place.opened() as right, place.opened(right.clock, database_url=place.other_database_url) as wrong:
        kept = [right.keep_model() for _ in range(3)]
        verify_alarm(wrong, "unpaired")
        wrong.stores.checks["storage"]()
        assert right.sweep().pair is PairState.PAIRED
        assert all(right.is_whole(model) for model in kept)
        verify_alarm(wrong, "mismatch")


class JudgedStack(Stack):
    """A stack that is up when `/readyz` says of the storage what the test expects."""

    expected = "ok"

    def _is_ready(self, url: str) -> bool:
        try:
            response = requests.get(f"{url}/readyz", timeout=5)
            return bool(response.json()["checks"]["storage"] == self.expected)
        except requests.RequestException:
            return False


def test_a_gateway_with_a_wrong_database_reports_it_and_sweeps_nothing(tmp_path: Path) -> None:
    """Workers sweep at their start, here with files that are two hours old."""
    wrong = {"VISIONA_DATABASE_URL": f"sqlite:///{tmp_path}/vsiona.db"}
    with JudgedStack(tmp_path, workers=1) as stack:
        alice = stack.signed_in("alice")
        model = stack.kept_model(alice, b"kept")
        [path] = [path for path in stack.storage_path.iterdir() if not path.name.startswith(".")]
        stamp = time.time() - 2 * HOUR
        os.utime(path, (stamp, stamp))
        stack.stop_gateway()
        log_size = stack.log_path.stat().st_size

        stack.expected = "storage_mismatch"
        stack.start_gateway(environment=wrong)
        wait_until(lambda: b"sweep.done" in stack.log_path.read_bytes()[log_size:], "the worker has swept")
        log = stack.log_path.read_text(encoding="utf-8")
        assert '"event": "library.mismatch"' in log
        assert '"code": "storage_mismatch"' in log
        assert path.read_bytes()
        stack.stop_gateway()

        stack.expected = "ok"
        stack.start_gateway()
        assert alice.get(f"/api/models/{model['id']}/file").content == path.read_bytes()


# Pairing


def test_an_empty_pair_gets_one_lasting_id_on_both_sides(place: Place) -> None:
    with place.opened() as library:
        assert state_of(library) is PairState.UNPAIRED
        library.stores.checks["storage"]()
        assert library.sweep().pair is PairState.PAIRED
        library_id, is_confirmed = library.stores.pair.database_id()
        assert is_confirmed
        assert library_id == library.stores.storage.library_id()
        library.sweep_later()
        assert library.stores.pair.database_id() == (library_id, True)


def test_an_existing_pair_is_paired_if_every_record_has_its_file(place: Place) -> None:
    with place.opened() as library:
        kept = [library.keep_model() for _ in range(3)]
        orphan = library.store_file()
        report = library.sweep_later()
        assert (report.pair, report.removed["files_without_record"]) == (PairState.PAIRED, 1)
        assert all(library.is_whole(model) for model in kept)
        assert not library.has_file(orphan)


def test_a_pair_with_a_missing_file_is_ready_and_only_paired_by_command(place: Place) -> None:
    with place.opened() as library:
        kept, lost = [library.keep_model() for _ in range(3)], library.keep_model(with_file=False)
        verify_alarm(library, "unpaired")
        library.stores.checks["storage"]()
        assert library.stores.models.find("alice", lost.id) == lost

        shown = run_command("pairing", library)
        assert "state                 unpaired\n" in shown.stdout
        assert "records without file  1\n" in shown.stdout
        done = run_command("pairing", library, "pair")
        assert (done.returncode, done.stderr) == (0, "")

        report = library.sweep_later()
        assert (report.pair, report.removed["records_without_file"]) == (PairState.PAIRED, 1)
        assert all(library.is_whole(model) for model in kept)


@pytest.mark.parametrize("without", ["database", "storage", "neither"])
def test_a_command_with_force_resolves_a_mismatch(place: Place, without: str) -> None:
    """For the restore of a database or a storage from before the pairing, after an operator has checked it."""
    with place.opened() as library:
        model = library.keep_model()
        library.sweep()
        library_id = library.stores.storage.library_id()
        if without == "database":
            forget_pair(library)
            library.stores.storage.write_library_id(str(library_id))
        else:
            forget_pair(library)
            library.stores.pair.pair()
            library_id = library.stores.pair.database_id()[0]
            library.stores.storage.write_library_id("0" * 32)
        verify_alarm(library, "mismatch")

        refused = run_command("pairing", library, "pair")
        assert refused.returncode == 1
        assert "one side only" in refused.stderr
        assert state_of(library) is PairState.MISMATCH
        assert run_command("pairing", library, "pair", "--force").returncode == 0

        assert state_of(library) is PairState.PAIRED
        assert library.stores.pair.database_id() == (library_id, True)
        assert library.sweep_later().pair is PairState.PAIRED
        assert library.is_whole(model)


ESTABLISH = """
import sys
from app.bootstrap import open_stores
from app.config import load_settings
stores = open_stores(load_settings())
print("ready", flush=True)
sys.stdin.readline()
print(stores.pair.establish(), stores.pair.database_id()[0], stores.storage.library_id(), flush=True)
stores.close()
"""


def test_replicas_that_start_at_once_agree_on_one_id(place: Place) -> None:
    """Four processes pair one empty pair at the same moment, without the lease that sweeps have."""
    migrate(place.database_url)
    environment = process_environment(
        {"VISIONA_DATABASE_URL": place.database_url, "VISIONA_STORAGE_URL": place.storage_url}
    )
    with ready_programs(ESTABLISH, [[]] * 4, environment=environment) as replicas:
        tell_all(replicas)
        responses = [replica.communicate(timeout=60)[0].splitlines()[-1].split() for replica in replicas]
    assert {response[0] for response in responses} == {"paired"}
    assert len({id_ for response in responses for id_ in response[1:]}) == 1


@pytest.mark.parametrize("turn", range(3))
def test_threads_that_pair_at_once_agree_and_never_see_a_mismatch(place: Place, turn: int) -> None:
    """Threads that only read may see an unfinished pairing, but never a mismatch."""
    with place.opened() as library:
        pair = library.stores.pair

        def look() -> PairState:
            states = {pair.state() for _ in range(20)}
            assert PairState.MISMATCH not in states
            return PairState.PAIRED

        assert set(all_at_once([pair.establish, look] * 4)) == {PairState.PAIRED}


@pytest.mark.parametrize("is_written", [False, True], ids=["before the storage", "after the storage"])
def test_an_interrupted_pairing_is_finished_and_is_not_a_mismatch(place: Place, is_written: bool) -> None:
    with place.opened() as library:
        storage, write = library.stores.storage, library.stores.storage.write_library_id

        def interrupted(library_id: str) -> None:
            if is_written:
                write(library_id)
            raise StorageUnavailableError("interrupted")

        storage.write_library_id = interrupted  # type: ignore[method-assign]
        assert library.gateway.sweep.run() is not None
        library.stores.checks["storage"]()
        proposed = library.stores.pair.database_id()
        assert proposed[0] is not None
        assert not proposed[1]

        storage.write_library_id = write  # type: ignore[method-assign]
        assert library.sweep().pair is PairState.PAIRED
        assert library.stores.pair.database_id() == (proposed[0], True)


def test_two_databases_that_pair_with_one_empty_storage_lose_nothing(place: Place) -> None:
    """One of them is wrong. One gets the storage, and the other one reports a mismatch and removes nothing."""
    with place.opened() as one, place.opened(one.clock, database_url=place.other_database_url) as other:
        all_at_once([one.stores.pair.establish, other.stores.pair.establish])
        states = [state_of(one), state_of(other)]
        assert sorted(states) == [PairState.MISMATCH, PairState.PAIRED]
        loser, winner = (one, other) if states[0] is PairState.MISMATCH else (other, one)
        model = winner.keep_model()
        verify_alarm(loser, "mismatch")
        assert winner.sweep_later().pair is PairState.PAIRED
        assert winner.is_whole(model)


def test_an_id_that_appears_while_the_records_are_compared_is_not_replaced(place: Place) -> None:
    """While a large library is compared, the right database may pair with the storage."""
    with place.opened() as library:
        storage = library.stores.storage

        def files() -> Iterator[StoredFile]:
            storage.write_library_id("f" * 32)
            return iter(())

        storage.files = files  # type: ignore[method-assign]
        assert library.sweep().pair is PairState.MISMATCH
        assert storage.library_id() == "f" * 32


def test_readiness_does_not_blame_the_storage_for_an_absent_database(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path}/a.db", (tmp_path / "models").as_uri(), "", "")
    with place.opened(FakeClock()) as library:
        library.sweep()
        (tmp_path / "a.db").write_bytes(b"not a database" * 1000)
        library.stores.checks["storage"]()


# The commands


def process_environment(environment: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VISIONA_")}
    return inherited | ENVIRON | environment


def run_command(name: str, library: Library, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_module(
        [f"app.library.{name}", *arguments],
        directory=ROOT,
        environment=process_environment(library.environment | environment),
    )


@pytest.mark.parametrize("name", ["pairing", "quarantine"])
def test_the_commands_create_no_database_for_a_misspelled_url(tmp_path: Path, name: str) -> None:
    with open_library(f"sqlite:///{tmp_path}/visiona.db", (tmp_path / "models").as_uri()) as library:
        wrong = tmp_path / "no" / "such.db"
        failed = run_command(name, library, VISIONA_DATABASE_URL=f"sqlite:///{wrong}")
        assert failed.returncode == 1
        assert "VISIONA_DATABASE_URL" in failed.stderr
        assert not wrong.parent.exists()
        assert run_command(name, library, VISIONA_OIDC_ISSUER="").returncode == 2


def test_other_processes_read_the_id_and_it_is_not_a_file_of_the_library(place: Place) -> None:
    with place.opened() as library:
        library.stores.storage.write_library_id("a" * 32)
        assert open_storage(place.storage_url).library_id() == "a" * 32
        assert list(library.stores.storage.files()) == []
