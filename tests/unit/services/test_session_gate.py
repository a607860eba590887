"""The gate that lets sessions through which were not signed out, with few queries to the database."""

import threading
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


def test_not_signed_out_is_cached_for_a_second(
    gate: SessionGate, revoked: FakeRevokedSessions, clock: FakeClock
) -> None:
    """A page with ten requests costs one query, and a logout in another process takes effect within a second."""
    gate.check("sid", is_read_only=False)
    revoked.revoke("sid", LATER)
    clock.advance(0.99)
    gate.check("sid", is_read_only=False)
    assert revoked.asked == 1
    clock.advance(0.01)
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)


def test_the_cached_second_begins_before_the_query(clock: FakeClock) -> None:
    """The response may be as old as the query, however long that takes."""

    class Slow(FakeRevokedSessions):
        def is_revoked(self, sid: str) -> bool:
            clock.advance(0.6)
            return super().is_revoked(sid)

    revoked = Slow()
    gate = SessionGate(revoked, clock.monotonic)
    gate.check("sid", is_read_only=True)
    clock.advance(0.4)
    gate.check("sid", is_read_only=True)
    assert revoked.asked == 2


def test_signed_out_is_cached_for_good(gate: SessionGate, revoked: FakeRevokedSessions) -> None:
    """The database is not asked again."""
    revoked.revoke("sid", LATER)
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)
    revoked.is_down = True
    with pytest.raises(UnauthenticatedError):
        gate.check("sid", is_read_only=True)
    assert revoked.asked == 1


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
