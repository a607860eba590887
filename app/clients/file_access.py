"""The FAA: pulling a result to the gateway, and the address from which a browser fetches it (docs/upstreams.md).

A pull that is cut off resumes where it stopped (Range with If-Range), if the file is provably the same. Otherwise the
receiver starts again.
"""

import re
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import NoReturn, Protocol
from urllib.parse import quote

import requests
import structlog

from app.clients.object_keys import object_path
from app.clients.retry import Call, Retrier, failures_as
from app.clients.tokens import ServiceTokens
from app.clients.transport import (
    ResponseLostFailure,
    ServerFailure,
    Timeouts,
    UnusableResponseFailure,
    Upstream,
    translated,
)
from app.domain.call import CallContext, Deadline
from app.errors import FileServiceUnavailableError, PromoteFailedError, ResultMissingError
from app.streaming.rate import RateFloor

log = structlog.get_logger(__name__)

SCOPE_READ = "files:download.read"
CHUNK_BYTES = 256 * 1024
#: A slower pull is treated like one that has stalled: it is resumed or given up.
MIN_BYTES_PER_SECOND = 1024
#: How long it may take until a resumed pull gets its first byte.
RESUME_SECONDS = 60.0
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class Receiver(Protocol):
    """Takes a pulled file's bytes."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def restart(self) -> None:
        """Forget all bytes: the file comes again from its beginning."""


class FileAccessClient:
    """Talks to the FAA. Thread-safe."""

    def __init__(
        self,
        upstream: Upstream,
        public_base_url: str,
        tokens: ServiceTokens,
        retrier: Retrier,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream = upstream
        self._public_base_url = public_base_url
        self._tokens = tokens
        self._retrier = retrier
        self._monotonic = monotonic

    def download_url(self, object_key: str, token: str) -> str:
        """Return the address at which a browser fetches this object. It holds `token`, so it is a secret."""
        return f"{self._public_base_url}{object_path(object_key)}?access_token={quote(token, safe='')}"

    def pull(self, object_key: str, receiver: Receiver, context: CallContext) -> int:
        """Send the object's bytes to `receiver` and return their number.

        Raises ResultMissingError (404, 410), FileServiceUnavailableError (5xx, 429, network, other responses),
        ServiceClientUnauthorizedError (401, 403 with a fresh token), DeadlineExceededError and what getting the
        service token or writing to the receiver raises. The deadline counts until the first byte of the body. The body
        is bounded by its idle time and a minimum rate.
        """
        try:
            path = object_path(object_key)
        except ValueError as error:
            raise PromoteFailedError("the object key is unsafe") from error
        with failures_as(FileServiceUnavailableError, Call.GET_FILE):
            return _Pull(self._open(path, context), receiver, self._monotonic).run(self._retrier, context.deadline)

    def _open(self, path: str, context: CallContext) -> "Open":
        """Return a function that begins one GET of `path` with a service token, from an offset if given."""

        def open_at(offset: int, etag: str | None, timeouts: Timeouts, deadline: Deadline) -> requests.Response:
            header_seconds = deadline.clip(timeouts.connect_seconds + timeouts.idle_seconds)

            def with_token(token: str) -> requests.Response:
                headers = {"Authorization": f"Bearer {token}", **context.correlation}
                if offset:
                    headers |= {"Range": f"bytes={offset}-", "If-Range": str(etag)}
                response = self._upstream.open(path, timeouts=timeouts, header_seconds=header_seconds, headers=headers)
                if response.status_code >= 500:
                    response.close()
                    raise ServerFailure(f"status {response.status_code}", status=response.status_code)
                return response

            return self._tokens.call(SCOPE_READ, replace(context, deadline=deadline), with_token, _is_refused)

        return open_at


Open = Callable[[int, str | None, Timeouts, Deadline], requests.Response]


def _is_refused(response: requests.Response) -> bool:
    if response.status_code in {401, 403}:
        response.close()
        return True
    return False


class _Pull:
    """One pull of a file to a receiver, over one connection or several."""

    def __init__(self, open_at: Open, receiver: Receiver, monotonic: Callable[[], float]) -> None:
        self._open_at = open_at
        self._receiver = receiver
        self._monotonic = monotonic
        self._has_begun = False
        self._offset = 0
        self._etag: str | None = None
        self._size: int | None = None

    def run(self, retrier: Retrier, deadline: Deadline) -> int:
        """Pull the whole file, in as many tries as the matrix allows."""
        return retrier.run(
            Call.GET_FILE,
            deadline,
            lambda timeouts: self._try(timeouts, deadline),
            has_begun=lambda: self._has_begun,
        )

    def _try(self, timeouts: Timeouts, deadline: Deadline) -> int:
        if self._has_begun:
            # A long pull outlasts its request's deadline, so resuming it has a deadline of its own.
            deadline = Deadline(RESUME_SECONDS, self._monotonic)
        if self._offset and self._etag is None:
            self._start_again()
        if self._offset:
            log.info("upstream.resume", call=Call.GET_FILE.value, offset=self._offset)
        with closing(self._open_at(self._offset, self._etag, timeouts, deadline)) as response:
            self._begin(response)
            self._read(response)
        return self._offset

    def _begin(self, response: requests.Response) -> None:
        """Check that the body continues the bytes that have come, or start again."""
        status = response.status_code
        if status in {404, 410}:
            raise ResultMissingError(f"the FAA answered {status}")
        if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
            raise UnusableResponseFailure("the file is encoded, although identity was asked for", status=status)
        if status == 206 and self._offset:
            self._check_continuation(response)
            return
        if status == 416 and self._offset:
            self._doubt("the file is shorter than what has come of it", status)
        if status != 200:
            raise FileServiceUnavailableError(f"the FAA answered {status}")
        if self._offset:
            self._start_again()
        self._etag = _strong_etag(response)
        self._size = _content_length(response)

    def _check_continuation(self, response: requests.Response) -> None:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        same_offset = match is not None and int(match[1]) == self._offset
        same_size = match is not None and (self._size is None or match[3] == str(self._size))
        if not same_offset or not same_size or _strong_etag(response) != self._etag:
            self._doubt("the response does not continue this file", 206)

    def _doubt(self, reason: str, status: int) -> NoReturn:
        """Let the next try start again: the file is not the one that began to come."""
        self._etag = None
        raise ResponseLostFailure(reason, status=status)

    def _read(self, response: requests.Response) -> None:
        floor = RateFloor(MIN_BYTES_PER_SECOND)
        while True:
            asked_at = self._monotonic()
            with translated(is_reading_body=True):
                # What one recv() returns: waiting for a full chunk would hide that the bytes only trickle.
                data = response.raw.read1(CHUNK_BYTES, decode_content=False)
            waited = self._monotonic() - asked_at
            if not data:
                break
            self._has_begun = True
            self._offset += len(data)
            self._receiver.write(data)
            if floor.is_broken_by(len(data), waited):
                raise ResponseLostFailure("the file comes too slowly", is_timeout=True)
        if self._size is not None and self._offset != self._size:
            raise ResponseLostFailure(f"{self._offset} of {self._size} bytes came")

    def _start_again(self) -> None:
        self._offset, self._etag, self._size = 0, None, None
        self._receiver.restart()


def _strong_etag(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag", "")
    return etag if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag) else None


def _content_length(response: requests.Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None
