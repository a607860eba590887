"""Which worker leaves a new connection to others, and for how long. Over sockets: integration/test_capacity.py."""

from app.server.balance import TOLERATED_DIFFERENCE, Loads


def loads_of(*requests: int, full: tuple[int, ...] = ()) -> Loads:
    """Return the loads of workers 1, 2, … with so many requests in progress."""
    loads = Loads()
    for number, count in enumerate(requests, start=1):
        loads.note(number, count, is_full=number in full)
    return loads


def test_a_worker_without_others_accepts_at_once() -> None:
    assert loads_of(500, full=(1,)).pause_seconds(1) == 0
    assert Loads().pause_seconds(1) == 0


def test_workers_with_about_the_same_load_accept_at_once() -> None:
    loads = loads_of(10, 10 + TOLERATED_DIFFERENCE)
    assert [loads.pause_seconds(number) for number in (1, 2)] == [0, 0]


def test_a_clearly_busier_worker_pauses_for_a_moment() -> None:
    loads = loads_of(11, 10, 11 + TOLERATED_DIFFERENCE)
    assert [loads.pause_seconds(number) for number in (1, 2)] == [0, 0]
    assert 0 < loads.pause_seconds(3) < 0.01


def test_a_worker_without_a_free_upload_slot_leaves_time_to_one_that_has_some() -> None:
    loads = loads_of(8, 100, full=(1,))
    assert loads.pause_seconds(1) >= 1
    assert loads.pause_seconds(2) == 0


def test_workers_that_are_all_full_accept_at_once() -> None:
    """They still serve other requests, and refuse uploads."""
    loads = loads_of(256, 258, full=(1, 2))
    assert [loads.pause_seconds(number) for number in (1, 2)] == [0, 0]


def test_a_worker_that_is_about_to_end_leaves_connections_to_the_others() -> None:
    loads = loads_of(0, 200)
    loads.forget(1)
    assert loads.pause_seconds(1) >= 1
    assert loads.pause_seconds(2) == 0


def test_when_all_workers_end_each_accepts_at_once() -> None:
    loads = loads_of(5, 50)
    for number in (1, 2):
        loads.forget(number)
    assert [loads.pause_seconds(number) for number in (1, 2)] == [0, 0]
