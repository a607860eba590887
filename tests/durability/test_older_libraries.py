"""A library that an older version made: its files have other names, and everything works with them as well.

Today a file is called `<model>-<job>`, and in quarantine `<time>+<model>-<job>`. Before, the names were `<job>/<model>`
and `<time>/<job>/<model>`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.call import CallContext, Deadline
from app.domain.model import Model
from tests.durability.test_library_id import run_command
from tests.support.clocks import FakeClock
from tests.support.libraries import CONTENT, DAY, HOUR, Library, open_library
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.timeout(120)

MODEL_ID = "10f84dbbde254d3db1729f631646f301"
KEPT = f"job-kept/{MODEL_ID}"
ORPHAN = "job-late/11111111111111111111111111111111"
QUARANTINED = "job-orphan/00000000000000000000000000000000"
QUARANTINED_FOR = timedelta(days=3)


@pytest.fixture(params=["sqlite and folder", "postgresql and s3"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Library]:
    """A model, a file that a crash left, and a file that was quarantined three days ago."""
    now = datetime.now(UTC)
    names = [KEPT, ORPHAN, f".quarantine/{now - QUARANTINED_FOR:%Y%m%dT%H%M%SZ}/{QUARANTINED}"]
    with ExitStack() as resources:
        if request.param == "sqlite and folder":
            urls = (f"sqlite:///{tmp_path}/visiona.db", (tmp_path / "models").as_uri())
            write = folder_writer(tmp_path / "models")
        else:
            postgresql: PostgreSQL = request.getfixturevalue("postgresql")
            database_url = postgresql.create_database()
            resources.callback(postgresql.drop_database, database_url)
            bucket, client = request.getfixturevalue("s3_bucket"), request.getfixturevalue("s3_server").client
            urls = (database_url, f"s3://{bucket}/models")
            write = lambda name: client.put_object(Bucket=bucket, Key=f"models/{name}", Body=CONTENT)  # noqa: E731
        library = resources.enter_context(open_library(*urls, FakeClock(now)))
        library.sweep()
        for name in names:
            write(name)
        library.stores.models.add(model())
        yield library


def folder_writer(root: Path) -> Callable[[str], object]:
    def write(name: str) -> None:
        path = root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(CONTENT)

    return write


def model() -> Model:
    return Model(
        id=MODEL_ID,
        user_id="alice",
        source_job_id="job-kept",
        name="net",
        platform="720",
        filename="net.nef",
        size=len(CONTENT),
        sha256="0" * 64,
        content_type="application/octet-stream",
        storage_key=KEPT,
        created_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
    )


def test_a_model_is_read_and_deleted_as_before(library: Library) -> None:
    models = library.gateway.library
    file = models.open_file(models.get("alice", MODEL_ID))
    assert b"".join(file.chunks) == CONTENT
    file.close()
    models.delete("alice", MODEL_ID, CallContext(Deadline(10)))
    assert not library.has_file(KEPT)
    assert [file.key for file in library.stores.storage.files()] == [ORPHAN]


def test_the_sweep_knows_old_and_new_files_alike(library: Library) -> None:
    """It leaves the model alone, quarantines the file without a record, and removes both from quarantine in time."""
    new_model, new_orphan = library.keep_model(), library.store_file()

    removed = library.sweep_later().removed
    assert (removed["files_without_record"], removed["records_without_file"], removed["quarantine"]) == (2, 0, 0)
    assert all(library.is_whole(one) for one in (model(), new_model))
    assert keys_in_quarantine(library) == {ORPHAN, QUARANTINED, new_orphan}

    assert library.sweep_later(5 * DAY - 2 * HOUR).removed["quarantine"] == 1
    assert keys_in_quarantine(library) == {ORPHAN, new_orphan}
    assert library.sweep_later(4 * DAY).removed["quarantine"] == 2
    assert keys_in_quarantine(library) == set()
    assert all(library.is_whole(one) for one in (model(), new_model))


def test_a_file_whose_job_is_being_promoted_stays(library: Library) -> None:
    assert library.stores.leases.acquire("job:job-late", "promote", 10 * HOUR)
    assert library.sweep_later().removed["files_without_record"] == 0
    assert library.has_file(ORPHAN)


def test_a_missing_file_sends_its_record_to_quarantine_and_both_come_back(library: Library) -> None:
    library.stores.storage.quarantine(KEPT, library.clock())
    assert library.sweep_later().removed["restored"] == 1, "the file of a record comes back"
    assert library.is_whole(model())
    library.stores.storage.delete(KEPT)
    assert library.sweep_later().removed["records_without_file"] == 1
    assert library.stores.models.find("alice", MODEL_ID) is None


def test_a_command_brings_files_back_that_were_quarantined_before_and_after_the_upgrade(library: Library) -> None:
    library.sweep_later()
    listed = run_command("quarantine", library).stdout.splitlines()
    assert {line.split()[1] for line in listed} == {ORPHAN, QUARANTINED}
    restored = run_command("quarantine", library, "restore", ORPHAN, QUARANTINED).stdout.splitlines()
    assert [line.split()[-1] for line in restored] == ["restored", "restored"]
    assert {file.key for file in library.stores.storage.files()} == {KEPT, ORPHAN, QUARANTINED}
    assert keys_in_quarantine(library) == set()


def keys_in_quarantine(library: Library) -> set[str]:
    return {file.key for file in library.stores.storage.quarantined()}
