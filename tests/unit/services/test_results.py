"""From a promoted result to a model: checked, stored completely or not at all, recorded once."""

import hashlib

import pytest

from app.clients.converter import Promotion
from app.clients.file_access import Receiver
from app.domain.model import Model
from app.errors import (
    DeadlineExceededError,
    FileServiceUnavailableError,
    GatewayError,
    LibraryFullError,
    ModelStoreUnavailableError,
    ResultCorruptError,
    StorageMismatchError,
    StorageUnavailableError,
)
from app.services.transfers import TransferKind
from tests.support.fakes import a_job, call_context
from tests.unit.services.bench import Bench

CONTENT = b"the bytes of the result"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def a_promotion(**fields: object) -> Promotion:
    values: dict[str, object] = {
        "object_key": "a/b",
        "filename": "result.nef",
        "size": len(CONTENT),
        "sha256": SHA256,
        "content_type": "application/x-nef",
    }
    return Promotion(**(values | fields))  # type: ignore[arg-type]


def keep(bench: Bench, promotion: Promotion | None = None, user_id: str = "alice", source: str = "net.onnx") -> object:
    job = a_job("job-1", "completed", parameters={"platform": "730"})
    with (
        bench.keeper.held("job:job-1", "holder", error=DeadlineExceededError) as lease,
        bench.slots.transfer(TransferKind.PULL, user_id) as transfer,
    ):
        return bench.results.pull(
            user_id,
            job,
            promotion or a_promotion(),
            source_filename=source,
            used_bytes=bench.models.bytes_of(user_id),
            lease=lease,
            transfer=transfer,
            context=call_context(),
        )


def test_a_result_becomes_a_model_with_its_bytes(bench: Bench) -> None:
    model = keep(bench)
    assert model == bench.models.models[model.id]  # type: ignore[attr-defined]
    assert bench.storage.files == {model.storage_key: CONTENT}  # type: ignore[attr-defined]
    expected = {
        "user_id": "alice",
        "source_job_id": "job-1",
        "name": "net",
        "platform": "730",
        "filename": "result.nef",
        "size": len(CONTENT),
        "sha256": SHA256,
        "content_type": "application/x-nef",
        "created_at": bench.clock(),
        "is_verified": True,
    }
    assert {name: getattr(model, name) for name in expected} == expected
    assert model.storage_key == f"{model.id}-job-1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("filename", "source", "named", "stored_as"),
    [
        (None, "net.onnx", "net", "net.nef"),
        (None, "", "job-1", "job-1.nef"),
        ("r.nef", "", "r", "r.nef"),
        ("../../evil.nef", "net.onnx", "net", "evil.nef"),
        ("..", "net.onnx", "net", "job-1.nef"),
        ("模型.nef", "網路.onnx", "網路", "模型.nef"),
    ],
)
def test_names_come_from_the_upload_and_file_names_from_the_promotion(
    bench: Bench, filename: str | None, source: str, named: str, stored_as: str
) -> None:
    model = keep(bench, a_promotion(filename=filename), source=source)
    assert (model.name, model.filename) == (named, stored_as)  # type: ignore[attr-defined]


def test_what_was_not_announced_is_not_checked(bench: Bench) -> None:
    model = keep(bench, a_promotion(size=None, sha256=None, content_type=None))
    assert (model.size, model.sha256, model.is_verified) == (len(CONTENT), SHA256, False)  # type: ignore[attr-defined]
    assert model.content_type == "application/octet-stream"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "announced", [{"size": len(CONTENT) + 1}, {"size": 0}, {"sha256": "0" * 64}], ids=["longer", "empty", "hash"]
)
def test_a_result_that_differs_from_what_was_announced_leaves_nothing(
    bench: Bench, announced: dict[str, object]
) -> None:
    with pytest.raises(ResultCorruptError):
        keep(bench, a_promotion(**announced))
    assert bench.storage.files == {}
    assert bench.models.models == {}
    assert "commit" not in bench.storage.calls


@pytest.mark.parametrize("failure", [FileServiceUnavailableError("cut"), DeadlineExceededError("late")])
def test_a_pull_that_fails_leaves_nothing(bench: Bench, failure: GatewayError) -> None:
    bench.files.failing = failure
    with pytest.raises(type(failure)):
        keep(bench)
    assert bench.storage.files == {}
    assert bench.models.models == {}


def test_a_storage_that_fails_records_nothing(bench: Bench) -> None:
    bench.storage.failing = StorageUnavailableError("disk full")
    with pytest.raises(StorageUnavailableError):
        keep(bench)
    assert bench.models.models == {}


def test_a_restarted_pull_restarts_file_and_hash_and_size(bench: Bench) -> None:
    def pull(receiver: Receiver) -> int:
        receiver.write(b"something else, and longer than the result is")
        receiver.restart()
        receiver.write(CONTENT)
        return len(CONTENT)

    bench.files.script = pull
    model = keep(bench)
    assert bench.storage.files == {model.storage_key: CONTENT}  # type: ignore[attr-defined]
    assert bench.storage.writers == 2


