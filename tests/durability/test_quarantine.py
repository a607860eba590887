"""Remnants stay in quarantine for seven days, where no user sees them, and a command restores them."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from app.domain.model import Model
from app.library.local import LocalStorage
from app.library.s3 import PART_BYTES
from app.library.storage import FileStorage
from tests.durability.test_library_id import run_command
from tests.support.counts import increase
from tests.support.libraries import CONTENT, DAY, HOUR, Library, open_library
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["sqlite and folder", "postgresql and s3"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Library]:
    """A pair: its first sweep has run."""
    with ExitStack() as resources:
        if request.param == "sqlite and folder":
            urls = (f"sqlite:///{tmp_path}/visiona.db", (tmp_path / "models").as_uri())
        else:
            postgresql: PostgreSQL = request.getfixturevalue("postgresql")
            database_url = postgresql.create_database()
            resources.callback(postgresql.drop_database, database_url)
            urls = (database_url, f"s3://{request.getfixturevalue('s3_bucket')}/models")
        library = resources.enter_context(open_library(*urls))
        library.sweep()
        yield library


def quarantined(storage: FileStorage) -> list[str]:
    return sorted(file.key for file in storage.quarantined())


def lose_file(library: Library, model: Model) -> None:
    library.stores.storage.delete(model.storage_key)


def test_a_file_without_record_is_in_quarantine_for_seven_days(library: Library) -> None:
    kept, key = library.keep_model(), library.store_file()
    swept = increase("visiona_swept_total", remnant="files_without_record")

    assert library.sweep_later().removed["files_without_record"] == 1
    assert swept() == 1
    assert not library.has_file(key)
    assert [file.key for file in library.stores.storage.files()] == [kept.storage_key]

    assert library.sweep_later(7 * DAY - HOUR).removed["quarantine"] == 0
    assert quarantined(library.stores.storage) == [key]
    assert library.sweep_later(2 * HOUR).removed["quarantine"] == 1
    assert quarantined(library.stores.storage) == []
    assert library.is_whole(kept)


def test_a_record_without_file_is_in_quarantine_for_seven_days_and_hidden(library: Library) -> None:
    kept, lost = library.keep_model(), library.keep_model()
    lose_file(library, lost)
    models = library.stores.models

    assert library.sweep_later().removed["records_without_file"] == 1
    assert models.find("alice", lost.id) is None
    assert models.model_ids_by_job("alice", [lost.source_job_id]) == {}
    assert models.page("alice", limit=10, after=None) == [kept]
    assert models.rename("alice", lost.id, "x") is None
    assert models.find_with_usage("alice", lost.source_job_id) == (None, kept.size)
    assert models.batch(limit=10, after_id=None) == [kept]

    assert library.sweep_later(7 * DAY - HOUR).removed["quarantine"] == 0
    assert [model for model, _ in library.stores.quarantine.records()] == [lost]
    assert library.sweep_later(2 * HOUR).removed["quarantine"] == 1
    assert library.stores.quarantine.records() == []


@pytest.mark.parametrize("how", ["by key", "--all"])
def test_a_command_restores_files_and_records(library: Library, how: str) -> None:
    model, key = library.keep_model(), library.store_file()
    lose_file(library, model)
    library.sweep_later()

    listed = run_command("quarantine", library)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [["file", key], ["record", model.storage_key]]
    assert all(line.endswith("in quarantine") for line in listed.stdout.splitlines())
    wanted = [key, model.storage_key] if how == "by key" else ["--all"]
    restored = run_command("quarantine", library, "restore", *wanted)
    assert [line.split()[-1] for line in restored.stdout.splitlines()] == ["restored", "restored"]

    assert library.has_file(key)
    assert library.stores.models.find("alice", model.id) == model
    assert run_command("quarantine", library).stdout == ""


def test_a_command_restores_only_what_is_asked_for(library: Library) -> None:
    keys = sorted(library.store_file() for _ in range(2))
    library.sweep_later()
    assert run_command("quarantine", library, "restore").returncode != 0
    run_command("quarantine", library, "restore", keys[0])
    assert library.has_file(keys[0])
    assert quarantined(library.stores.storage) == [keys[1]]


def test_a_job_whose_model_is_in_quarantine_can_be_promoted_again(library: Library) -> None:
    """The job keeps the new model. The old record is not restored beside it, and its removal changes nothing else."""
    old = library.keep_model(job_id="job-1")
    lose_file(library, old)
    library.sweep_later()

    new = library.keep_model(job_id="job-1")
    assert library.stores.models.find_by_source_job_id("alice", "job-1") == new
    restored = run_command("quarantine", library, "restore", old.storage_key)
    assert restored.stdout.strip().endswith("not restored: the library has another one")
    assert library.stores.models.page("alice", limit=10, after=None) == [new]

    library.store_file(old.storage_key)
    assert library.sweep_later(8 * DAY).removed["quarantine"] == 1
    assert library.is_whole(new)
    # The file has no record any more, and stays in quarantine for another week.
    assert library.sweep_later().removed["files_without_record"] == 1
    assert library.is_whole(new)


def test_the_next_sweep_restores_what_is_complete_again(library: Library) -> None:
    """An old copy of the database or the storage was in use for a while. It has the right id, so the sweep ran."""
    orphaned, stripped, kept = library.keep_model(), library.keep_model(), library.keep_model()
    library.stores.models.delete("alice", orphaned.id)
    lose_file(library, stripped)
    report = library.sweep_later()
    assert (report.removed["files_without_record"], report.removed["records_without_file"]) == (1, 1)

    library.stores.models.add(orphaned)
    library.store_file(stripped.storage_key)
    assert library.sweep_later(8 * DAY).removed["restored"] == 2
    assert all(library.is_whole(model) for model in (orphaned, stripped, kept))
    assert library.sweep_later().removed["restored"] == 0


def test_restoring_never_replaces_an_existing_file(library: Library) -> None:
    storage, key = library.stores.storage, f"{uuid4().hex}-job"
    content = bytes(range(256)) * (PART_BYTES // 256 + 1)
    with storage.open_writer(key) as writer:
        writer.write(content)
        writer.commit()
    storage.quarantine(key, library.clock())
    [file] = storage.quarantined()
    assert (file.key, file.size, file.quarantined_at) == (key, len(content), library.clock().replace(microsecond=0))
    library.store_file(key)
    assert not storage.restore(file)
    storage.delete(key)
    assert storage.restore(file)
    with storage.open_reader(key) as chunks:
        assert b"".join(chunks) == content
    assert not storage.restore(file)
    storage.remove_quarantined(file)
    assert list(storage.quarantined()) == []


# The second look


def test_a_file_whose_job_is_being_promoted_stays_even_if_it_looks_old(library: Library) -> None:
    """S3 dates a multipart upload by its beginning, so the file of a long pull is old before it has a record."""
    leases, models = library.stores.leases, library.stores.models
    assert leases.acquire("job:job-1", "promote", 10 * HOUR)
    model = replace(library.keep_model(with_file=False, job_id="job-1"))
    models.delete("alice", model.id)
    library.store_file(model.storage_key)

    assert library.sweep_later().removed["files_without_record"] == 0
    models.add(model)
    leases.release("job:job-1", "promote")
    assert library.sweep_later().removed["files_without_record"] == 0
    assert library.is_whole(model)


def test_a_record_that_is_added_between_the_two_checks_keeps_its_file(library: Library) -> None:
    """The promote records its model and releases its lease after the sweep has listed the files."""
    key = library.store_file()
    models = library.stores.models
    known = models.known_storage_keys

    def known_storage_keys(storage_keys: list[str]) -> frozenset[str]:
        found = known(storage_keys)
        models.known_storage_keys = known  # type: ignore[method-assign]
        model = library.keep_model(with_file=False)
        models.delete("alice", model.id)
        models.add(replace(model, storage_key=key))
        return found

    models.known_storage_keys = known_storage_keys  # type: ignore[method-assign, assignment]
    assert library.sweep_later().removed["files_without_record"] == 0
    assert library.has_file(key)


@pytest.mark.parametrize("change", ["its file is back", "it is deleted", "its job is busy"])
def test_a_record_is_checked_again_before_it_is_quarantined(library: Library, change: str) -> None:
    model = library.keep_model(with_file=False)
    all_models = library.stores.models.all

    def change_meanwhile(**options: object) -> Iterator[Model]:
        yield from all_models(**options)  # type: ignore[arg-type]
        match change:
            case "its file is back":
                library.store_file(model.storage_key)
            case "it is deleted":
                library.stores.models.delete("alice", model.id)
            case _:
                library.stores.leases.acquire(f"job:{model.source_job_id}", "promote", DAY)

    library.stores.models.all = change_meanwhile  # type: ignore[method-assign, assignment]
    assert library.sweep_later().removed["records_without_file"] == 0
    assert library.stores.quarantine.records() == []


def test_a_stale_upload_is_aborted_unless_its_job_is_being_promoted(library: Library) -> None:
    """A multipart upload that began a day ago may still be written to. Then its promote holds the lease."""
    storage = library.stores.storage
    if isinstance(storage, LocalStorage):
        return  # tells when a file was last written to
    client, bucket = storage._client, storage._bucket  # type: ignore[attr-defined]
    keys = {name: f"models/{uuid4().hex}-job-{name}" for name in ("busy", "dead")} | {"stranger": "other/data.zip"}
    for key in keys.values():
        client.create_multipart_upload(Bucket=bucket, Key=key)
    library.stores.leases.acquire("job:job-busy", "promote", 10 * DAY)
    storage._clock = library.clock  # type: ignore[attr-defined]
    assert library.sweep_later(2 * DAY).removed["temporary_files"] == 1
    left = {upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket)["Uploads"]}
    assert left == {keys["busy"], keys["stranger"]}
    assert CONTENT
