"""Holding a lease: renewed when due, always released, and a failure if it is lost."""

import pytest

from app.domain.call import Deadline
from app.errors import DeadlineExceededError, ModelStoreUnavailableError, UploadInProgressError
from app.services.deferred_writes import DeferredWrites
from app.services.leases import LeaseHolder
from tests.support.clocks import FakeMonotonic, FakeSleep
from tests.support.fakes import MemoryLeases


@pytest.fixture
def leases() -> MemoryLeases:
    return MemoryLeases()


@pytest.fixture
def clock() -> FakeMonotonic:
    return FakeMonotonic()


@pytest.fixture
def sleep(clock: FakeMonotonic) -> FakeSleep:
    return FakeSleep(clock)


@pytest.fixture
def writes() -> DeferredWrites:
    return DeferredWrites()


@pytest.fixture
def keeper(leases: MemoryLeases, writes: DeferredWrites, clock: FakeMonotonic, sleep: FakeSleep) -> LeaseHolder:
    return LeaseHolder(leases, writes, monotonic=clock, sleep=sleep)


def hold(keeper: LeaseHolder) -> None:
    with keeper.held("upload:alice", "one", error=UploadInProgressError):
        pass


def fail_inside(keeper: LeaseHolder) -> None:
    with keeper.held("upload:alice", "one", error=UploadInProgressError):
        raise ValueError("a bug")


def test_a_lease_is_held_during_the_block_and_released(keeper: LeaseHolder, leases: MemoryLeases) -> None:
    with keeper.held("upload:alice", "one", error=UploadInProgressError):
        assert leases.holders == {"upload:alice": "one"}
        assert keeper.is_held("upload:alice")
    assert leases.holders == {}
    assert not keeper.is_held("upload:alice")


def test_a_lease_is_released_when_the_work_fails(keeper: LeaseHolder, leases: MemoryLeases) -> None:
    with pytest.raises(ValueError, match="a bug"):
        fail_inside(keeper)
    assert leases.holders == {}


def test_another_holders_lease_is_refused_and_left_alone(keeper: LeaseHolder, leases: MemoryLeases) -> None:
    leases.holders["upload:alice"] = "another"
    with pytest.raises(UploadInProgressError):
        hold(keeper)
    assert leases.holders == {"upload:alice": "another"}


def test_a_lease_is_renewed_every_twenty_seconds_of_progress(
    keeper: LeaseHolder, leases: MemoryLeases, clock: FakeMonotonic
) -> None:
    with keeper.held("upload:alice", "one", error=UploadInProgressError) as lease:
        clock.advance(19.999)
        lease.renew()
        assert len(leases.renewals) == 0
        clock.advance(0.001)
        lease.renew()
        lease.renew()
        assert len(leases.renewals) == 1
        clock.advance(20)
        lease.renew()
        assert len(leases.renewals) == 2


def test_before_a_long_step_a_lease_is_renewed_unless_it_is_young(
    keeper: LeaseHolder, leases: MemoryLeases, clock: FakeMonotonic
) -> None:
    with keeper.held("upload:alice", "one", error=UploadInProgressError) as lease:
        clock.advance(4.999)
        lease.renew(is_before_long_step=True)
        assert len(leases.renewals) == 0
        clock.advance(0.001)
        lease.renew(is_before_long_step=True)
        lease.renew(is_before_long_step=True)
        assert len(leases.renewals) == 1


def test_a_lost_lease_raises_what_acquiring_it_would_have_raised(
    keeper: LeaseHolder, leases: MemoryLeases, clock: FakeMonotonic
) -> None:
    with keeper.held("upload:alice", "one", error=UploadInProgressError) as lease:
        leases.holders["upload:alice"] = "another"
        lease.renew()  # not due yet
        clock.advance(20)
        with pytest.raises(UploadInProgressError) as caught:
            lease.renew()
        assert "alice" not in caught.value.reason
    assert leases.holders == {"upload:alice": "another"}