def test_a_job_that_already_has_a_model_gets_no_second_one(bench: Bench) -> None:
    first = keep(bench)
    second = keep(bench)
    assert second == first
    assert list(bench.storage.files) == [first.storage_key]  # type: ignore[attr-defined]
    assert bench.storage.writers == 2


def fail_to_record(bench: Bench, failure: GatewayError, *, is_recorded: bool = False) -> None:
    """Make `add` fail, before or after it has recorded the model."""
    add = bench.models.add

    def failing(model: Model, *, quota_bytes: int | None = None) -> Model:
        if is_recorded:
            add(model)
        raise failure

    bench.models.add = failing  # type: ignore[method-assign]


def test_a_model_that_may_not_be_recorded_leaves_no_file(bench: Bench) -> None:
    fail_to_record(bench, LibraryFullError(1))
    with pytest.raises(LibraryFullError):
        keep(bench)
    assert bench.storage.files == {}


@pytest.mark.parametrize("is_recorded", [False, True])
def test_the_file_stays_if_the_database_fails_while_the_model_is_recorded(bench: Bench, is_recorded: bool) -> None:
    """The commit may have succeeded and only its reply was lost, so the file must stay."""
    fail_to_record(bench, ModelStoreUnavailableError("the connection broke"), is_recorded=is_recorded)
    with pytest.raises(ModelStoreUnavailableError):
        keep(bench)
    [key] = bench.storage.files
    assert [model.storage_key for model in bench.models.models.values()] == ([key] if is_recorded else [])


def test_nothing_is_stored_while_the_storage_belongs_to_another_database(bench: Bench) -> None:
    def mismatch() -> None:
        raise StorageMismatchError("other ids")

    with pytest.raises(StorageUnavailableError):
        keep(Bench(files=bench.files, storage=bench.storage, require_pair=mismatch))
    assert (bench.files.pulls, bench.storage.calls) == (0, [])


def test_a_file_that_cannot_be_removed_does_not_hide_the_first_failure(bench: Bench) -> None:
    class Full(type(bench.models)):  # type: ignore[misc]
        def add(self, model: Model, *, quota_bytes: int | None = None) -> Model:
            raise LibraryFullError(1)

    class Sticky(type(bench.storage)):  # type: ignore[misc]
        def delete(self, key: str) -> None:
            raise StorageUnavailableError("down too")

    sticky = Bench(models=Full(), storage=Sticky())
    with pytest.raises(LibraryFullError):
        keep(sticky)
    assert len(sticky.storage.files) == 1


def test_the_lease_is_renewed_while_the_result_comes_and_once_more_before_it_is_visible(bench: Bench) -> None:
    def pull(receiver: Receiver) -> int:
        for byte in CONTENT:
            bench.monotonic.advance(10)
            receiver.write(bytes([byte]))
        return len(CONTENT)

    bench.files.script = pull
    keep(bench)
    assert len(bench.leases.renewals) == len(CONTENT) // 2 + 1


def test_a_lost_lease_stores_nothing(bench: Bench) -> None:
    def pull(receiver: Receiver) -> int:
        receiver.write(CONTENT)
        bench.leases.holders["job:job-1"] = "another"
        bench.monotonic.advance(5)
        return len(CONTENT)

    bench.files.script = pull
    with pytest.raises(DeadlineExceededError):
        keep(bench)
    assert bench.storage.files == {}
    assert bench.models.models == {}


# --- the quota


def test_a_library_is_filled_to_the_last_byte_and_no_further() -> None:
    bench = Bench(quota_bytes=len(CONTENT) + 4)
    bench.has_model("old")
    keep(bench)
    assert bench.models.bytes_of("alice") == len(CONTENT) + 4

    bench = Bench(quota_bytes=len(CONTENT) + 3)
    bench.has_model("old")
    with pytest.raises(LibraryFullError) as caught:
        keep(bench)
    assert caught.value.extensions == {"quota_bytes": len(CONTENT) + 3}
    assert bench.files.pulls == 0, "what is announced as too large is not pulled at all"


def test_an_unannounced_size_is_stopped_while_it_comes() -> None:
    bench = Bench(quota_bytes=len(CONTENT) - 1)
    with pytest.raises(LibraryFullError):
        keep(bench, a_promotion(size=None))
    assert bench.files.pulls == 1
    assert bench.storage.files == {}
    assert not bench.leases.holders


def test_two_results_that_fit_only_one_at_a_time_are_not_both_stored() -> None:
    bench = Bench(quota_bytes=len(CONTENT))

    def pull(receiver: Receiver) -> int:
        receiver.write(CONTENT)
        bench.has_model("meanwhile", size=1)
        return len(CONTENT)

    bench.files.script = pull
    with pytest.raises(LibraryFullError):
        keep(bench)
    assert list(bench.models.models) == ["meanwhile"]
    assert list(bench.storage.files) == ["key/meanwhile"]
    assert not bench.leases.holders


def test_a_full_library_concerns_its_owner_only() -> None:
    bench = Bench(quota_bytes=len(CONTENT))
    bench.has_model("old", user_id="bob", size=10_000)
    keep(bench)
    assert bench.models.bytes_of("alice") == len(CONTENT)
