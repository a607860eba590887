"""Read a request body without relying on it to end, and without waiting forever.

WSGI servers show a client that went away as a silent short read. So the bytes are counted against Content-Length.
Nothing raised here is an OSError: the sender of an upload takes an OSError for a failure of the upstream's connection.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from app.errors import DrainingError, InvalidRequestError, PayloadTooLargeError, UploadEndedError, UploadTimeoutError
from app.streaming import Chunk
from app.streaming.progress import UploadProgress, UpstreamSpokeError
from app.streaming.rate import RateFloor

#: One read never asks for more than this. Each turn of the loop runs with cold processor caches, and
#: wakes the client and the upstream: with 512 KiB an upload costs a fifth more CPU. Larger reads only take more memory.
CHUNK_BYTES = 1024 * 1024
#: A read that may block until it is full must be small enough for the minimum rate to be noticed.
_BLOCKING_READ_BYTES = 8 * 1024

#: Returns 1 to n bytes, or b"" at the end.
Read = Callable[[int], Chunk]
#: Gives a Read for the request of a WSGI environ, whose waits are bounded by so many seconds. The Read may raise
#: TimeoutError, UpstreamSpokeError, UploadEndedError, and any other exception for a client that went away.
OpenReader = Callable[[Mapping[str, Any], UploadProgress, float], AbstractContextManager[Read]]


class IncompleteBodyError(InvalidRequestError):
    """The client went away, or closed its side, before the body that it had announced was whole."""


@dataclass(frozen=True, slots=True)
class InboundLimits:
    """Limits of a request body: bytes in total, seconds without a byte, bytes per second."""

    max_bytes: int
    idle_seconds: float
    min_bytes_per_second: int


@contextlib.contextmanager
def open_plain_reader(environ: Mapping[str, Any], _progress: UploadProgress, _idle_seconds: float) -> Iterator[Read]:
    """Give a Read for any WSGI server. It does not listen to the upstream, and its waits are the server's."""
    body = environ["wsgi.input"]
    yield lambda size: bytes(body.read(min(size, _BLOCKING_READ_BYTES)))


class RequestBody:
    """One request's body. Iterate it once, in one thread, for its chunks, and close the iterator in the end.

    A chunk may be lent (see Chunk). A new chunk for each arrival would leave gaps in the heap, which would never stop
    growing; one buffer does not.

    Making it raises PayloadTooLargeError for an announced length over the limit. Iterating raises that,
    IncompleteBodyError, UploadTimeoutError, UpstreamSpokeError, UploadEndedError, and DrainingError once `must_end`
    returns True.
    """

    def __init__(
        self,
        environ: Mapping[str, Any],
        limits: InboundLimits,
        open_reader: OpenReader = open_plain_reader,
        *,
        must_end: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.progress = UploadProgress(announced_length(environ))
        self._environ = environ
        self._limits = limits
        self._open_reader = open_reader
        self._must_end = must_end
        self._monotonic = monotonic
        if (self.progress.announced_bytes or 0) > limits.max_bytes:
            raise too_large(limits.max_bytes)

    def __iter__(self) -> Generator[Chunk, None, None]:
        """Give the chunks as they arrive."""
        progress, limits, announced_bytes = self.progress, self._limits, self.progress.announced_bytes
        floor = RateFloor(limits.min_bytes_per_second)
        with self._open_reader(self._environ, progress, limits.idle_seconds) as read:
            while announced_bytes is None or progress.received_bytes < announced_bytes:
                if self._must_end():
                    raise DrainingError(f"only {progress.received_bytes} bytes came before the server's end")
                left = CHUNK_BYTES if announced_bytes is None else announced_bytes - progress.received_bytes
                asked_at = self._monotonic()
                try:
                    chunk = read(min(CHUNK_BYTES, left))
                except (UpstreamSpokeError, UploadEndedError):
                    raise
                except TimeoutError as error:
                    raise UploadTimeoutError(f"nothing arrived for {limits.idle_seconds:g} s") from error
                except Exception as error:  # gunicorn has its own classes for malformed chunks and for a lost client
                    raise IncompleteBodyError("the request body ended early or its chunks are malformed") from error
                if not chunk:
                    break
                progress.received_bytes += len(chunk)
                if progress.received_bytes > limits.max_bytes:
                    raise too_large(limits.max_bytes)
                if floor.is_broken_by(len(chunk), self._monotonic() - asked_at):
                    raise UploadTimeoutError(f"only {progress.received_bytes} bytes came so far")
                yield chunk
        if announced_bytes is not None and progress.received_bytes < announced_bytes:
            raise IncompleteBodyError("the request body is shorter than its Content-Length")


def announced_length(environ: Mapping[str, Any]) -> int | None:
    """Return the request's Content-Length in bytes; None for a chunked body, 0 if there is no body at all.

    Raises InvalidRequestError for any other transfer coding: the server decodes chunks, and nothing decodes the rest.
    """
    coding = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower()
    if coding == "chunked":
        return None
    if coding:
        raise InvalidRequestError("the request has a transfer coding other than chunked")
    try:
        return max(0, int(environ.get("CONTENT_LENGTH") or 0))
    except ValueError:
        return 0


def too_large(max_bytes: int) -> PayloadTooLargeError:
    """Return the failure for a body over the total limit."""
    return PayloadTooLargeError(f"at most {max_bytes} bytes in total", zh_tw=f"總計最多 {max_bytes} 位元組")
