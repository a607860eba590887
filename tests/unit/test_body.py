"""Reading request bodies from gunicorn: what has arrived, and listening to the upstream while waiting."""

import contextlib
import io
import itertools
import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import PayloadTooLargeError, UploadEndedError, UploadTimeoutError
from app.server.body import FEW_BYTES, PAUSE_SECONDS, _ClientSocket, end_connection, open_reader
from app.streaming import LENT_FROM_BYTES, Chunk
from app.streaming.ending import Ending
from app.streaming.inbound import CHUNK_BYTES, InboundLimits, IncompleteBodyError, RequestBody
from app.streaming.progress import UploadProgress, UpstreamSpokeError
from tests.support.processes import wait_until

ROOMY = InboundLimits(max_bytes=10_000_000, idle_seconds=5, min_bytes_per_second=0)


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = socket.socketpair()
    with client, server:
        yield client, server


def gunicorn_environ(server: socket.socket) -> dict[str, Any]:
    """What gunicorn's own parser makes of a request on this socket."""
    request = next(RequestParser(Config(), server, ("127.0.0.1", 1)))
    headers = dict(request.headers)
    found: dict[str, Any] = {"wsgi.input": request.body}
    if "CONTENT-LENGTH" in headers:
        found["CONTENT_LENGTH"] = headers["CONTENT-LENGTH"]
    if "TRANSFER-ENCODING" in headers:
        found["HTTP_TRANSFER_ENCODING"] = headers["TRANSFER-ENCODING"]
    return found


def post(body: bytes, length: int | None = None) -> bytes:
    return (
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body
    )


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


@contextlib.contextmanager
def sending(client: socket.socket, data: bytes) -> Iterator[None]:
    """Send from another thread, because the data exceeds the sockets' buffers."""
    sender = threading.Thread(target=client.sendall, args=[data])
    sender.start()
    yield
    sender.join()


def body_of(server: socket.socket, limits: InboundLimits = ROOMY) -> RequestBody:
    """The body of the request that arrives on this socket."""
    return RequestBody(gunicorn_environ(server), limits, open_reader)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=5_000),
    cuts=st.lists(st.integers(0, 5_000), max_size=4),
    is_chunked=st.booleans(),
)
def test_gunicorns_bodies_are_read_whole_however_they_arrive(data: bytes, cuts: list[int], is_chunked: bool) -> None:
    client, server = socket.socketpair()
    with client, server:
        message = chunked(*([data] if data else [])) if is_chunked else post(data)
        edges = sorted({0, *(cut for cut in cuts if cut < len(message)), len(message)})

        def send() -> None:
            for start, end in itertools.pairwise(edges):
                client.sendall(message[start:end])

        sender = threading.Thread(target=send)
        sender.start()
        body = body_of(server)
        assert b"".join(bytes(chunk) for chunk in body) == data
        assert body.progress.received_bytes == len(data)
        sender.join()


def test_gunicorns_length_reader_is_read_past_its_buffering(wire: tuple[socket.socket, socket.socket]) -> None:
    """Each arrival counts as progress: nothing waits until a whole chunk is there."""
    client, server = wire
    client.sendall(post(b"", 10) + b"abc")
    chunks = iter(body_of(server))
    assert next(chunks) == b"abc"
    client.sendall(b"defghij")
    assert next(chunks) == b"defghij"
    assert list(chunks) == []


def test_large_chunks_are_lent_and_small_ones_given(wire: tuple[socket.socket, socket.socket]) -> None:
    """A view is of the one buffer, so it shows the next chunk when that has come; bytes stay what they were."""
    client, server = wire
    data = bytes(range(256)) * 8_000
    with sending(client, post(data)):
        chunks = list(body_of(server))
    assert sum(len(chunk) for chunk in chunks) == len(data)
    views = [chunk for chunk in chunks if isinstance(chunk, memoryview)]
    assert views
    assert len({id(view.obj) for view in views}) == 1
    assert all(len(view) >= LENT_FROM_BYTES for view in views)
    assert all(len(chunk) < LENT_FROM_BYTES for chunk in chunks if isinstance(chunk, bytes))


@contextlib.contextmanager
def lent(wire: tuple[socket.socket, socket.socket]) -> Iterator[tuple[memoryview, Generator[Chunk, None, None]]]:
    """Give a large chunk, which is lent, and the chunks of the same body that follow it."""
    client, server = wire
    # All of it waits in the kernel before it is read.
    client.sendall(post(b"x" * 150_000, 500_000))
    with contextlib.closing(iter(body_of(server))) as chunks:
        large, received = None, 0
        while received < 150_000:
            chunk = next(chunks)
            received += len(chunk)
            large = chunk if isinstance(chunk, memoryview) else large
        assert large is not None
        assert large[-1:] == b"x"
        yield large, chunks


