"""The ownership map and the users' locks: a cache that never says more than it was told, and locks that vanish."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.domain.ownership import OwnershipMap, UserLocks
from tests.support.processes import wait_until


def test_the_map_says_yes_for_exactly_what_was_put_in() -> None:
    owners = OwnershipMap()
    assert not owners.owns("alice", "job-1")
    owners.remember("alice", "job-1")
    assert owners.owns("alice", "job-1")
    assert not owners.owns("bob", "job-1")
    assert not owners.owns("alice", "job-2")


def test_what_was_forgotten_is_asked_for_again() -> None:
    owners = OwnershipMap()
    owners.remember("alice", "job-1")
    owners.forget("job-1")
    owners.forget("job-1")
    assert not owners.owns("alice", "job-1")
    assert len(owners) == 0


def test_the_map_is_bounded_and_forgets_what_was_used_least_recently() -> None:
    owners = OwnershipMap(most=2)
    owners.remember("alice", "job-1")
    owners.remember("alice", "job-2")
    assert owners.owns("alice", "job-1")
    owners.remember("alice", "job-3")
    assert len(owners) == 2
    assert owners.owns("alice", "job-1")
    assert not owners.owns("alice", "job-2")


@pytest.mark.parametrize("round_", range(3))
def test_one_users_threads_take_turns_and_the_lock_vanishes(round_: int) -> None:
    locks = UserLocks()
    inside, most = 0, 0
    together = threading.Barrier(20)

    def work(_: int) -> None:
        nonlocal inside, most
        together.wait()
        with locks.locked("alice"):
            inside += 1
            most = max(most, inside)
            inside -= 1

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(20)))
    assert most == 1
    assert len(locks) == 0


@pytest.mark.parametrize("round_", range(3))
def test_different_users_do_not_wait_for_each_other(round_: int) -> None:
    locks = UserLocks()
    all_inside = threading.Barrier(10)

    def work(number: int) -> None:
        with locks.locked(f"user-{number}"):
            all_inside.wait(10)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, range(10)))
    assert len(locks) == 0


def fail_inside(locks: UserLocks) -> None:
    with locks.locked("alice"):
        raise ValueError("a bug")


def test_a_failing_holder_leaves_no_lock() -> None:
    locks = UserLocks()
    with pytest.raises(ValueError, match="a bug"):
        fail_inside(locks)
    assert len(locks) == 0
    with locks.locked("alice"):
        pass


def test_a_lock_that_somebody_waits_for_stays_when_its_holder_leaves() -> None:
    """The one who waits must hold the lock that a third one then asks for, and not one that has been forgotten."""
    locks, order = UserLocks(), list[str]()
    waits, may_go = threading.Event(), threading.Event()

    def second() -> None:
        waits.set()
        with locks.locked("alice"):
            order.append("second")
            assert may_go.wait(10)

    with locks.locked("alice"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        wait_until(lambda: locks._locks["alice"].users == 2, "the second one waits")
        order.append("first")
    wait_until(lambda: order == ["first", "second"], "the second one has it")
    assert len(locks) == 1
    may_go.set()
    thread.join(10)
    assert len(locks) == 0
