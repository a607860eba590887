"""The network between the browsers and nginx, which can break."""

import socket
import threading
from contextlib import suppress
from typing import Self

_PIECE_BYTES = 64 * 1024


class Network:
    """A TCP proxy.

    When it breaks, the browser's connections are closed and new ones are refused. nginx is not told: its ends of these
    connections stay open, as when a device loses its Wi-Fi.
    """

    def __init__(self, port: int, nginx_port: int) -> None:
        """Listen on `port`."""
        self._port, self._nginx_port = port, nginx_port
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._is_broken = threading.Event()
        self._outer: set[socket.socket] = set()
        self._inner: set[socket.socket] = set()
        self._breaking_bytes: int | None = None
        self.restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        with self._lock:
            for connection in self._inner:
                _end(connection)

    def break_after(self, sent_bytes: int) -> None:
        """Break once a browser has sent that much by one connection."""
        self._breaking_bytes = sent_bytes

    def cut(self) -> None:
        """Break now."""
        with self._lock:
            self._is_broken.set()
            self._breaking_bytes = None
            # First, because a browser may repeat a request at once.
            if self._listener is not None:
                _end(self._listener)
                self._listener = None
            for connection in self._outer:
                _end(connection)

    def restore(self) -> None:
        """Work again, for new connections, if it is broken."""
        with self._lock:
            if self._listener is None:
                self._is_broken = threading.Event()
                self._listener = socket.create_server(("127.0.0.1", self._port))
                threading.Thread(target=self._accept, args=(self._listener, self._is_broken), daemon=True).start()

    def _accept(self, listener: socket.socket, is_broken: threading.Event) -> None:
        with suppress(OSError):
            while True:
                outer, _ = listener.accept()
                threading.Thread(target=self._connect, args=(outer, is_broken), daemon=True).start()

    def _connect(self, outer: socket.socket, is_broken: threading.Event) -> None:
        with outer, socket.create_connection(("127.0.0.1", self._nginx_port)) as inner:
            with self._lock:
                if is_broken.is_set():
                    return
                self._outer.add(outer)
                self._inner.add(inner)
            answers = threading.Thread(target=self._pass, args=(inner, outer, is_broken), daemon=True)
            answers.start()
            self._pass(outer, inner, is_broken)
            answers.join()
            with self._lock:
                self._outer.discard(outer)
                self._inner.discard(inner)

    def _pass(self, source: socket.socket, target: socket.socket, is_broken: threading.Event) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                target.sendall(data)
                passed += len(data)
                if source in self._outer and self._breaking_bytes is not None and passed > self._breaking_bytes:
                    self.cut()
            # The other direction goes on: a response may come before the end of its request.
            if not is_broken.is_set():
                target.shutdown(socket.SHUT_WR)


def _end(connection: socket.socket) -> None:
    # Closing alone would not wake the threads that wait for it.
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
