"""Slots for long transfers: a fixed number, always released."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext

import pytest

from app.errors import (
    ActiveJobConflictError,
    ConverterUnavailableError,
    GatewayError,
    StorageUnavailableError,
    TooManyRequestsError,
    UploadCapacityError,
    UploadTimeoutError,
)
from app.services.host_slots import HostSlots
from app.services.transfers import Transfer, TransferKind, TransferSlots
from app.streaming.inbound import IncompleteBodyError
from tests.support.clocks import FakeMonotonic
from tests.support.counts import Counts, increase
from tests.support.parallel import in_parallel
from tests.unit.services.bench import Bench

UPLOAD = TransferKind.UPLOAD


def slots_of(
    number: int, host: HostSlots | None = None, *, monotonic: Callable[[], float] = time.monotonic
) -> TransferSlots:
    """Return this number of slots of each kind."""
    return TransferSlots(dict.fromkeys(TransferKind, number), host, monotonic=monotonic)


def fail_inside(slots: TransferSlots) -> None:
    with slots.slot(UPLOAD):
        raise ValueError("a bug")


def test_a_slot_is_released_also_after_an_exception() -> None:
    slots = slots_of(1)
    with slots.slot(UPLOAD):
        assert slots.free[UPLOAD] == 0
    with pytest.raises(ValueError, match="a bug"):
        fail_inside(slots)
    assert slots.free[UPLOAD] == 1


def test_without_a_free_slot_the_refusal_is_immediate_and_says_when_to_retry() -> None:
    slots = slots_of(2)
    with slots.slot(UPLOAD):
        with (
            slots.slot(UPLOAD),
            pytest.raises(UploadCapacityError) as caught,
            slots.slot(UPLOAD),
        ):
            pytest.fail("a third slot of two")
        assert caught.value.retry_after_seconds == 5
        with slots.slot(UPLOAD):
            assert slots.free[UPLOAD] == 0


@pytest.mark.parametrize("round_", range(3))
def test_a_hundred_threads_get_exactly_as_many_slots_as_there_are(round_: int) -> None:
    slots = slots_of(7)
    with ExitStack() as held:
        outcomes = in_parallel(100, lambda _: held.enter_context(slots.slot(UPLOAD)))
        assert outcomes.count(None) == 7
        assert slots.free[UPLOAD] == 0
    assert slots.free[UPLOAD] == 7


@pytest.mark.parametrize("kind", TransferKind)
def test_the_slots_of_a_kind_are_for_that_kind_only(kind: TransferKind) -> None:
    slots = slots_of(1)
    with slots.slot(kind), ExitStack() as held:
        for other in set(TransferKind) - {kind}:
            held.enter_context(slots.slot(other))
        with pytest.raises(UploadCapacityError, match=kind):
            held.enter_context(slots.slot(kind))
    assert set(slots.free.values()) == {1}


ENDS: list[tuple[Exception, str, str]] = [
    (IncompleteBodyError("gone"), "aborted", "client_gone"),
    (UploadTimeoutError("stalled"), "aborted", "upload_timeout"),
    (ActiveJobConflictError("running"), "refused", "active_job_conflict"),
    (UploadCapacityError("the converter's slots are in use"), "refused", "upload_capacity"),
    (ConverterUnavailableError("503"), "failed", "converter_unavailable"),
    (StorageUnavailableError("full"), "failed", "storage_unavailable"),
    (ValueError("a bug"), "failed", "internal_error"),
]


def end_with(failure: Exception, slots: TransferSlots, kind: TransferKind) -> None:
    with slots.transfer(kind, "alice"):
        raise failure


@pytest.mark.parametrize(("failure", "outcome", "reason"), ENDS, ids=str)
def test_how_a_transfer_ended_is_counted(failure: Exception, outcome: str, reason: str) -> None:
    """A client that leaves, a refusal and a failure are counted apart. In each case the slot is free again."""
    slots = slots_of(1)
    counted = increase("visiona_transfers_total", kind="upload", outcome=outcome, reason=reason)
    all_ends = increase("visiona_transfers_total")
    with pytest.raises(type(failure)):
        end_with(failure, slots, TransferKind.UPLOAD)
    assert (counted(), all_ends()) == (1, 1)
    assert slots.free[UPLOAD] == 1
    assert Counts.here().sum("visiona_transfers_in_flight", kind="upload") == 0


def test_a_transfer_without_a_free_slot_is_counted_as_refused_and_never_in_flight() -> None:
    slots = slots_of(0)
    refused = increase("visiona_transfers_total", kind="pull", outcome="refused", reason="upload_capacity")
    timed = increase("visiona_transfer_seconds_count", kind="pull")
    with pytest.raises(UploadCapacityError):
        end_with(ValueError("not reached"), slots, TransferKind.PULL)
    assert (refused(), timed()) == (1, 0)


@pytest.mark.parametrize("kind", [TransferKind.PULL, TransferKind.LIBRARY_DOWNLOAD])
def test_a_user_has_two_transfers_of_a_kind_on_a_host(kind: TransferKind) -> None:
    """In whatever worker. Other users and kinds have shares of their own, and an ended transfer gives its back."""
    host = HostSlots(None)
    workers = slots_of(9, host), slots_of(9, host)
    refused = increase("visiona_transfers_total", kind=kind, outcome="refused", reason="too_many_requests")
    with ExitStack() as held:
        held.enter_context(workers[0].transfer(kind, "alice"))
        with workers[1].transfer(kind, "alice"):
            for worker in workers:
                with pytest.raises(TooManyRequestsError) as caught:
                    held.enter_context(worker.transfer(kind, "alice"))
                assert caught.value.retry_after_seconds == 5
            assert refused() == 2
            for other in set(TransferKind) - {kind}:
                held.enter_context(workers[0].transfer(other, "alice"))
            held.enter_context(workers[0].transfer(kind, "bob"))
        held.enter_context(workers[0].transfer(kind, "alice"))
    assert [set(worker.free.values()) for worker in workers] == [{9}, {9}]


def test_without_a_free_slot_no_share_is_held() -> None:
    host = HostSlots(None)
    for _ in range(3):
        with pytest.raises(UploadCapacityError):
            end_with(ValueError("not reached"), slots_of(0, host), TransferKind.PULL)
    with slots_of(1, host).transfer(TransferKind.PULL, "alice") as transfer:
        assert transfer.bytes == 0


def test_bytes_are_counted_while_they_pass_and_exactly() -> None:
    """A graph of a long upload is no single peak at its end."""
    clock = FakeMonotonic()
    slots = slots_of(1, monotonic=clock)
    passed = increase("visiona_transfer_bytes_total", kind="upload")
    seconds = increase("visiona_transfer_seconds_sum", kind="upload")
    with slots.transfer(TransferKind.UPLOAD, "alice") as transfer:
        assert Counts.here().sum("visiona_transfers_in_flight", kind="upload") == 1
        transfer.reached(1_000)
        assert passed() == 0
        transfer.reached(9_000_000)
        assert passed() == 9_000_000
        transfer.moved(5)
        clock.advance(40)
    assert (passed(), seconds()) == (9_000_005, 40)


@pytest.mark.parametrize("note", [Transfer.was_not_needed, Transfer.lost_client])
def test_what_is_noted_of_a_transfer_is_what_counts(note: Callable[[Transfer], None]) -> None:
    completed = increase("visiona_transfers_total", outcome="completed")
    with slots_of(1).transfer(TransferKind.PULL, "alice") as transfer:
        note(transfer)
    assert completed() == 0


def raise_from(failure: GatewayError) -> Iterator[bytes]:
    yield b"some"
    raise failure


def test_a_download_is_completed_when_its_last_byte_was_asked_past() -> None:
    """Read to the end, left in between, and failed by the storage: three different ends."""
    bench = Bench()
    bench.has_model("mine")
    model = bench.library.get("alice", "mine")
    ends = {
        outcome: increase("visiona_transfers_total", kind="library_download", outcome=outcome)
        for outcome in ("completed", "aborted", "failed")
    }
    for how in ("unread", "half", "whole"):
        file = bench.library.open_file(model)
        if how != "unread":
            next(file.chunks)
        if how == "whole":
            assert list(file.chunks) == []
        file.close()
    assert {outcome: count() for outcome, count in ends.items()} == {"completed": 1, "aborted": 2, "failed": 0}
    bench.storage.open_reader = lambda *_, **__: nullcontext(raise_from(StorageUnavailableError("gone")))  # type: ignore[assignment]
    file = bench.library.open_file(model)
    with pytest.raises(StorageUnavailableError):
        list(file.chunks)
    file.close()
    assert ends["failed"]() == 1