def test_while_the_database_is_down_the_lease_is_ours_until_it_expires(
    keeper: LeaseHolder, leases: MemoryLeases, clock: FakeMonotonic
) -> None:
    with keeper.held("upload:alice", "one", error=UploadInProgressError) as lease:
        leases.failing = ModelStoreUnavailableError("down")
        clock.advance(149.999)
        lease.renew()
        clock.advance(0.001)
        with pytest.raises(ModelStoreUnavailableError):
            lease.renew()
        leases.failing = None


def test_a_failed_renewal_is_retried_after_a_pause(
    keeper: LeaseHolder, leases: MemoryLeases, clock: FakeMonotonic
) -> None:
    """A body of many small chunks must not query a database that is down for each of them."""
    with keeper.held("upload:alice", "one", error=UploadInProgressError) as lease:
        leases.failing = ModelStoreUnavailableError("down")
        before = leases.calls.count("renew")
        clock.advance(20)
        for _ in range(100):
            lease.renew()
        assert leases.calls.count("renew") - before == 1
        clock.advance(4.9)
        lease.renew()
        assert leases.calls.count("renew") - before == 1
        clock.advance(0.1)
        lease.renew()
        assert leases.calls.count("renew") - before == 2
        leases.failing = None
        clock.advance(5)
        lease.renew()
        lease.renew()
        assert leases.calls.count("renew") - before == 3


def test_a_lease_that_cannot_be_released_is_released_in_the_background(
    keeper: LeaseHolder, leases: MemoryLeases, writes: DeferredWrites
) -> None:
    """The outcome of the work is not hidden, and its user does not have to wait until the lease expires."""
    with keeper.held("upload:alice", "one", error=UploadInProgressError):
        leases.failing = ModelStoreUnavailableError("down")
    assert not writes.flush()
    assert leases.holders == {"upload:alice": "one"}
    leases.failing = None
    assert writes.flush()
    assert leases.holders == {}


def test_a_late_release_leaves_the_next_holder_alone(
    keeper: LeaseHolder, leases: MemoryLeases, writes: DeferredWrites
) -> None:
    with keeper.held("upload:alice", "one", error=UploadInProgressError):
        leases.failing = ModelStoreUnavailableError("down")
    leases.failing = None
    leases.holders["upload:alice"] = "another"
    assert writes.flush()
    assert leases.holders == {"upload:alice": "another"}


def test_no_lease_is_acquired_while_the_database_is_down(keeper: LeaseHolder, leases: MemoryLeases) -> None:
    leases.failing = ModelStoreUnavailableError("down")
    with pytest.raises(ModelStoreUnavailableError):
        hold(keeper)


def test_a_lease_acquired_without_a_reply_is_released_in_the_background(
    keeper: LeaseHolder, leases: MemoryLeases, writes: DeferredWrites
) -> None:
    """The database has committed the lease, but its reply was lost."""
    leases.failing = ModelStoreUnavailableError("the response was lost")
    with pytest.raises(ModelStoreUnavailableError):
        hold(keeper)
    leases.holders["upload:alice"] = "one"
    leases.failing = None
    assert writes.flush()
    assert leases.holders == {}


def test_a_waiter_gets_the_lease_once_it_is_free(
    leases: MemoryLeases, writes: DeferredWrites, clock: FakeMonotonic, sleep: FakeSleep
) -> None:
    leases.holders["job:1"] = "another"

    def free_after_three(seconds: float) -> None:
        sleep(seconds)
        if len(sleep.waits) == 3:
            leases.holders.clear()

    keeper = LeaseHolder(leases, writes, monotonic=clock, sleep=free_after_three)
    with keeper.awaited("job:1", "one", Deadline(60, clock)):
        assert leases.holders == {"job:1": "one"}
    assert sleep.waits == [0.2, 0.2, 0.2]
    assert leases.holders == {}


def await_it(keeper: LeaseHolder, deadline: Deadline) -> None:
    with keeper.awaited("job:1", "one", deadline):
        pass


def test_waiting_for_a_lease_ends_with_the_deadline(
    keeper: LeaseHolder, leases: MemoryLeases, clock: FakeMonotonic, sleep: FakeSleep
) -> None:
    leases.holders["job:1"] = "another"
    with pytest.raises(DeadlineExceededError):
        await_it(keeper, Deadline(1.1, clock))
    assert sleep.waits == [0.2] * 5
    assert leases.holders == {"job:1": "another"}
