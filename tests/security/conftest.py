"""A gateway as deployed, behind nginx and https, and two ways to reach it: through nginx, and directly."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.support.clients import Client, RawConnection, RawResponse
from tests.support.stack import Stack

#: nginx's port for other TLS terminators, and gunicorn's own.
WAYS = ["through nginx", "around nginx"]


class Door:
    """One way to reach the gateway, for requests that no ordinary client sends."""

    def __init__(self, stack: Stack, way: str) -> None:
        assert stack.nginx is not None
        self._url = stack.nginx.url if way == WAYS[0] else stack.direct_url
        #: The one Host that is ours.
        self.host = urlsplit(stack.url).netloc

    def connect(self) -> RawConnection:
        return RawConnection(self._url)

    def ask(self, method: str, path: str, *headers: tuple[str, str], body: bytes = b"") -> RawResponse:
        """Send one raw request on its own connection; the Host is ours unless one is given."""
        given = list(headers)
        if not any(name.lower() == "host" for name, _ in given):
            given.insert(0, ("Host", self.host))
        if body:
            given.append(("Content-Length", str(len(body))))
        with self.connect() as connection:
            return connection.send_head(method, path, given).send(body).read_response(method)

    def talk(self, data: bytes) -> bytes:
        """Send these bytes and return all that arrives until the server closes the connection.

        The last request must ask for the close: a connection that we close would look like a client that has left.
        """
        received = b""
        with self.connect() as connection:
            connection.send(data)
            try:
                while piece := connection.socket.recv(65_536):
                    received += piece
            except ConnectionResetError:
                pass
        return received


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("security"), nginx={"tls": True}) as made:
        yield made


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """The shared stack, without jobs, faults and logs of calls."""
    shared_stack.reset()
    return shared_stack


@pytest.fixture(params=WAYS)
def door(stack: Stack, request: pytest.FixtureRequest) -> Door:
    return Door(stack, request.param)


@pytest.fixture
def alice(stack: Stack) -> Client:
    return stack.signed_in("alice")


@pytest.fixture
def bob(stack: Stack) -> Client:
    return stack.signed_in("bob")
