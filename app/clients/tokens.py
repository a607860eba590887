"""Service tokens: one cache a process, one entry a scope, one fetch at a time for each.

A token is given out until 15 s before it expires; then the next caller fetches a new one while those who come
meanwhile wait for that fetch and share its outcome, also its failure. Failures are never remembered.

MC may revoke a token before it expires, by a restart or with its keys. So an upstream that refuses a cached token says
nothing about our configuration; only the refusal of a fresh token does.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from app import metrics
from app.clients.singleflight import SingleFlight, Wait
from app.domain.call import CallContext
from app.errors import GatewayError, IDPUnavailableError, ServiceClientUnauthorizedError

T = TypeVar("T")

#: A token this close to its end is not used any more: it could expire on its way.
SKEW_SECONDS = 15.0
#: How long after it was issued a token counts as fresh.
FRESH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """An access token and its life in seconds, counted from `issued_at` on the monotonic clock."""

    access_token: str = field(repr=False)
    issued_at: float
    expires_in: float


class ServiceTokens:
    """The cache of service tokens. Thread-safe; a slow scope does not hold up another.

    `fetch` gets a new token from MC; it raises a GatewayError of its own, which passes through unchanged.
    """

    def __init__(
        self,
        fetch: Callable[[str, CallContext], IssuedToken],
        monotonic: Callable[[], float] = time.monotonic,
        *,
        wait: Wait = threading.Event.wait,
    ) -> None:
        """`wait` is how those wait who share another's fetch (see `SingleFlight`)."""
        self._fetch = fetch
        self._monotonic = monotonic
        self._flights: SingleFlight[IssuedToken] = SingleFlight(wait)
        self._lock = threading.Lock()
        self._tokens: dict[str, IssuedToken] = {}

    def begin_to_count(self, scopes: Iterable[str]) -> None:
        """Count from nought on for scopes that will be asked for."""
        for scope in scopes:
            for event in ("hit", "refreshed", "failed", "dropped"):
                metrics.SERVICE_TOKENS(scope, event)

    def service_token(self, scope: str, context: CallContext) -> str:
        """Return an access token for `scope`, from the cache or fetched within the caller's deadline.

        A token that lives 15 s or less is used by those who waited for it and not kept.
        """
        return self._obtain(scope, context, math.inf)[0].access_token

    def call(
        self,
        scope: str,
        context: CallContext,
        attempt: Callable[[str], T],
        is_refused: Callable[[T], bool],
        *,
        is_repeatable: bool = True,
        max_age_seconds: float = math.inf,
    ) -> T:
        """Return what `attempt` gives for a token of `scope`.

        A refused token is dropped, and a repeatable call is made once more with another one. An older token than
        `max_age_seconds` is renewed first, if MC answers. Raises ServiceClientUnauthorizedError if the last token was
        fresh, and IDPUnavailableError if it was not: the next request fetches another one.
        """
        for is_repeated in (False, True) if is_repeatable else (False,):
            token, was_fetched = self._obtain(scope, context, max_age_seconds)
            outcome = attempt(token.access_token)
            if not is_refused(outcome):
                return outcome
            # What another caller has fetched since the first refusal is as good as fetched for this call.
            is_fresh = (was_fetched or is_repeated) and self._age(token) <= FRESH_SECONDS
            self._drop(scope, token, is_fresh=is_fresh)
            if is_fresh and is_repeated >= is_repeatable:
                raise ServiceClientUnauthorizedError(f"a fresh token of scope {scope} was refused")
        raise IDPUnavailableError(f"a cached token of scope {scope} was refused")

    def _obtain(self, scope: str, context: CallContext, max_age_seconds: float) -> tuple[IssuedToken, bool]:
        """Return a token, and whether it was fetched for this call and not taken from the cache."""
        token = self._cached(scope, max_age_seconds)
        if token is not None:
            return token, False
        try:
            return self._flights.run(scope, context, lambda: self._refresh(scope, context, max_age_seconds)), True
        except GatewayError:
            # One that was only to be renewed is still good.
            token = self._cached(scope, math.inf)
            if token is None:
                raise
            return token, False

    def _cached(self, scope: str, max_age_seconds: float) -> IssuedToken | None:
        with self._lock:
            token = self._tokens.get(scope)
        if token is None or not self._is_usable(token) or self._age(token) > max_age_seconds:
            return None
        metrics.SERVICE_TOKENS(scope, "hit").inc()
        return token

    def _drop(self, scope: str, token: IssuedToken, *, is_fresh: bool) -> None:
        """Forget a refused token, unless somebody has fetched a newer one meanwhile.

        MC seldom revokes a single token, so with one that is not fresh all others are forgotten, too: an upload that
        asks for the list first must not find that out again after its body.
        """
        with self._lock:
            if self._tokens.get(scope) is not token:
                return
            for dropped in [scope] if is_fresh else list(self._tokens):
                del self._tokens[dropped]
                metrics.SERVICE_TOKENS(dropped, "dropped").inc()

    def _refresh(self, scope: str, context: CallContext, max_age_seconds: float) -> IssuedToken:
        # Between this caller's look at the cache and its becoming the leader, another flight may have landed.
        token = self._cached(scope, max_age_seconds)
        if token is not None:
            return token
        try:
            token = self._fetch(scope, context)
        except GatewayError:
            metrics.SERVICE_TOKENS(scope, "failed").inc()
            raise
        metrics.SERVICE_TOKENS(scope, "refreshed").inc()
        with self._lock:
            if self._is_usable(token):
                self._tokens[scope] = token
            else:
                self._tokens.pop(scope, None)
        return token

    def _age(self, token: IssuedToken) -> float:
        return self._monotonic() - token.issued_at

    def _is_usable(self, token: IssuedToken) -> bool:
        return self._age(token) < token.expires_in - SKEW_SECONDS
