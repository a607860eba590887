"""Values that are fetched once and kept: for how long, instead of which, and what becomes of failures."""

import threading

import pytest

from app.clients.kept import Kept
from app.errors import DeadlineExceededError, IDPUnavailableError
from tests.support.fakes import call_context


class Source:
    """Hands out a new list each time; `failure` is raised instead."""

    def __init__(self) -> None:
        self.now = 0.0
        self.fetched = 0
        self.failure: Exception | None = None
        self.kept = Kept(self._fetch, seconds=60, monotonic=lambda: self.now, wait=threading.Event.wait)

    def _fetch(self, _context: object) -> list[int]:
        self.fetched += 1
        if self.failure is not None:
            raise self.failure
        return [self.fetched]


def test_a_value_is_kept_until_its_time_is_up() -> None:
    source = Source()
    assert source.kept.find() is None
    assert source.kept.get(call_context()) == [1]
    source.now = 59.9
    assert source.kept.get(call_context()) == [1]
    source.now = 60.0
    assert source.kept.find() == [1]
    assert source.kept.get(call_context()) == [2]


def test_a_value_of_no_use_is_replaced_once_for_all_who_found_it_so() -> None:
    source = Source()
    useless = source.kept.get(call_context())
    assert source.kept.get(call_context(), instead_of=useless) == [2]
    assert source.kept.get(call_context(), instead_of=useless) == [2]
    # So does a caller who was still on its way to fetch it when another one had done so.
    assert source.kept._renew(call_context(), useless) == [2]
    assert source.fetched == 2


def test_a_failure_is_not_kept_and_the_old_value_can_still_be_found() -> None:
    source = Source()
    source.kept.get(call_context())
    source.now, source.failure = 100.0, IDPUnavailableError("down")
    with pytest.raises(IDPUnavailableError):
        source.kept.get(call_context())
    assert source.kept.find() == [1]
    source.failure = None
    assert source.kept.get(call_context()) == [3]


def test_who_waits_for_anothers_fetch_gives_up_at_the_deadline() -> None:
    """A thread must not wait for ever for one that has died."""
    began, may_end = threading.Event(), threading.Event()

    def fetch(_context: object) -> str:
        began.set()
        may_end.wait(30)
        return "late"

    kept = Kept(fetch, seconds=60, monotonic=lambda: 0.0, wait=threading.Event.wait)
    leader = threading.Thread(target=kept.get, args=(call_context(),))
    leader.start()
    assert began.wait(10)
    with pytest.raises(DeadlineExceededError):
        kept.get(call_context(0.01))
    may_end.set()
    leader.join(10)
    assert kept.find() == "late"
