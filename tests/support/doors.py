"""A door in front of an upstream: a TCP port that can be shut, at once or after a few more connections.

A service that has to respond to the earlier calls of a test cannot refuse connections at the same time. The door lets
those calls through, and is shut for the next connection.
"""

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.support.processes import free_port

_PIECE_BYTES = 64 * 1024


class Door:
    """Passes connections on to `url`. While it is shut its port refuses them, or its name cannot be resolved."""

    def __init__(self, url: str, unresolvable: Path) -> None:
        """`unresolvable` is the file in which `tests.support.scaled_gateway` looks up what it cannot resolve."""
        parts = urlsplit(url)
        self._behind = (parts.hostname or "", parts.port or 80)
        self._unresolvable = unresolvable
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self._lock = threading.Lock()
        self._passing: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._admitted: int | None = None
        self._is_nameless = False
        self.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Let every connection through."""
        self._unresolvable.unlink(missing_ok=True)
        with self._lock:
            self._admitted = None
            if self._listener is None:
                self._listener = socket.socket()
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._listener.bind(("127.0.0.1", self.port))
                self._listener.listen(64)
                threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def admit(self, connections: int, *, nameless: bool = False) -> None:
        """Close the existing connections, let that many more through, and then none.

        Further ones are refused or, if `nameless`, fail before that because the name is not resolved.
        """
        with self._lock:
            self._is_nameless = nameless
            self._admitted = connections
            leaving, self._passing = self._passing, set()
            if not connections:
                self._shut()
        for connection in leaving:
            _end(connection)

    def close(self) -> None:
        """Shut it for good."""
        self.admit(0)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                if self._admitted is not None:
                    self._admitted -= 1
                    # Before a byte passes, so that the door has its new state when a response arrives.
                    if self._admitted <= 0:
                        self._shut()
                outside = socket.create_connection(self._behind)
                self._passing |= {inside, outside}
            for source, target in ((inside, outside), (outside, inside)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _shut(self) -> None:
        if self._is_nameless:
            self._unresolvable.write_text(f"{self.port}\n", encoding="ascii")
        if self._listener is not None:
            # Closing alone would not wake the thread that waits in accept().
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                target.sendall(data)
        _end(source)
        _end(target)
        with self._lock:
            self._passing -= {source, target}


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