def test_an_upload_that_pauses_holds_no_memory_for_its_chunks(wire: tuple[socket.socket, socket.socket]) -> None:
    """Memory that the system has taken back shows zeros."""
    with lent(wire) as (chunk, chunks), ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, chunks)
        wait_until(lambda: chunk[-1:] == b"\0", "the memory is free")
        assert not following.done()
        wire[0].sendall(b"rest")
        assert following.result() == b"rest"


def test_an_upload_that_has_become_slow_holds_no_memory_for_large_chunks(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    """Although it never pauses for long."""
    with lent(wire) as (chunk, chunks):

        def is_free_after_a_small_chunk() -> bool:
            wire[0].sendall(b"y")
            return next(chunks) == b"y" and chunk[-1:] == b"\0"

        wait_until(is_free_after_a_small_chunk, "the memory is free", every=PAUSE_SECONDS / 5)


def test_small_packets_that_follow_each_other_are_read_together() -> None:
    """Each read is a turn of a thread, and hundreds of slow uploads would take most of a processor's time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server, ThreadPoolExecutor(1) as reader:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(post(b"", 10_000_000))
        with contextlib.closing(iter(body_of(server))) as chunks:

            def chunk_of_small_packets() -> int:
                chunk = reader.submit(next, chunks)
                while not wait([chunk], timeout=0.002).done:
                    client.sendall(b"x" * 1_000)
                return len(chunk.result())

            wait_until(lambda: chunk_of_small_packets() >= FEW_BYTES, "a chunk has many packets")


@pytest.mark.parametrize("first", [b"first", b"x" * 400_000], ids=["small", "lent"])
def test_a_pipelined_request_is_left_for_its_own_turn(first: bytes, wire: tuple[socket.socket, socket.socket]) -> None:
    client, server = wire
    parser = RequestParser(Config(), server, ("127.0.0.1", 1))
    read = []
    with sending(client, post(first) + post(b"second!")):
        for _ in range(2):
            request = next(parser)
            found = {"wsgi.input": request.body, "CONTENT_LENGTH": dict(request.headers)["CONTENT-LENGTH"]}
            read.append(b"".join(bytes(chunk) for chunk in RequestBody(found, ROOMY, open_reader)))
    assert read == [first, b"second!"]


def test_gunicorn_knows_that_the_body_was_read(wire: tuple[socket.socket, socket.socket]) -> None:
    client, server = wire
    client.sendall(post(b"x" * 1_000))
    found = gunicorn_environ(server)
    list(RequestBody(found, ROOMY, open_reader))
    assert found["wsgi.input"].reader.length == 0
    assert found["wsgi.input"].read(10) == b""


@pytest.mark.parametrize("sent", [b"", b"x" * 99])
def test_a_client_that_goes_away_leaves_an_incomplete_body(
    sent: bytes, wire: tuple[socket.socket, socket.socket]
) -> None:
    client, server = wire
    client.sendall(post(sent, 100))
    client.close()
    with pytest.raises(IncompleteBodyError):
        list(body_of(server))


@pytest.mark.parametrize(
    "message",
    [
        chunked(b"hello", end=b""),
        chunked(b"hello", end=b"0\r\n"),
        chunked(b"hello", end=b"5\r\nhe"),
        chunked(b"hello", end=b"zz\r\nhello\r\n0\r\n\r\n"),
        chunked(b"hello", end=b"5\r\nhelloXX0\r\n\r\n"),
        chunked(b"hello", end=b"-5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["no end", "half an end", "half a chunk", "no number", "no line end", "a negative size"],
)
def test_chunks_that_are_cut_off_or_malformed_make_an_incomplete_body(
    message: bytes, wire: tuple[socket.socket, socket.socket]
) -> None:
    client, server = wire
    client.sendall(message)
    client.close()
    with pytest.raises(IncompleteBodyError):
        list(body_of(server))


@pytest.mark.parametrize("message", [post(b"abc", 10), chunked(b"abc", end=b"")])
def test_a_client_that_stalls_is_given_up_after_the_idle_time(
    message: bytes, wire: tuple[socket.socket, socket.socket]
) -> None:
    client, server = wire
    client.sendall(message)
    limits = InboundLimits(max_bytes=100, idle_seconds=0.1, min_bytes_per_second=0)
    with pytest.raises(UploadTimeoutError):
        list(body_of(server, limits))


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(wire: tuple[socket.socket, socket.socket]) -> None:
    client, server = wire
    client.sendall(chunked(b"x" * 60, b"x" * 60))
    limits = InboundLimits(max_bytes=100, idle_seconds=5, min_bytes_per_second=0)
    with pytest.raises(PayloadTooLargeError):
        list(body_of(server, limits))


def test_a_body_that_somebody_has_begun_to_read_is_read_on_the_ordinary_way(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    client, server = wire
    client.sendall(post(b"abcdef"))
    found = gunicorn_environ(server)
    assert found["wsgi.input"].readline(2) == b"ab"
    found["CONTENT_LENGTH"] = "4"
    assert b"".join(RequestBody(found, ROOMY, open_reader)) == b"cdef"


def test_a_chunk_is_never_larger_than_announced(wire: tuple[socket.socket, socket.socket]) -> None:
    client, server = wire
    data = b"x" * 3_000_000
    with sending(client, post(data)):
        sizes = [len(chunk) for chunk in body_of(server)]
    assert sum(sizes) == len(data)
    assert max(sizes) <= CHUNK_BYTES + 8_192


def test_ending_the_connection_needs_our_own_worker_and_harms_nobody_without() -> None:
    asked = []
    body = io.BytesIO()
    end_connection({"wsgi.input": body})
    end_connection({})

    class Hung:
        def close_connection(self) -> None:
            asked.append("close")

    end_connection({"wsgi.input": Hung()})
    assert asked == ["close"]


# --- listening to the upstream while the client's bytes are awaited

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def client() -> Iterator[Pair]:
    yield from _pair()


@pytest.fixture
def upstream() -> Iterator[Pair]:
    yield from _pair()


def _pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def refuse() -> None:
    raise UpstreamSpokeError


def test_bytes_that_arrive_are_read(client: Pair) -> None:
    client[1].sendall(b"abc")
    assert _ClientSocket(client[0], UploadProgress(), 5).recv(10) == b"abc"


def test_nobody_waits_longer_than_the_idle_time(client: Pair) -> None:
    with pytest.raises(TimeoutError):
        _ClientSocket(client[0], UploadProgress(), 0.05).recv(10)


def test_an_upstream_that_speaks_ends_the_waiting(client: Pair, upstream: Pair) -> None:
    progress = UploadProgress()
    threading.Timer(0.05, upstream[1].sendall, [b"HTTP/1.1 413"]).start()
    with progress.listening_to(upstream[0], refuse), pytest.raises(UpstreamSpokeError):
        _ClientSocket(client[0], progress, 10).recv(10)


def test_a_request_to_end_the_upload_ends_the_waiting(client: Pair) -> None:
    progress = UploadProgress()
    with Ending() as progress.ending:
        threading.Timer(0.05, progress.ending.request).start()
        with pytest.raises(UploadEndedError):
            _ClientSocket(client[0], progress, 10).recv(10)


def test_an_upstream_that_says_nothing_of_weight_does_not(client: Pair, upstream: Pair) -> None:
    """Under TLS a session ticket makes the socket readable, and is taken off it."""
    progress = UploadProgress()
    upstream[1].sendall(b"ticket")

    def take_ticket() -> None:
        upstream[0].recv(100)
        client[1].sendall(b"abc")

    with progress.listening_to(upstream[0], take_ticket):
        assert _ClientSocket(client[0], progress, 10).recv(10) == b"abc"


def test_an_upstream_is_not_heard_before_or_after_its_turn(client: Pair, upstream: Pair) -> None:
    progress = UploadProgress()
    with progress.listening_to(upstream[0], refuse):
        pass
    upstream[1].sendall(b"too late")
    client[1].sendall(b"abc")
    assert _ClientSocket(client[0], progress, 10).recv(10) == b"abc"


def test_bytes_that_are_there_are_read_without_waiting_for_anything(client: Pair, upstream: Pair) -> None:
    """The sender of these bytes notices the upstream before it reads more."""
    client[1].sendall(b"abc")
    upstream[1].sendall(b"HTTP/1.1 413")
    progress = UploadProgress()
    with progress.listening_to(upstream[0], refuse):
        assert _ClientSocket(client[0], progress, 10).recv(10) == b"abc"
        with pytest.raises(UpstreamSpokeError):
            _ClientSocket(client[0], progress, 10).recv(10)


class TLSSocket:
    """As an SSLSocket that has these bytes of a record at hand. The rest is read from the socket below."""

    def __init__(self, below: socket.socket, decrypted: bytes = b"") -> None:
        self._decrypted = decrypted
        self._below = below
        self.settimeout, self.fileno = below.settimeout, below.fileno

    def pending(self) -> int:
        return len(self._decrypted)

    def recv(self, size: int) -> bytes:
        try:
            return self._decrypted[:size] or self._below.recv(size)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None


def test_bytes_that_are_decrypted_already_are_not_waited_for(client: Pair) -> None:
    reader = _ClientSocket(TLSSocket(client[0], b"abc"), UploadProgress(), 0.05)  # type: ignore[arg-type]
    assert reader.recv(10) == b"abc"


def test_bytes_that_tls_has_not_decrypted_yet_are_waited_for(client: Pair, upstream: Pair) -> None:
    """By the descriptor, while the upstream is listened to."""
    progress = UploadProgress()
    reader = _ClientSocket(TLSSocket(client[0]), progress, 10)  # type: ignore[arg-type]
    threading.Timer(0.05, client[1].sendall, [b"abc"]).start()
    assert reader.recv(10) == b"abc"
    upstream[1].sendall(b"HTTP/1.1 413")
    with progress.listening_to(upstream[0], refuse), pytest.raises(UpstreamSpokeError):
        reader.recv(10)
