"""The model library: models are visible to their owner only; deleting removes the record first."""

import pytest

from app.domain.call import CallContext, Deadline
from app.domain.model import Model
from app.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelStoreUnavailableError,
    StorageUnavailableError,
    UploadCapacityError,
)
from app.services.transfers import TransferKind
from tests.support.fakes import MemoryModels, call_context
from tests.unit.services.bench import SLOTS, Bench

NOT_MINE = ["foreign", "absent", "", "../x", "a/b", "x" * 129, "模"]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.has_model("mine")
    bench.has_model("foreign", user_id="bob")
    return bench


def test_a_model_is_visible_to_its_owner(bench: Bench) -> None:
    assert bench.library.get("alice", "mine").id == "mine"


@pytest.mark.parametrize("model_id", NOT_MINE)
def test_a_foreign_model_does_not_exist_for_any_operation(bench: Bench, model_id: str) -> None:
    before = dict(bench.models.models), dict(bench.storage.files)
    for operate in (
        lambda: bench.library.get("alice", model_id),
        lambda: bench.library.rename("alice", model_id, "new"),
        lambda: bench.library.rename("alice", model_id, "\0"),
        lambda: bench.library.delete("alice", model_id, call_context()),
    ):
        with pytest.raises(ModelNotFoundError):
            operate()
    assert (bench.models.models, bench.storage.files) == before
    assert bench.is_at_rest()


def test_a_malformed_id_is_not_even_looked_up(bench: Bench) -> None:
    with pytest.raises(ModelNotFoundError):
        bench.library.get("alice", "a/b")
    assert bench.models.calls == []


def test_a_model_is_renamed_to_a_name_that_can_be_shown(bench: Bench) -> None:
    assert bench.library.rename("alice", "mine", "  模型  第二版 ").name == "模型 第二版"
    assert bench.library.get("alice", "mine").name == "模型 第二版"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201, None, 5, [], {"a": 1}, True])
def test_a_name_that_cannot_be_shown_is_refused(bench: Bench, name: object) -> None:
    with pytest.raises(InvalidRequestError):
        bench.library.rename("alice", "mine", name)
    assert bench.library.get("alice", "mine").name == "net"


def test_a_model_is_deleted_with_its_file_under_the_lease_of_its_job(bench: Bench) -> None:
    bench.library.delete("alice", "mine", call_context())
    assert list(bench.models.models) == ["foreign"]
    assert list(bench.storage.files) == ["key/foreign"]
    assert bench.leases.calls == ["acquire", "release"]
    with pytest.raises(ModelNotFoundError):
        bench.library.delete("alice", "mine", call_context())


def test_a_promote_that_holds_the_lease_is_waited_for_until_the_deadline(bench: Bench) -> None:
    bench.leases.holders["job:job-of-mine"] = "a promote"
    with pytest.raises(DeadlineExceededError):
        bench.library.delete("alice", "mine", CallContext(Deadline(1, bench.monotonic)))
    assert "mine" in bench.models.models


def test_a_file_that_cannot_be_removed_leaves_a_model_that_is_gone(bench: Bench) -> None:
    bench.storage.failing = StorageUnavailableError("down")
    bench.library.delete("alice", "mine", call_context())
    assert "mine" not in bench.models.models


def test_a_record_that_cannot_be_removed_keeps_its_file(bench: Bench) -> None:
    bench.models.failing = ModelStoreUnavailableError("down")
    with pytest.raises(ModelStoreUnavailableError):
        bench.library.delete("alice", "mine", call_context())
    assert "key/mine" in bench.storage.files


@pytest.mark.parametrize(
    ("start", "length", "data"), [(0, None, b"data"), (1, None, b"ata"), (0, 2, b"da"), (1, 2, b"at"), (0, 0, b"")]
)
def test_a_file_is_read_in_part_or_whole_and_holds_a_slot_until_it_is_closed(
    bench: Bench, start: int, length: int | None, data: bytes
) -> None:
    file = bench.library.open_file(bench.library.get("alice", "mine"), start=start, length=length)
    assert bench.slots.free[TransferKind.LIBRARY_DOWNLOAD] == SLOTS - 1
    assert b"".join(file.chunks) == data
    assert bench.slots.free[TransferKind.LIBRARY_DOWNLOAD] == SLOTS - 1
    file.close()
    assert bench.is_at_rest()
    file.close()
    assert bench.slots.free[TransferKind.LIBRARY_DOWNLOAD] == SLOTS


def test_without_a_free_slot_no_file_is_opened(bench: Bench) -> None:
    model = bench.library.get("alice", "mine")
    bench.take_all_slots()
    with pytest.raises(UploadCapacityError):
        bench.library.open_file(model)
    assert bench.storage.calls == []
    assert bench.slots.free[TransferKind.LIBRARY_DOWNLOAD] == 0


@pytest.mark.parametrize("cause", ["missing", "down"])
def test_a_file_that_cannot_be_opened_releases_its_slot(bench: Bench, cause: str) -> None:
    model = bench.library.get("alice", "mine")
    if cause == "missing":
        bench.storage.files.clear()
    else:
        bench.storage.failing = StorageUnavailableError("down")
    with pytest.raises(StorageUnavailableError):
        bench.library.open_file(model)
    assert bench.is_at_rest()


def test_a_model_that_is_deleted_while_it_is_renamed_or_deleted_is_not_there(bench: Bench) -> None:
    """Another tab was faster, between the lookup and the change."""

    class Raced(MemoryModels):
        """A store whose models are removed right after each lookup."""

        def find(self, user_id: str, model_id: str) -> Model | None:
            found = super().find(user_id, model_id)
            self.models.pop(model_id, None)
            return found

    for operate in (
        lambda library: library.rename("alice", "mine", "new"),
        lambda library: library.delete("alice", "mine", call_context()),
    ):
        raced = Bench(models=Raced())
        raced.has_model("mine")
        with pytest.raises(ModelNotFoundError, match="meanwhile"):
            operate(raced.library)
        assert raced.is_at_rest()
