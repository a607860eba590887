"""How far one upload has come, and waiting for its next bytes.

A gateway that passes an upload on waits for the client's bytes most of the time. Meanwhile it has to notice an upstream
that refuses the upload or goes away: the client may have paused because it waits for a response itself.
"""

import contextlib
import select
import socket
from collections.abc import Callable, Iterator

from app.streaming.ending import Ending


class UpstreamSpokeError(Exception):
    """The upstream has responded, or closed its connection, before it had the whole upload.

    Not an OSError: the reader of the client's body takes an OSError for a failure of the client's connection.
    """


class UploadProgress:
    """The state of one upload. For the one thread that passes it on.

    The request body counts what it receives and waits by `wait_for`; the connection to the upstream counts what it
    sends, and names its socket by `listening_to`.
    """

    def __init__(self, announced_bytes: int | None = None) -> None:
        #: The size of the client's request body; None if the client does not announce it.
        self.announced_bytes = announced_bytes
        #: How much of the request body has arrived.
        self.received_bytes = 0
        #: How much of the message the upstream's connection has taken.
        self.sent_bytes = 0
        #: Whether the end of the message was sent: from then on the upstream may have acted on it.
        self.is_whole = False
        #: Interrupts every wait of the upload. None if nobody can end it.
        self.ending: Ending | None = None
        self._upstream: socket.socket | None = None
        self._on_readable: Callable[[], None] | None = None

    def __str__(self) -> str:
        """Describe the progress for a log line."""
        return f"{'all' if self.is_whole else 'a part'} of the upload was sent, {self.sent_bytes} bytes"

    @contextlib.contextmanager
    def listening_to(self, upstream: socket.socket, on_readable: Callable[[], None]) -> Iterator[None]:
        """In the block, call `on_readable` whenever `wait_for` finds `upstream` readable.

        `on_readable` raises UpstreamSpokeError, or returns if there was nothing for us (a TLS session ticket).
        """
        self._upstream, self._on_readable = upstream, on_readable
        try:
            yield
        finally:
            self._upstream = self._on_readable = None

    def wait_for(self, client: socket.socket, seconds: float) -> None:
        """Wait until `client` is readable or closed.

        Raises TimeoutError after `seconds`, UpstreamSpokeError, and UploadEndedError.
        """
        upstream, on_readable = self._upstream, self._on_readable
        poll = select.poll()
        poll.register(client, select.POLLIN)
        if upstream is not None:
            poll.register(upstream, select.POLLIN)
        if self.ending is not None:
            poll.register(self.ending, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(seconds * 1000)]
            if not ready:
                raise TimeoutError("nothing arrived")
            if self.ending is not None:
                self.ending.check()
            if upstream is not None and on_readable is not None and upstream.fileno() in ready:
                on_readable()
            if client.fileno() in ready:
                return
