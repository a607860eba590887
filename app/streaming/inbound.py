"""Reading a WSGI request body without trusting it to end, and without waiting for ever.

gunicorn shows a client that went away as a silent short read, and lets a stalled body hold its thread for ever. So the
bytes are counted against Content-Length, and the socket gets an idle time-out where the server lets us have it.
Nothing raised here is an OSError: urllib3 takes an OSError out of a body iterator for the upstream's own doing.
"""

import contextlib
import io
import mmap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidRequestError, PayloadTooLargeError, UploadTimeoutError
from app.streaming import LENT_FROM_BYTES, Chunk
from app.streaming.interruption import HearingSocket, Interruption, StreamInterruptedError, is_tls
from app.streaming.rate import RateFloor

#: One read never asks for more than this. Each turn of the loop meets a cache that the bytes have swept out, and wakes
#: the client and the upstream: by 512 KiB an upload costs a fifth more CPU. Larger ones bring only more memory.
CHUNK_BYTES = 1024 * 1024
# A line of the processor's cache.
_PAST_PAGE_BYTES = 64
#: How much of an unread body gunicorn takes off the wire to keep a connection.
SERVER_READS_ON_BYTES = 64 * 1024
#: Where a read may block until it is full, it must be small enough that the minimum rate is still noticed.
_BLOCKING_READ_BYTES = 8 * 1024


class IncompleteBodyError(InvalidRequestError):
    """The client went away, or closed its side, before the body that it had announced was whole."""


@dataclass(frozen=True, slots=True)
class InboundLimits:
    """What a request body may be: bytes in total, seconds without a byte, bytes per second on the whole."""

    max_bytes: int
    idle_seconds: float
    min_bytes_per_second: int


