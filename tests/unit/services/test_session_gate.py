"""The gate that lets sessions through which were not signed out, with few queries to the database."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from app.errors import ModelStoreUnavailableError, UnauthenticatedError
from app.services.session_gate import SessionGate
from tests.api.oidc_provider import FakeClock, FakeRevokedSessions

LATER = datetime(2032, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def revoked() -> FakeRevokedSessions:
    return FakeRevokedSessions()


@pytest.fixture
def gate(revoked: FakeRevokedSessions, clock: FakeClock) -> SessionGate:
    return SessionGate(revoked, clock.monotonic, max_sessions=100)


def test_a_logout_in_another_process_takes_effect_within_a_second(
    gate: SessionGate, revoked: FakeRevokedSessions, clock: FakeClock
) -> None:
    gate.check("sid", is_read_only=False)
    revoked.revoke("sid", LATER)
    clock.advance(0.99)
    gate.check("sid", is_read_only=False)
    clock.advance(0.01)
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)


def test_many_sessions_cost_one_query_each_and_then_one_a_second_for_all(
    gate: SessionGate, revoked: FakeRevokedSessions, clock: FakeClock
) -> None:
    for _ in range(60):
        for number in range(50):
            gate.check(f"sid-{number}", is_read_only=True)
            clock.advance(0.02)
    assert revoked.asked == 50
    assert revoked.feeds == 60


def test_an_idle_process_asks_nothing_and_misses_no_logout(
    gate: SessionGate, revoked: FakeRevokedSessions, clock: FakeClock
) -> None:
    gate.check("one", is_read_only=True)
    gate.check("two", is_read_only=True)
    for number in range(20):
        revoked.revoke(f"another-{number}", LATER)
    revoked.revoke("one", LATER)
    clock.advance(3_600)
    assert revoked.feeds == 1
    gate.check("two", is_read_only=True)
    with pytest.raises(UnauthenticatedError):
        gate.check("one", is_read_only=True)
    assert (revoked.asked, revoked.feeds) == (2, 2)


def test_a_session_is_asked_for_while_another_thread_reads_the_feed(clock: FakeClock) -> None:
    """The reading may hang. Its result is then older than a second, and no request waits for it."""
    reading, go_on = threading.Event(), threading.Event()

    class Slow(FakeRevokedSessions):
        def revoked_since(self, moment: datetime | None) -> tuple[datetime, Sequence[str]]:
            found = super().revoked_since(moment)
            if self.feeds == 2:
                reading.set()
                assert go_on.wait(10)
            return found

    revoked = Slow()
    gate = SessionGate(revoked, clock.monotonic)
    gate.check("one", is_read_only=True)
    gate.check("two", is_read_only=True)
    clock.advance(1)
    reader = threading.Thread(target=lambda: gate.check("one", is_read_only=True))
    reader.start()
    assert reading.wait(10)
    revoked.revoke("two", LATER)
    with pytest.raises(UnauthenticatedError):
        gate.check("two", is_read_only=True)
    clock.advance(0.5)
    gate.check("three", is_read_only=True)
    clock.advance(0.5)
    go_on.set()
    reader.join(10)
    assert (revoked.asked, revoked.feeds) == (4, 2)
    gate.check("one", is_read_only=True)
    assert revoked.feeds == 3, "what was read is as old as the beginning of the reading"


def test_the_feed_says_nothing_of_sessions_that_were_asked_for_before_it_began(
    gate: SessionGate, revoked: FakeRevokedSessions, clock: FakeClock
) -> None:
    """The first reading returns no sessions, so a logout before it is seen only by asking for the session."""
    first, go_on = threading.Event(), threading.Event()

    class Slow(FakeRevokedSessions):
        def revoked_since(self, moment: datetime | None) -> tuple[datetime, Sequence[str]]:
            if moment is None:
                first.set()
                assert go_on.wait(10)
            return super().revoked_since(moment)

    revoked = Slow()
    gate = SessionGate(revoked, clock.monotonic)
    reader = threading.Thread(target=lambda: gate.check("one", is_read_only=True))
    reader.start()
    assert first.wait(10)
    gate.check("two", is_read_only=True)
    revoked.revoke("two", LATER)
    clock.advance(1)
    go_on.set()
    reader.join(10)
    with pytest.raises(UnauthenticatedError):
        gate.check("two", is_read_only=True)


def test_after_a_failover_to_a_server_whose_clock_is_behind_each_session_is_asked_for_again(clock: FakeClock) -> None:
    """What was signed out between the two readings has a time before the first one, so the feed does not return it."""
    new_server_time = datetime(2000, 1, 1, tzinfo=UTC)

    class FailedOver(FakeRevokedSessions):
        def revoked_since(self, moment: datetime | None) -> tuple[datetime, Sequence[str]]:
            now, signed_out = super().revoked_since(moment)
            return (now, signed_out) if self.feeds == 1 else (new_server_time, [])

    revoked = FailedOver()
    gate = SessionGate(revoked, clock.monotonic)
    gate.check("one", is_read_only=True)
    gate.check("two", is_read_only=True)
    revoked.revoke("two", LATER)
    clock.advance(1)
    gate.check("one", is_read_only=True)
    with pytest.raises(UnauthenticatedError):
        gate.check("two", is_read_only=True)
    clock.advance(1)
    gate.check("one", is_read_only=True)
    assert (revoked.asked, revoked.feeds) == (4, 3), "after that, the feed is enough again"


def test_the_cached_second_begins_before_the_query(clock: FakeClock) -> None:
    """The result may be as old as the beginning of the query, however long that takes."""

    class Slow(FakeRevokedSessions):
        def revoked_since(self, moment: datetime | None) -> tuple[datetime, Sequence[str]]:
            found = super().revoked_since(moment)
            clock.advance(0.6)
            return found

    revoked = Slow()
    gate = SessionGate(revoked, clock.monotonic)
    gate.check("sid", is_read_only=True)
    clock.advance(1)
    gate.check("sid", is_read_only=True)
    clock.advance(0.4)
    gate.check("sid", is_read_only=True)
    assert (revoked.asked, revoked.feeds) == (1, 3)


@pytest.mark.parametrize("is_read_only", [True, False])
def test_while_the_database_is_down_a_confirmed_session_may_read_for_a_minute(
    gate: SessionGate, revoked: FakeRevokedSessions, clock: FakeClock, is_read_only: bool
) -> None:
    """The minute begins when the database last said that the session is not signed out, by the feed or for itself."""
    gate.check("sid", is_read_only=True)
    clock.advance(3_600)
    gate.check("sid", is_read_only=True)
    revoked.is_down = True
    clock.advance(59.9)
    if is_read_only:
        gate.check("sid", is_read_only=True)
    else:
        with pytest.raises(ModelStoreUnavailableError):
            gate.check("sid", is_read_only=False)
    with pytest.raises(ModelStoreUnavailableError):
        gate.check("unknown", is_read_only=True)
    clock.advance(0.1)
    with pytest.raises(ModelStoreUnavailableError):
        gate.check("sid", is_read_only=True)
    revoked.is_down = False
    gate.check("sid", is_read_only=is_read_only)


def test_signed_out_is_cached_for_good(gate: SessionGate, revoked: FakeRevokedSessions, clock: FakeClock) -> None:
    """The database is not asked again."""
    revoked.revoke("sid", LATER)
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)
    clock.advance(3_600)
    revoked.is_down = True
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)
    assert (revoked.asked, revoked.feeds) == (1, 1)


def test_signing_out_takes_effect_at_once_in_its_own_process(gate: SessionGate, revoked: FakeRevokedSessions) -> None:
    """Also within the cached second, and if the database is down."""
    gate.check("sid", is_read_only=False)
    revoked.is_down = True
    with pytest.raises(ModelStoreUnavailableError):
        gate.revoke("sid", LATER)
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)


def test_a_query_in_progress_does_not_undo_a_sign_out(clock: FakeClock) -> None:
    """One thread queries the database; another signs out before the response "not signed out" arrives."""
    asking, answered = threading.Event(), threading.Event()

    class Slow(FakeRevokedSessions):
        def is_revoked(self, sid: str) -> bool:
            asking.set()
            assert answered.wait(10)
            return False

    gate = SessionGate(Slow(), clock.monotonic)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            gate.check("sid", is_read_only=True)
        except UnauthenticatedError as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert asking.wait(10)
    gate.revoke("sid", LATER)
    answered.set()
    thread.join(10)
    assert len(failures) == 1
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)


def test_the_caches_of_the_gate_are_bounded(gate: SessionGate, revoked: FakeRevokedSessions) -> None:
    """A session that has left a cache is looked up again."""
    for number in range(300):
        gate.check(f"active-{number}", is_read_only=True)
        gate.revoke(f"signed-out-{number}", LATER)
    assert len(gate._seen_active) == 100
    assert len(gate._signed_out) == 100
    with pytest.raises(UnauthenticatedError):
        gate.check("signed-out-0", is_read_only=True)
    asked = revoked.asked
    gate.check("active-299", is_read_only=True)
    assert revoked.asked == asked


def test_many_threads_may_use_the_gate(clock: FakeClock) -> None:
    """With concurrent checks, sign-outs and evictions, a session that was signed out stays so."""
    gate = SessionGate(FakeRevokedSessions(), clock.monotonic, max_sessions=8)
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(300):
                sid = f"{thread}-{number}"
                gate.check(sid, is_read_only=True)
                gate.revoke(sid, LATER)
                with pytest.raises(UnauthenticatedError):
                    gate.check(sid, is_read_only=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
