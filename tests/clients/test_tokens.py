"""Service tokens: when they are fetched and renewed, and what their refusal means."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from app.clients.tokens import IssuedToken, ServiceTokens
from app.domain.call import CallContext
from app.errors import DeadlineExceededError, GatewayError, IDPUnavailableError, ServiceClientUnauthorizedError
from tests.support.clocks import FakeMonotonic
from tests.support.fakes import call_context
from tests.support.parallel import in_parallel
from tests.support.waiting import CountedWait

THREE_TIMES = pytest.mark.parametrize("round_", range(3))


@dataclass
class Source:
    """Issues numbered tokens; `before` runs in each fetch."""

    clock: FakeMonotonic
    expires_in: float = 3_600
    before: Callable[[int, str, CallContext], None] = lambda number, scope, context: None
    scopes: list[str] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, scope: str, context: CallContext) -> IssuedToken:
        with self.guard:
            self.scopes.append(scope)
            number = len(self.scopes)
        self.before(number, scope, context)
        return IssuedToken(f"token-{number}", self.clock(), self.expires_in)


@pytest.fixture
def clock() -> FakeMonotonic:
    return FakeMonotonic(0.0)


@pytest.fixture
def source(clock: FakeMonotonic) -> Source:
    return Source(clock)


@pytest.fixture
def waiting() -> CountedWait:
    return CountedWait()


@pytest.fixture
def tokens(source: Source, clock: FakeMonotonic, waiting: CountedWait) -> ServiceTokens:
    return ServiceTokens(source, clock, wait=waiting)


def test_a_token_is_used_again_until_fifteen_seconds_before_it_expires(
    tokens: ServiceTokens, source: Source, clock: FakeMonotonic
) -> None:
    source.expires_in = 100
    assert tokens.service_token("a", call_context()) == "token-1"
    clock.now = 84.999
    assert tokens.service_token("a", call_context()) == "token-1"


def test_a_token_is_refreshed_fifteen_seconds_before_it_expires(
    tokens: ServiceTokens, source: Source, clock: FakeMonotonic
) -> None:
    source.expires_in = 100
    tokens.service_token("a", call_context())
    clock.now = 85.0
    assert tokens.service_token("a", call_context()) == "token-2"


@pytest.mark.parametrize(("expires_in", "fetches"), [(1, 3), (14.999, 3), (15, 3), (15.001, 1), (16, 1)])
def test_a_token_of_fifteen_seconds_or_less_is_used_once(
    tokens: ServiceTokens, source: Source, expires_in: float, fetches: int
) -> None:
    source.expires_in = expires_in
    given = [tokens.service_token("a", call_context()) for _ in range(3)]
    assert len(set(given)) == fetches
    assert len(source.scopes) == fetches


def test_each_scope_has_its_own_token(tokens: ServiceTokens, source: Source) -> None:
    assert tokens.service_token("a", call_context()) != tokens.service_token("b", call_context())
    assert source.scopes == ["a", "b"]


@THREE_TIMES
def test_a_hundred_threads_make_one_request(
    tokens: ServiceTokens, source: Source, waiting: CountedWait, round_: int
) -> None:
    source.before = lambda *_: waiting.until(99)
    assert in_parallel(100, lambda _: tokens.service_token("a", call_context())) == ["token-1"] * 100
    assert source.scopes == ["a"]


@THREE_TIMES
def test_a_hundred_threads_make_one_request_also_for_a_token_that_lives_too_briefly_to_be_cached(
    tokens: ServiceTokens, source: Source, waiting: CountedWait, round_: int
) -> None:
    source.expires_in = 15
    source.before = lambda *_: waiting.until(99)
    assert in_parallel(100, lambda _: tokens.service_token("a", call_context())) == ["token-1"] * 100


def refused(tokens: ServiceTokens, scope: str, *, is_repeatable: bool = False, **options: float) -> GatewayError:
    """What a call raises whose tokens are all refused."""
    with pytest.raises(GatewayError) as caught:
        tokens.call(scope, call_context(), lambda _token: 401, is_401, is_repeatable=is_repeatable, **options)
    return caught.value


def is_401(status: int) -> bool:
    return status == 401


def used_for(tokens: ServiceTokens, scope: str, **options: float) -> str:
    """The token with which a call is made."""
    return tokens.call(scope, call_context(), str, lambda _outcome: False, **options)


def test_a_cached_token_that_is_refused_means_that_mc_has_revoked_it(tokens: ServiceTokens) -> None:
    tokens.service_token("a", call_context())
    failure = refused(tokens, "a")
    assert type(failure) is IDPUnavailableError
    assert failure.retry_after_seconds == 5
    assert tokens.service_token("a", call_context()) == "token-2"


def test_a_fresh_token_that_is_refused_is_a_misconfiguration(tokens: ServiceTokens) -> None:
    assert type(refused(tokens, "a")) is ServiceClientUnauthorizedError
    assert tokens.service_token("a", call_context()) == "token-2"


def test_a_token_that_was_fresh_when_a_long_body_began_is_not_so_at_its_end(
    tokens: ServiceTokens, clock: FakeMonotonic
) -> None:
    def upload(_token: str) -> int:
        clock.now += 61
        return 401

    with pytest.raises(IDPUnavailableError):
        tokens.call("a", call_context(), upload, is_401, is_repeatable=False)


def test_with_a_revoked_token_those_of_all_scopes_are_dropped(tokens: ServiceTokens, source: Source) -> None:
    for scope in "abc":
        tokens.service_token(scope, call_context())
    refused(tokens, "b")
    assert [tokens.service_token(scope, call_context()) for scope in "abc"] == ["token-4", "token-5", "token-6"]


def test_with_a_fresh_token_that_is_refused_those_of_other_scopes_stay(tokens: ServiceTokens, source: Source) -> None:
    tokens.service_token("a", call_context())
    refused(tokens, "b", is_repeatable=True)
    assert tokens.service_token("a", call_context()) == "token-1"


def test_a_newer_token_than_the_refused_one_stays(tokens: ServiceTokens, source: Source) -> None:
    """Another caller has fetched it in the meantime."""
    tokens.service_token("a", call_context())

    def send(token: str) -> int:
        assert token == "token-1"
        refused(tokens, "a")
        assert tokens.service_token("a", call_context()) == "token-2"
        return 401

    with pytest.raises(IDPUnavailableError):
        tokens.call("a", call_context(), send, is_401, is_repeatable=False)
    assert tokens.service_token("a", call_context()) == "token-2"


@pytest.mark.parametrize(("age", "token"), [(0, "token-1"), (60, "token-1"), (60.001, "token-2")])
def test_a_token_that_is_too_old_for_a_call_is_renewed_first(
    tokens: ServiceTokens, clock: FakeMonotonic, age: float, token: str
) -> None:
    tokens.service_token("a", call_context())
    clock.now = age
    assert used_for(tokens, "a", max_age_seconds=60) == token
    assert tokens.service_token("a", call_context()) == token


def test_a_renewed_token_is_asked_for_in_the_scope_of_its_call(
    tokens: ServiceTokens, source: Source, clock: FakeMonotonic
) -> None:
    tokens.service_token("a", call_context())
    tokens.service_token("b", call_context())
    clock.now = 61
    used_for(tokens, "b", max_age_seconds=60)
    assert source.scopes == ["a", "b", "b"]
    assert tokens.service_token("a", call_context()) == "token-1"


@pytest.mark.parametrize("failure", [IDPUnavailableError("away"), DeadlineExceededError("no time")])
def test_a_token_that_cannot_be_renewed_is_used_to_its_end(
    tokens: ServiceTokens, source: Source, clock: FakeMonotonic, failure: GatewayError
) -> None:
    tokens.service_token("a", call_context())
    clock.now = 61

    def fail(*_: object) -> None:
        raise failure

    source.before = fail
    assert used_for(tokens, "a", max_age_seconds=60) == "token-1"
    assert type(refused(tokens, "a", max_age_seconds=60)) is IDPUnavailableError
    with pytest.raises(type(failure)):
        used_for(tokens, "a", max_age_seconds=60)


@THREE_TIMES
def test_fifty_threads_renew_a_token_once(
    tokens: ServiceTokens, source: Source, clock: FakeMonotonic, waiting: CountedWait, round_: int
) -> None:
    tokens.service_token("a", call_context())
    clock.now = 61
    source.before = lambda *_: waiting.until(49)
    assert in_parallel(50, lambda _: used_for(tokens, "a", max_age_seconds=60)) == ["token-2"] * 50


def test_a_refused_call_is_made_once_more_with_a_fresh_token(tokens: ServiceTokens) -> None:
    used = []

    def send(token: str) -> int:
        used.append(token)
        return 401 if token == "token-1" else 200

    assert tokens.call("a", call_context(), send, lambda status: status == 401) == 200
    assert used == ["token-1", "token-2"]
    assert tokens.service_token("a", call_context()) == "token-2"


def test_a_call_that_is_refused_twice_is_a_misconfiguration_and_leaves_no_token(tokens: ServiceTokens) -> None:
    used = []

    def send(token: str) -> int:
        used.append(token)
        return 403

    with pytest.raises(ServiceClientUnauthorizedError):
        tokens.call("a", call_context(), send, lambda status: status == 403)
    assert used == ["token-1", "token-2"]
    assert tokens.service_token("a", call_context()) == "token-3"


@THREE_TIMES
def test_fifty_threads_whose_token_was_refused_fetch_one_new_token(
    tokens: ServiceTokens, source: Source, round_: int
) -> None:
    tokens.service_token("a", call_context())
    all_refused = threading.Barrier(50)

    def send(token: str) -> int:
        if token != "token-1":
            return 200
        all_refused.wait(10)
        return 401

    outcomes = in_parallel(50, lambda _: tokens.call("a", call_context(), send, lambda status: status == 401))
    assert outcomes == [200] * 50
    assert source.scopes == ["a", "a"]


def test_no_token_shows_when_its_holder_is_printed() -> None:
    assert "s3cret" not in repr(IssuedToken("s3cret", 0.0, 60.0))
