"""Limit the requests that one worker handles at once for one user, so that no user takes all of its threads."""

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from flask import Response
from werkzeug.wsgi import ClosingIterator

from app.errors import TooManyRequestsError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: More than a browser's six connections to one host, for a few browsers or programs at once.
MAX_REQUESTS_PER_USER = 16
_AT_END, _IS_STREAMED = "visiona.at_end", "visiona.is_streamed"


class RequestsInProgress:
    """Counts the requests in progress of each user, in this process. Thread-safe."""

    def __init__(self, max_per_user: int = MAX_REQUESTS_PER_USER, *, retry_after_seconds: float | None = None) -> None:
        self._max_per_user = max_per_user
        self._retry_after_seconds = retry_after_seconds
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def until_complete(self, wsgi_app: "WSGIApplication") -> "WSGIApplication":
        """Return the application with requests that count until their response is complete.

        A streamed response is complete once it is closed.
        """

        def handle(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            with ExitStack() as at_end:
                environ[_AT_END] = at_end
                body = wsgi_app(environ, start_response)
                return ClosingIterator(body, [at_end.pop_all().close]) if environ.get(_IS_STREAMED) else body

        return handle

    def note(self, environ: "WSGIEnvironment", response: Response) -> None:
        """Note whether the response to a request is streamed."""
        environ[_IS_STREAMED] = response.is_streamed

    def enter(self, user_id: str, environ: "WSGIEnvironment") -> None:
        """Count one more request until it is complete.

        Raises TooManyRequestsError if `max_per_user` requests of the user are in progress.
        """
        with self._lock:
            if self._counts[user_id] >= self._max_per_user:
                raise TooManyRequestsError(
                    f"{self._max_per_user} requests of this user are in progress",
                    retry_after_seconds=self._retry_after_seconds,
                )
            self._counts[user_id] += 1
        environ[_AT_END].callback(self._leave, user_id)

    def _leave(self, user_id: str) -> None:
        with self._lock:
            self._counts[user_id] -= 1
            if not self._counts[user_id]:
                del self._counts[user_id]
