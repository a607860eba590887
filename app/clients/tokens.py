"""Service tokens: one cache a process, one entry a scope, one fetch at a time for each.

A token is given out until 15 s before it expires; then the next caller fetches a new one while those who come
meanwhile wait for that fetch and share its outcome, also its failure. Failures are never remembered.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from app import metrics
from app.clients.singleflight import SingleFlight, Wait
from app.domain.call import CallContext
from app.errors import GatewayError, ServiceClientUnauthorizedError

T = TypeVar("T")

#: A token this close to its end is not used any more: it could expire on its way.
SKEW_SECONDS = 15.0


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
        cached = self._cached(scope)
        if cached is not None:
            metrics.SERVICE_TOKENS(scope, "hit").inc()
            return cached
        return self._flights.run(scope, context, lambda: self._refresh(scope, context)).access_token

    def drop(self, scope: str, access_token: str) -> None:
        """Forget a token that an upstream refused; a newer one that somebody fetched meanwhile stays."""
        with self._lock:
            token = self._tokens.get(scope)
            if token is not None and token.access_token == access_token:
                del self._tokens[scope]
                metrics.SERVICE_TOKENS(scope, "dropped").inc()

    def call(self, scope: str, context: CallContext, attempt: Callable[[str], T], is_refused: Callable[[T], bool]) -> T:
        """Return what `attempt` gives for a token of `scope`; for calls that may be made twice.

        Where the upstream refuses the token, it is dropped, and the call is made once more with a new one. Raises
        ServiceClientUnauthorizedError if that is refused too.
        """
        for _ in range(2):
            token = self.service_token(scope, context)
            outcome = attempt(token)
            if not is_refused(outcome):
                return outcome
            self.drop(scope, token)
        raise ServiceClientUnauthorizedError(f"a fresh token of scope {scope} was refused")

    def _cached(self, scope: str) -> str | None:
        with self._lock:
            token = self._tokens.get(scope)
            return token.access_token if token is not None and self._is_fresh(token) else None

    def _refresh(self, scope: str, context: CallContext) -> IssuedToken:
        # Between this caller's look at the cache and its becoming the leader, another flight may have landed.
        with self._lock:
            token = self._tokens.get(scope)
            if token is not None and self._is_fresh(token):
                metrics.SERVICE_TOKENS(scope, "hit").inc()
                return token
        try:
            token = self._fetch(scope, context)
        except GatewayError:
            metrics.SERVICE_TOKENS(scope, "failed").inc()
            raise
        metrics.SERVICE_TOKENS(scope, "refreshed").inc()
        with self._lock:
            if self._is_fresh(token):
                self._tokens[scope] = token
            else:
                self._tokens.pop(scope, None)
        return token

    def _is_fresh(self, token: IssuedToken) -> bool:
        return self._monotonic() < token.issued_at + token.expires_in - SKEW_SECONDS
