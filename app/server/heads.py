"""Reading a request's head as far as it has come, without waiting for the rest.

A server that gives a thread to a connection as soon as its first byte is there can be stopped by a few dozen clients
that send half a head and nothing more. Here the bytes are collected in the buffer of the server's parser, as they come,
and the parser is called when it will not have to wait.
"""

import enum
import io
import socket

#: More than nginx passes on (its 4 buffers of 8 KB, and what it adds).
MAX_HEAD_BYTES = 48 * 1024
# What gunicorn's parser reads at a time: what of a body comes along is copied once more.
_READ_BYTES = 8 * 1024
_END = b"\r\n\r\n"


class Head(enum.Enum):
    """How much of a request's head has arrived."""

    NOTHING = enum.auto()
    PART = enum.auto()
    WHOLE = enum.auto()
    #: Longer than MAX_HEAD_BYTES, and still without an end.
    TOO_LARGE = enum.auto()
    #: The peer has gone away, or closed its side, in the middle of it or before.
    ENDED = enum.auto()


def read_head(sock: socket.socket, buffer: io.BytesIO, *, is_continued: bool = False) -> Head:
    """Add to `buffer` what a non-blocking socket has ready, until a whole head is there; never waits.

    What follows the head (a body, a further request) may come along, a few KB of it. With `is_continued` an earlier
    call has found a part of a head in the buffer, which is then not looked through again: a head that comes byte by
    byte would cost the square of its size.
    """
    size = buffer.seek(0, io.SEEK_END)
    if size and not is_continued and _END in buffer.getvalue():
        return Head.WHOLE
    while size < MAX_HEAD_BYTES:
        try:
            data = sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return Head.PART if size else Head.NOTHING
        except OSError:
            return Head.ENDED
        if not data:
            return Head.ENDED
        # The end may lie across the seam.
        buffer.seek(max(0, size - len(_END) + 1))
        seam = buffer.read()
        buffer.write(data)
        if _END in seam + data:
            return Head.WHOLE
        size += len(data)
    return Head.TOO_LARGE
