"""One lock for each user: users never wait for each other, and no lock outlives its last holder or waiter."""

import threading

import pytest

from app.domain.ownership import UserLocks
from tests.support.parallel import in_parallel
from tests.support.processes import wait_until


@pytest.mark.parametrize("round_", range(3))
def test_threads_of_one_user_take_turns_and_leave_no_lock(round_: int) -> None:
    locks = UserLocks()
    inside, most = 0, 0

    def work(_: int) -> None:
        nonlocal inside, most
        with locks.locked("alice"):
            inside += 1
            most = max(most, inside)
            inside -= 1

    in_parallel(20, work)
    assert most == 1
    assert len(locks) == 0


@pytest.mark.parametrize("round_", range(3))
def test_different_users_do_not_wait_for_each_other(round_: int) -> None:
    locks = UserLocks()
    all_inside = threading.Barrier(10)

    def work(number: int) -> None:
        with locks.locked(f"user-{number}"):
            all_inside.wait(10)

    in_parallel(10, work)
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


def test_a_lock_with_a_waiter_stays_when_its_holder_leaves() -> None:
    """The waiter must hold the lock that a third thread then asks for, and not one that was removed."""
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