class RequestBody:
    """One request's body as an iterator of chunks. For one thread, once.

    `on_progress` is called after every read, with the bytes read so far; what it raises ends the reading. While it
    waits for bytes, it hears what `interruption` names, and raises StreamInterruptedError for it. Iterating also
    raises IncompleteBodyError, UploadTimeoutError or PayloadTooLargeError (413 also before the first byte, when the
    announced length is over the limit). After a normal end `bytes_read` is the size of the whole body.

    With `lends_buffer` a large chunk may be a view of a buffer which the next one overwrites (where the server can read
    so), for whoever is done with a chunk when he asks for the next. A stream of fresh chunks, each cut to what came,
    leaves gaps in the heap, which never stops growing by it; one buffer does not.
    """

    def __init__(
        self,
        environ: Mapping[str, Any],
        limits: InboundLimits,
        *,
        on_progress: Callable[[int], None] | None = None,
        interruption: Interruption | None = None,
        lends_buffer: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environ = environ
        self._lends_buffer = lends_buffer
        self._limits = limits
        self._on_progress = on_progress
        self._interruption = interruption
        self._monotonic = monotonic
        self.bytes_read = 0
        self.announced_bytes = announced_length(environ)
        if self.announced_bytes is not None and self.announced_bytes > limits.max_bytes:
            raise too_large(limits.max_bytes)

    def __iter__(self) -> Iterator[Chunk]:
        with _heard_by(self._environ, self._interruption, self._limits.idle_seconds):
            yield from self._chunks()

    def _chunks(self) -> Iterator[Chunk]:
        read = _reader(self._environ["wsgi.input"], lends_buffer=self._lends_buffer)
        floor = RateFloor(self._limits.min_bytes_per_second)
        while self.announced_bytes is None or self.bytes_read < self.announced_bytes:
            left = CHUNK_BYTES if self.announced_bytes is None else self.announced_bytes - self.bytes_read
            asked_at = self._monotonic()
            try:
                data = read(min(CHUNK_BYTES, left))
            except StreamInterruptedError:
                raise
            except TimeoutError as error:
                raise UploadTimeoutError(f"nothing arrived for {self._limits.idle_seconds:g} s") from error
            except Exception as error:  # gunicorn has its own classes for malformed chunks and for a lost client
                raise IncompleteBodyError("the request body ended early or its chunks are malformed") from error
            if not data:
                break
            self.bytes_read += len(data)
            if self.bytes_read > self._limits.max_bytes:
                raise too_large(self._limits.max_bytes)
            if floor.is_broken_by(len(data), self._monotonic() - asked_at):
                raise UploadTimeoutError(f"only {self.bytes_read} bytes came so far")
            if self._on_progress is not None:
                self._on_progress(self.bytes_read)
            yield data
        if self.announced_bytes is not None and self.bytes_read < self.announced_bytes:
            raise IncompleteBodyError("the request body is shorter than its Content-Length")


def announced_length(environ: Mapping[str, Any]) -> int | None:
    """The request's Content-Length in bytes, or None for a chunked body; 0 where there is no body at all.

    Raises InvalidRequestError for any other transfer coding: the server takes off chunks, and nobody the rest.
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


def end_connection(environ: Mapping[str, Any]) -> None:
    """Have the server say in its answer that the connection ends with it, because much of the body is unread.

    gunicorn reads on for a little and then closes, although its answer has promised to keep the connection; the
    client's next request on it would be lost. Our worker hangs the means to say so on the body; with another worker
    nothing is done.
    """
    close: Callable[[], None] | None = getattr(environ.get("wsgi.input"), "close_connection", None)
    if close is not None:
        close()


def too_large(max_bytes: int) -> PayloadTooLargeError:
    """The failure for a body over the total limit."""
    return PayloadTooLargeError(f"at most {max_bytes} bytes in total")


def _reader(body: Any, *, lends_buffer: bool) -> Callable[[int], Chunk]:
    """Return a read function: `read(n)` gives 1 to n bytes, b"" at the end, TimeoutError after the idle time."""
    fast = _gunicorn_reader(body, lends_buffer=lends_buffer)
    if fast is not None:
        return fast

    chunked = _gunicorn_chunked_reader(body)
    if chunked is not None:
        return chunked

    def read(size: int) -> bytes:
        return bytes(body.read(min(size, _BLOCKING_READ_BYTES)))

    return read


@contextlib.contextmanager
def _heard_by(environ: Mapping[str, Any], interruption: Interruption | None, idle_seconds: float) -> Iterator[None]:
    """For the length of the block, have gunicorn wait for this body by way of the interruption, where that is possible.

    Elsewhere the socket gets the idle time alone, if the server lets us have it. The interruption is put below the
    parsers of gunicorn, and not before them: they hold bytes back, and would then be waited for in vain.
    """
    reader: Any = getattr(environ["wsgi.input"], "reader", None)
    unreader: Any = getattr(reader if hasattr(reader, "unreader") else getattr(reader, "req", None), "unreader", None)
    sock: Any = environ.get("gunicorn.socket")
    if hasattr(sock, "settimeout"):
        sock.settimeout(idle_seconds)
    has_it = sock is not None and getattr(unreader, "sock", None) is sock
    if interruption is None or not has_it:
        yield
        return
    if not is_tls(sock):
        sock.setblocking(False)
    unreader.sock = HearingSocket(sock, interruption, idle_seconds)
    try:
        yield
    finally:
        unreader.sock = sock
        sock.settimeout(idle_seconds)


def _gunicorn_chunked_reader(body: Any) -> Callable[[int], bytes] | None:
    """For gunicorn's chunked bodies: what one arrival brings, past the buffers that would copy it four times.

    None for another server or version, and for a body that somebody has begun to read.
    """
    reader: Any = getattr(body, "reader", None)
    pieces: Any = getattr(reader, "parser", None)
    read_ahead: list[Any] = [getattr(place, "buf", None) for place in (body, reader)]
    if not hasattr(pieces, "__next__") or any(not hasattr(buf, "tell") or buf.tell() for buf in read_ahead):
        return None

    def read(_size: int) -> bytes:
        # A piece is at most what one recv() gives, hence at most 1 MiB; an empty one would look like the end.
        for piece in pieces:
            if piece:
                return bytes(piece)
        reader.parser = None  # as the reader itself notes the end, for those who ask it what is left
        return b""

    return read


def _gunicorn_reader(body: Any, *, lends_buffer: bool) -> Callable[[int], Chunk] | None:
    """Past gunicorn's buffering: whatever one recv() brings, so that every arrival counts as progress.

    Only for a body of known length that nobody has begun to read; None for any other server or version.
    """
    reader: Any = getattr(body, "reader", None)
    unreader: Any = getattr(reader, "unreader", None)
    buffered = getattr(body, "buf", None)
    if not isinstance(getattr(reader, "length", None), int) or not hasattr(unreader, "read"):
        return None
    if buffered is None or not hasattr(buffered, "tell") or buffered.tell():
        return None
    try:
        unreader.read(0, read_ahead=0)
    except TypeError:
        return None

    def read(size: int) -> Chunk:
        data = bytes(unreader.read(None, read_ahead=min(size, reader.length)))
        if len(data) > reader.length:  # a pipelined request follows in the same buffer
            unreader.unread(data[reader.length :])
            data = data[: reader.length]
        # gunicorn counts by this attribute what it still has to drain before the connection's next request.
        reader.length -= len(data)
        return data

    is_large = reader.length >= LENT_FROM_BYTES
    if not (lends_buffer and is_large and hasattr(getattr(unreader, "sock", None), "recv_into")):
        return read
    try:
        buffer = _map_buffer(min(CHUNK_BYTES, reader.length))
    except OSError:  # pragma: no cover - the kernel gives no more maps; pieces of the heap may still be had
        return read

    def read_into_buffer(size: int) -> Chunk:
        # What came with the head is in gunicorn's buffer, and the first read may have to answer `Expect` (the worker).
        if unreader.buf.seek(0, io.SEEK_END) or "chunk" in vars(unreader):
            return read(size)
        count = unreader.sock.recv_into(buffer, min(size, reader.length))
        reader.length -= count
        return buffer[:count] if count >= LENT_FROM_BYTES else bytes(buffer[:count])

    return read_into_buffer


def _map_buffer(size: int) -> memoryview:
    """Memory that goes back with the last view of it.

    Not from the heap: that has a part for each thread, and each part would keep one for the next upload there. And not
    where a page begins: the kernel's own pages do, and a copy between places that differ in nothing but the page takes
    half as long again on some processors, which take the one for the other.
    """
    mapped = mmap.mmap(-1, _PAST_PAGE_BYTES + size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return memoryview(mapped)[_PAST_PAGE_BYTES:]
