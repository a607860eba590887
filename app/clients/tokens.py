"""Service tokens: one cache per process, with one token per scope.

A token is used until 15 s before it expires. The next caller fetches a new one, and the callers who come meanwhile wait
for it.

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
from app.clients.single_flight import SingleFlightCache, Wait
from app.domain.call import CallContext
from app.errors import GatewayError, IDPUnavailableError, ServiceClientUnauthorizedError

T = TypeVar("T")

#: A token this close to its end is not used any more: it could expire on its way.
SKEW_SECONDS = 15.0
#: How long after it was issued a token counts as fresh.
FRESH_SECONDS = 60.0
#: A longer life that MC announces for a token is cut to this.
MAX_LIFE_SECONDS = 86_400.0
#: More than there are scopes.
_MAX_SCOPES = 100


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """An access token and its life in seconds, counted from `issued_at` on the monotonic clock."""

    access_token: str = field(repr=False)
    issued_at: float
    expires_in: float


class ServiceTokens:
    """Gives out service tokens, and drops those that are refused. Thread-safe; a slow scope does not delay another.

    `fetch` gets a new token from MC. Its GatewayError passes through unchanged.
    """

    def __init__(
        self,
        fetch: Callable[[str, CallContext], IssuedToken],
        monotonic: Callable[[], float] = time.monotonic,
        *,
        wait: Wait = threading.Event.wait,
    ) -> None:
        """`wait` is how a caller waits for another's fetch (see `SingleFlightCache`)."""
        self._fetch = fetch
        self._monotonic = monotonic
        self._cache = SingleFlightCache(
            self._fetch_counted, seconds=MAX_LIFE_SECONDS, max_entries=_MAX_SCOPES, wait=wait, monotonic=monotonic
        )

    def begin_to_count(self, scopes: Iterable[str]) -> None:
        """Let the counters of these scopes start from zero."""
        for scope in scopes:
            for event in ("hit", "refreshed", "failed", "dropped"):
                metrics.SERVICE_TOKENS(scope, event)

    def service_token(self, scope: str, context: CallContext) -> str:
        """Return an access token for `scope`, from the cache or fetched within the caller's deadline.

        A token that lives for 15 s or less goes only to those who waited for it.
        """
        return self._obtain(scope, context, math.inf)[0].access_token

    def call(
        self,
        scope: str,
        context: CallContext,
        send: Callable[[str], T],
        is_refused: Callable[[T], bool],
        *,
        is_repeatable: bool = True,
        max_age_seconds: float = math.inf,
    ) -> T:
        """Return what `send` returns for a token of `scope`.

        A refused token is dropped, and a repeatable call is made once more with another one. A token older than
        `max_age_seconds` is renewed first, if MC can be reached. Raises ServiceClientUnauthorizedError if the last
        token was fresh, and IDPUnavailableError if it was not: the next request fetches another one.
        """
        for is_repeated in (False, True) if is_repeatable else (False,):
            token, was_fetched = self._obtain(scope, context, max_age_seconds)
            outcome = send(token.access_token)
            if not is_refused(outcome):
                return outcome
            # A token that another caller has fetched since the first refusal counts as fetched for this call.
            is_fresh = (was_fetched or is_repeated) and self._age(token) <= FRESH_SECONDS
            self._drop(scope, token, is_fresh=is_fresh)
            if is_fresh and is_repeated >= is_repeatable:
                raise ServiceClientUnauthorizedError(f"a fresh token of scope {scope} was refused")
        raise IDPUnavailableError(f"a cached token of scope {scope} was refused")

    def _obtain(self, scope: str, context: CallContext, max_age_seconds: float) -> tuple[IssuedToken, bool]:
        """Return a token, and whether it was fetched for this call and not taken from the cache."""
        cached = self._find_usable(scope)
        if cached is None or self._age(cached) > max_age_seconds:
            try:
                token = self._cache.get(
                    scope, context, accepts=lambda token: self._is_usable(token) and self._age(token) <= max_age_seconds
                )
                return token, True
            except GatewayError:
                # A token that was only to be renewed is still good.
                cached = self._find_usable(scope)
                if cached is None:
                    raise
        metrics.SERVICE_TOKENS(scope, "hit").inc()
        return cached, False

    def _find_usable(self, scope: str) -> IssuedToken | None:
        token = self._cache.find(scope)
        return token if token is not None and self._is_usable(token) else None

    def _drop(self, scope: str, token: IssuedToken, *, is_fresh: bool) -> None:
        """Drop a refused token, unless another caller has replaced it already.

        MC seldom revokes a single token. So if the refused one is not fresh, the other scopes' tokens are dropped as
        well: otherwise an upload could pass the check for running jobs and be refused after its body.
        """
        if not self._cache.forget(scope, token):
            return
        metrics.SERVICE_TOKENS(scope, "dropped").inc()
        for other in [] if is_fresh else self._cache.keys():
            if self._cache.forget(other):
                metrics.SERVICE_TOKENS(other, "dropped").inc()

    def _fetch_counted(self, scope: str, context: CallContext) -> IssuedToken:
        try:
            token = self._fetch(scope, context)
        except GatewayError:
            metrics.SERVICE_TOKENS(scope, "failed").inc()
            raise
        metrics.SERVICE_TOKENS(scope, "refreshed").inc()
        return token

    def _age(self, token: IssuedToken) -> float:
        return self._monotonic() - token.issued_at

    def _is_usable(self, token: IssuedToken) -> bool:
        return self._age(token) < token.expires_in - SKEW_SECONDS
