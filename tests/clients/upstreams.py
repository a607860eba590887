"""Real upstreams on port 0 whose every byte a test decides, and the gateway's clients joined to them."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from requests.adapters import HTTPAdapter

from app.clients.converter import ConverterClient
from app.clients.file_access import FileAccessClient
from app.clients.member_center import MemberCenterClient
from app.clients.retry import MATRIX, Call, Retrier, RetryPolicy
from app.clients.tokens import ServiceTokens
from app.clients.transport import Timeouts, Upstream
from app.clients.upload import UploadTransport
from app.clients.watchdog import Watchdog
from app.domain.basic_credentials import basic_authorization
from app.streaming.multipart import UploadMessage
from app.streaming.progress import UploadProgress
from tests.support.certificates import own_authority
from tests.support.clocks import FakeClock, FakeMonotonic, FakeSleep
from tests.support.fakes import FakeTokenSource

#: The one watchdog of all these tests: each has a thread, which never ends.
WATCHDOG = Watchdog()

JOB = b'{"job_id": "job-1", "user_id": "alice", "status": "running", "stage": "bie", "progress": 40}'


@dataclass
class Request:
    """One request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    is_whole: bool = True


@dataclass
class Wire:
    """One connection, from the upstream's side."""

    sock: socket.socket
    buffer: bytes = b""

    def read_until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            if not (data := self.sock.recv(65_536)):
                raise EOFError
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(end)
        return found

    def read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not (data := self.sock.recv(65_536)):
                raise EOFError
            self.buffer += data
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def read_head(self) -> Request:
        first, *lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Request(method, target, headers)

    def read_body(self, request: Request) -> None:
        """Read the body into the request; `is_whole` tells whether all of it came."""
        body = bytearray()
        try:
            if request.headers.get("transfer-encoding") == "chunked":
                while size := int(self.read_until(b"\r\n"), 16):
                    body += self.read_exactly(size)
                    self.read_exactly(2)
                self.read_exactly(2)
            else:
                body += self.read_exactly(int(request.headers.get("content-length", 0)))
        except (EOFError, OSError):
            request.is_whole = False
        request.body = bytes(body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Close so that the other side sees a reset instead of an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def wait_for_end(self) -> None:
        """Wait until the client closes its side."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65_536):
                pass


def response(body: bytes = b"{}", status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole response, with the headers that are given and Content-Length where they do not say otherwise."""
    fields = {"Content-Length": str(len(body)), "Connection": "close"} | dict(headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode("latin-1") + body


Talk = Callable[[Wire], None]


class LocalServer:
    """Accepts on a local port and lets `talk` speak on each connection; `requests` remembers what was asked."""

    def __init__(self, talk: Talk, tls: ssl.SSLContext | None = None) -> None:
        self.talk = talk
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._threads: list[threading.Thread] = []
        self._wires: list[Wire] = []
        port = self._listener.getsockname()[1]
        self.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        self.ended = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def connections(self) -> int:
        return len(self._wires)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(20)
                # What waits for an acknowledgement is lost where the connection is then closed with bytes unread.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wire = Wire(sock)
                self._wires.append(wire)
                thread = threading.Thread(target=self._serve, args=(wire,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, wire: Wire) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                if self._tls is not None:
                    wire.sock = self._tls.wrap_socket(wire.sock, server_side=True)
                self.talk(wire)
        finally:
            wire.sock.close()

    def close(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(10)
        for wire in self._wires:
            with contextlib.suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


@dataclass
class Script:
    """Answers one request a connection: the n-th with the n-th entry, the last forever. Remembers the requests."""

    responses: list[bytes | Callable[[Request], bytes]]
    requests: list[Request] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, wire: Wire) -> None:
        request = wire.read_head()
        wire.read_body(request)
        with self._guard:
            self.requests.append(request)
            entry = self.responses[min(len(self.requests), len(self.responses)) - 1]
        wire.send(entry(request) if callable(entry) else entry)


@contextlib.contextmanager
def serving(talk: Talk) -> Iterator[LocalServer]:
    server = LocalServer(talk)
    try:
        yield server
    finally:
        server.close()


def refusing_url() -> str:
    """An address where no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def upstream(url: str, watchdog: Watchdog = WATCHDOG) -> Upstream:
    return Upstream(url, pool_size=8, watchdog=watchdog)


def quick_matrix(seconds: float) -> dict[Call, RetryPolicy]:
    """The real matrix with timeouts that a test can wait for."""
    return {
        call: RetryPolicy(
            policy.retried_on,
            policy.waits_seconds,
            Timeouts(seconds, seconds, None if policy.timeouts.total_seconds is None else seconds),
        )
        for call, policy in MATRIX.items()
    }


@dataclass
class Clients:
    """All clients, each pointed at the same base URL, with a sleep that remembers."""

    url: str
    matrix: Mapping[Call, RetryPolicy] = field(default_factory=lambda: MATRIX)
    sleep: FakeSleep = field(default_factory=FakeSleep)
    token_source: FakeTokenSource = field(default_factory=FakeTokenSource)
    #: Of the service tokens.
    clock: FakeMonotonic = field(default_factory=lambda: FakeMonotonic(0.0))

    def __post_init__(self) -> None:
        self.upstream = upstream(self.url)
        self.retrier = Retrier(self.matrix, self.sleep)
        self.tokens = ServiceTokens(self.token_source, monotonic=self.clock)
        self.uploads = UploadTransport(self.url, WATCHDOG, own_authority())
        self.converter = ConverterClient(self.upstream, self.uploads, self.tokens, self.retrier)
        self.files = FileAccessClient(self.upstream, "https://files.example", self.tokens, self.retrier)
        self.mc_upstream = upstream("")
        self.member_center = MemberCenterClient(
            self.mc_upstream,
            self.retrier,
            issuer=self.url,
            service_authorization=basic_authorization("gateway", "the-service-client-secret", "rfc6749"),
            clock=FakeClock(datetime(2026, 3, 1, 12, tzinfo=UTC)),
        )

    def close(self) -> None:
        self.upstream.close()
        self.mc_upstream.close()

    def mock_connections(self) -> None:
        """Let `responses` answer for every upstream."""
        for mocked in (self.upstream, self.mc_upstream):
            mocked.session.mount("http://", MockedAdapter())


@contextlib.contextmanager
def clients_of(talk: Talk, seconds: float | None = None) -> Iterator[tuple[Clients, LocalServer]]:
    """Clients and the server that they talk to."""
    with serving(talk) as server:
        clients = Clients(server.url, quick_matrix(seconds) if seconds else MATRIX)
        try:
            yield clients, server
        finally:
            clients.close()


class MockedAdapter(HTTPAdapter):
    """Mounted on an Upstream's session, and the target of `responses`: nothing else of requests is touched."""

    def send(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
        raise AssertionError("responses is not active")


MOCKED_SEND = f"{__name__}.MockedAdapter.send"


def message(
    data: bytes = b"model bytes", source: Iterator[bytes] | None = None, *, announced_bytes: int | None = None
) -> UploadMessage:
    """An upload of alice's that is ready to be sent."""
    body = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n' + data + b"\r\n--b--\r\n"
    return UploadMessage(
        source if source is not None else iter([body]),
        "b",
        "alice",
        max_parts=10,
        progress=UploadProgress(announced_bytes),
    )


class Chunks:
    """Any body for an upload."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.progress = UploadProgress()
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)


@dataclass
class Sink:
    """A receiver of a pull."""

    data: bytearray = field(default_factory=bytearray)
    restarts: int = 0

    def write(self, data: bytes) -> None:
        self.data += data

    def restart(self) -> None:
        self.data.clear()
        self.restarts += 1
