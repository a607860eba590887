"""The storage in a folder, beyond what every storage does: private files, and failures of the disk."""

import errno
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.errors import StorageUnavailableError
from app.library.local import LocalStorage
from app.library.storage_urls import open_storage
from tests.support.parallel import in_parallel

KEY = "model_1-job-1"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "var" / "models")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "var" / "models"


def put(storage: LocalStorage, key: str, data: bytes) -> None:
    with storage.open_writer(key) as writer:
        writer.write(data)
        writer.commit()


def everything_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.name != ".tmp"}


def test_a_file_that_shrinks_while_it_is_read_is_a_failure_and_not_a_short_read(
    storage: LocalStorage, root: Path
) -> None:
    put(storage, KEY, b"abc")
    with storage.open_reader(KEY) as chunks:
        os.truncate(root / KEY, 1)
        assert next(chunks) == b"a"
        with pytest.raises(StorageUnavailableError):
            next(chunks)


def test_files_and_folders_are_private(storage: LocalStorage, root: Path) -> None:
    put(storage, KEY, b"abc")
    assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o600
    storage.quarantine(KEY, datetime.now(UTC))
    for folder in (root.parent, root, root / ".quarantine", root / ".tmp"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_is_directly_in_the_root_and_deleting_it_leaves_nothing(storage: LocalStorage, root: Path) -> None:
    put(storage, KEY, b"1")
    assert everything_below(root) == {KEY}
    storage.delete(KEY)
    assert everything_below(root) == set()


def test_concurrent_writers_and_deleters_do_not_disturb_each_other(storage: LocalStorage) -> None:
    def work(number: int) -> None:
        for _ in range(100):
            put(storage, f"{number}", b"x")
            storage.delete(f"{number}")

    assert in_parallel(8, work) == [None] * 8
    assert list(storage.files()) == []


def test_ping_fails_if_no_file_can_be_written_and_leaves_none(storage: LocalStorage, root: Path) -> None:
    storage.ping()
    assert everything_below(root) == set()
    root.joinpath(".tmp").rmdir()
    root.joinpath(".tmp").write_text("in the way")
    with pytest.raises(StorageUnavailableError):
        storage.ping()


def test_a_root_that_cannot_be_made_is_a_failure_of_the_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    storage = LocalStorage(tmp_path / "file" / "models")
    with pytest.raises(StorageUnavailableError), storage.open_writer(KEY):
        pass
    with pytest.raises(StorageUnavailableError):
        storage.ping()


FILLS_THE_DISK = """
import resource, sys
from pathlib import Path
from app.errors import StorageUnavailableError
from app.library.local import LocalStorage
storage = LocalStorage(Path(sys.argv[1]))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
try:
    with storage.open_writer("b") as writer:
        while True:
            writer.write(bytes(30_000))
except StorageUnavailableError as error:
    print(error.reason)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
with storage.open_writer("c") as writer:
    writer.write(bytes(200_000))
    writer.commit()
"""


def test_a_full_disk_is_a_failure_of_the_storage_and_leaves_nothing(
    storage: LocalStorage, root: Path, repository_root: Path
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, root], cwd=repository_root, check=True, capture_output=True, text=True
    )
    assert run.stdout.startswith("EFBIG")
    assert everything_below(root) == {"c"}


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_system_call_is_a_failure_of_the_storage_and_leaves_no_temporary_file(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, "the disk's own words")

    storage.ping()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageUnavailableError) as caught:
            put(storage, KEY, b"abc")
    assert caught.value.reason.startswith(errno.errorcode[code])
    assert list(root.joinpath(".tmp").iterdir()) == []
    assert list(storage.files()) == []


KILLED_BEFORE_COMMIT = """
import os, signal, sys
from pathlib import Path
from app.library.local import LocalStorage
with LocalStorage(Path(sys.argv[1])).open_writer("b") as writer:
    writer.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_before_its_commit_leaves_a_temporary_file_for_the_sweep(
    storage: LocalStorage, root: Path, repository_root: Path
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_BEFORE_COMMIT, root], cwd=repository_root, check=False)
    assert killed.returncode == -9
    assert list(storage.files()) == []
    (temporary,) = root.joinpath(".tmp").iterdir()
    assert storage.remove_stale_temporaries(older_than_seconds=3600, is_in_use=lambda _: False) == 0
    os.utime(temporary, (0, 0))
    assert storage.remove_stale_temporaries(older_than_seconds=3600, is_in_use=lambda _: False) == 1
    assert not temporary.exists()


def test_foreign_files_and_links_are_not_listed(storage: LocalStorage, root: Path) -> None:
    put(storage, "a/b", b"1234")
    put(storage, "e", b"")
    os.utime(root / "e", (1_700_000_000, 1_700_000_000))
    (root / "foreign.txt").write_text("not ours")
    (root / "a" / "link").symlink_to(root / "e")
    with storage.open_writer("f"):
        found = {file.key: file for file in storage.files()}
    assert set(found) == {"a/b", "e"}
    assert found["a/b"].size == 4
    assert found["e"].modified_at == datetime.fromtimestamp(1_700_000_000, UTC)


@pytest.mark.parametrize("name", ["my #1 模型?", "a%20b", "what?", "x?y=z", "a#b", "100%", "a b", "ü@:&;[x"])
def test_a_file_url_opens_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    # Only blanks and percent signs need to be encoded.
    for number, url in enumerate([folder.as_uri(), f"file://{folder}".replace("%", "%25").replace(" ", "%20")]):
        storage = open_storage(url)
        with storage.open_writer(f"a{number}") as writer:
            writer.write(b"1")
            writer.commit()
        assert (folder / f"a{number}").read_bytes() == b"1"
    assert [found.name for found in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("url", ["", "file://relative/x", "file:relative", "ftp://host/x", "s3://", "/plain/path"])
def test_a_url_of_another_form_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError):
        open_storage(url)


def test_a_file_that_cannot_be_opened_is_a_failure_of_the_storage(storage: LocalStorage, root: Path) -> None:
    """A link to itself exists and cannot be read."""
    root.mkdir(parents=True)
    (root / KEY).symlink_to(root / KEY)
    with pytest.raises(StorageUnavailableError), storage.open_reader(KEY):
        pass


def test_folders_deeper_than_any_key_are_not_looked_into(storage: LocalStorage, root: Path) -> None:
    """They hold nothing of ours, and a large foreign tree must not slow down every sweep."""
    put(storage, KEY, b"x")
    deep = root.joinpath(*["d"] * 12)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"y")
    assert [file.key for file in storage.files()] == [KEY]


def test_a_foreign_folder_that_may_not_be_read_is_passed_over(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume's root has lost+found, which only root may read; the tests may run as root."""
    put(storage, KEY, b"x")
    (root / "lost+found").mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [file.key for file in storage.files()] == [KEY]


def test_committing_fails_if_the_temporary_file_is_gone(storage: LocalStorage, root: Path) -> None:
    with storage.open_writer(KEY) as writer:
        writer.write(b"x")
        for path in (root / ".tmp").iterdir():
            path.unlink()
        with pytest.raises(StorageUnavailableError):
            writer.commit()
    assert not (root / KEY).exists()


def test_foreign_files_in_the_quarantine_folder_are_passed_over(storage: LocalStorage, root: Path) -> None:
    put(storage, KEY, b"x")
    storage.quarantine(KEY, datetime(2026, 1, 2, tzinfo=UTC))
    for name in (".DS_Store", "notes", "20260102T000000Z+a b", "yesterday+model"):
        (root / ".quarantine" / name).write_bytes(b"")

    assert [file.key for file in storage.quarantined()] == [KEY]
