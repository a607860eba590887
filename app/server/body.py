"""Read a request body as it arrives, past the buffers of gunicorn, and end a connection whose body stays unread."""

import contextlib
import io
import mmap
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gunicorn.http.body import Body, LengthReader

from app.streaming import LENT_FROM_BYTES, Chunk
from app.streaming.inbound import CHUNK_BYTES, Read, open_plain_reader
from app.streaming.progress import UploadProgress

#: If at least so many bytes of a body are unread, gunicorn closes the connection; it reads and discards fewer.
SERVER_READS_ON_BYTES = 64 * 1024
#: After a pause of this length an upload holds no memory for large chunks. If it were much shorter, getting the memory
#: again would cost fast uploads time.
PAUSE_SECONDS = 1.0
#: A client over a slow line sends a packet at a time, and each would cost a turn of its thread. So a thread that waits
#: wakes up for so many bytes, or for fewer after a pause. 500 uploads of 20 KB/s then take a tenth of the CPU time.
FEW_BYTES = 16_000
# The size of a cache line.
_PAST_PAGE_BYTES = 64


@contextlib.contextmanager
def open_reader(environ: Mapping[str, Any], progress: UploadProgress, idle_seconds: float) -> Iterator[Read]:
    """Give a function for `RequestBody` that reads what has arrived of a request body.

    What arrives is passed on within PAUSE_SECONDS, and not only when a buffer is full. A large chunk of a body of known
    length may be lent. While the function waits it listens to the upstream (`UploadProgress.wait_for`). With another
    server, or if a part of the body was read before, it is that of `open_plain_reader`.
    """
    body: Any = environ["wsgi.input"]
    if not isinstance(body, Body) or body.buf.tell():
        with open_plain_reader(environ, progress, idle_seconds) as read:
            yield read
        return
    has_length = isinstance(body.reader, LengthReader)
    unreader = body.reader.unreader if has_length else body.reader.req.unreader
    sock = unreader.sock
    # Below gunicorn's parsers: a wait above them could be for bytes that they have in their buffers already.
    unreader.sock = client = _ClientSocket(sock, progress, idle_seconds)
    try:
        yield _length_reader(body.reader, client) if has_length else _chunked_reader(body.reader)
    finally:
        unreader.sock = sock
        client.wake_at(1)
        sock.settimeout(idle_seconds)


def end_connection(environ: Mapping[str, Any]) -> None:
    """Make the response announce that the connection ends with it, because much of the body is unread.

    Otherwise gunicorn closes a connection that its response has promised to leave open, and the client's next request
    on it is lost. Does nothing with another worker than ours.
    """
    close: Callable[[], None] | None = getattr(environ.get("wsgi.input"), "close_connection", None)
    if close is not None:
        close()


def is_tls(sock: Any) -> bool:
    """Return whether this socket encrypts and decrypts with TLS."""
    return hasattr(sock, "pending")


class _ClientSocket:
    """The client's socket as gunicorn's parsers read it; a read that waits also listens to the upstream.

    Reads raise TimeoutError after the idle time, and UpstreamSpokeError.
    """

    def __init__(self, sock: Any, progress: UploadProgress, idle_seconds: float) -> None:
        self._sock = sock
        self._progress = progress
        self._idle_seconds = idle_seconds
        self._wakes_at = 1
        self.is_tls = is_tls(sock)
        sock.settimeout(0)

    def recv(self, size: int) -> bytes:
        while True:
            # Read first: there is nothing to wait for while bytes come as fast as they are passed on, and the sender
            # listens to the upstream, too. Bytes that TLS has decrypted already don't make the descriptor readable.
            try:
                data: bytes = self._sock.recv(size)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._progress.wait_for(self._sock, self._idle_seconds)
            else:
                return data

    def recv_into(self, buffer: "_Buffer", size: int) -> int:
        pause_seconds = min(PAUSE_SECONDS, self._idle_seconds)
        while True:
            try:
                count: int = self._sock.recv_into(buffer.view, size)
            except BlockingIOError:
                self.wake_at(min(FEW_BYTES, size))
            else:
                return count
            try:
                self._progress.wait_for(self._sock, pause_seconds)
            except TimeoutError:
                self.wake_at(1)
                buffer.free()
                self._progress.wait_for(self._sock, self._idle_seconds - pause_seconds)

    def wake_at(self, size: int) -> None:
        """Have a wait end when so many bytes have arrived (SO_RCVLOWAT, socket(7)), or when the client has closed."""
        if size != self._wakes_at:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            self._wakes_at = size


def _chunked_reader(reader: Any) -> Read:
    """Return a function that reads what one arrival brings of a chunked body, without gunicorn's four copies."""

    def read(_size: int) -> bytes:
        # A piece is at most what one recv() returns, hence at most 1 MiB; an empty one would look like the end.
        for piece in reader.parser:
            if piece:
                return bytes(piece)
        reader.parser = None  # so that gunicorn knows that the body was read
        return b""

    return read


def _length_reader(reader: LengthReader, client: _ClientSocket) -> Read:
    """Return a function that reads what one arrival brings of a body of known length. It lends large chunks."""
    unreader = reader.unreader

    def read(size: int) -> bytes:
        data = bytes(unreader.read(None, read_ahead=min(size, reader.length)))
        if len(data) > reader.length:  # a pipelined request follows in the same buffer
            unreader.unread(data[reader.length :])
            data = data[: reader.length]
        # By this attribute gunicorn knows what it still has to read before the connection's next request.
        reader.length -= len(data)
        return data

    if client.is_tls or reader.length < LENT_FROM_BYTES:
        return read
    buffer = _Buffer(min(CHUNK_BYTES, reader.length))

    def read_into_buffer(size: int) -> Chunk:
        # What came with the head is in gunicorn's buffer, and the first read may have to answer `Expect` (the worker).
        if unreader.buf.seek(0, io.SEEK_END) or "chunk" in vars(unreader):
            return read(size)
        count = client.recv_into(buffer, min(size, reader.length))
        reader.length -= count
        return buffer.take(count)

    return read_into_buffer


class _Buffer:
    """Memory for one upload's large chunks. It takes some only while large chunks arrive.

    Not from the heap: it has an arena for each thread, and each arena would hold such a buffer for the next upload.
    And not at the start of a page: the kernel's own pages start there, and on some processors a copy between addresses
    that differ only in the page takes 1.5 times as long.
    """

    def __init__(self, size: int) -> None:
        self._mapped = mmap.mmap(-1, _PAST_PAGE_BYTES + size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self._mapped)[_PAST_PAGE_BYTES:]
        #: When the last large chunk came; None if none has since the memory was freed.
        self._used_at: float | None = None

    def take(self, count: int) -> Chunk:
        """Return the first `count` bytes: lent if they are many, else a copy."""
        if count >= LENT_FROM_BYTES:
            self._used_at = time.monotonic()
            return self.view[:count]
        chunk = bytes(self.view[:count])
        if self._used_at is not None and time.monotonic() - self._used_at > PAUSE_SECONDS:
            self.free()
        return chunk

    def free(self) -> None:
        """Give the memory back to the system. The next chunk takes what it needs."""
        if self._used_at is not None:
            self._used_at = None
            self._mapped.madvise(mmap.MADV_DONTNEED)
