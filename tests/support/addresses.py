"""Hosts with any number of addresses, and addresses that do not answer."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

Resolve = Callable[..., None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Gives a name its addresses; everything else is resolved as usual."""
    real = socket.getaddrinfo

    def resolve(name: str, *addresses: str) -> None:
        def resolved(host: object, port: int, *arguments: object, **named: object) -> object:
            if host != name:
                return real(host, port, *arguments, **named)  # type: ignore[arg-type]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", resolved)

    return resolve


@contextlib.contextmanager
def unanswering(*addresses: str, port: int = 0) -> Iterator[int]:
    """Give a port at which these addresses neither accept nor refuse a connection, because their queues are full."""
    with contextlib.ExitStack() as opened:
        for address in addresses:
            listener = opened.enter_context(socket.create_server((address, port), backlog=0))
            port = listener.getsockname()[1]
            for _ in range(3):
                filler = opened.enter_context(socket.socket())
                filler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filler.connect((address, port))
        yield port
