"""Collecting a head as it comes: never waiting, and whole exactly when the parser need not wait either."""

import io
import itertools
import socket
from collections.abc import Iterator

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.server.heads import MAX_HEAD_BYTES, Head, read_head

HEAD = b"POST /api/conversion/init HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
BODY = b"body"

Wire = tuple[socket.socket, socket.socket]


@pytest.fixture
def wire() -> Iterator[Wire]:
    client, server = socket.socketpair()
    server.setblocking(False)
    with client, server:
        yield client, server


def test_nothing_part_and_whole(wire: Wire) -> None:
    client, server = wire
    buffer = io.BytesIO()
    assert read_head(server, buffer) is Head.NOTHING
    client.sendall(HEAD[:20])
    assert read_head(server, buffer) is Head.PART
    assert read_head(server, buffer) is Head.PART
    client.sendall(HEAD[20:] + BODY)
    assert read_head(server, buffer) is Head.WHOLE
    assert buffer.getvalue() == HEAD + BODY


@given(st.sets(st.integers(1, len(HEAD + BODY) - 1)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_it_is_split_it_is_whole_with_its_last_byte(cuts: set[int]) -> None:
    """And what has been collected is what gunicorn's parser then reads, body and all."""
    message = HEAD + BODY
    client, server = socket.socketpair()
    with client, server:
        server.setblocking(False)
        parser = RequestParser(Config(), server, ("127.0.0.1", 1))
        edges = [0, *sorted(cuts), len(message)]
        arrived = 0
        for start, end in itertools.pairwise(edges):
            client.sendall(message[start:end])
            arrived = end
            if read_head(server, parser.unreader.buf, is_continued=start > 0) is Head.WHOLE:
                break
        assert arrived >= len(HEAD) > edges[edges.index(arrived) - 1]
        client.sendall(message[arrived:])
        server.setblocking(True)
        request = next(parser)
        assert (request.path, request.body.read()) == ("/api/conversion/init", BODY)


def test_pipelined_request_that_is_at_hand_needs_no_further_byte(wire: Wire) -> None:
    _, server = wire
    assert read_head(server, io.BytesIO(HEAD + BODY)) is Head.WHOLE


def test_end_across_what_is_buffered_and_what_comes_is_found(wire: Wire) -> None:
    client, server = wire
    for cut in range(1, 5):
        client.sendall(HEAD[-cut:])
        assert read_head(server, io.BytesIO(HEAD[:-cut])) is Head.WHOLE


@pytest.mark.parametrize("sent", [b"", HEAD[:30]])
def test_client_that_leaves_before_the_end_has_ended(wire: Wire, sent: bytes) -> None:
    client, server = wire
    client.sendall(sent)
    client.close()
    assert read_head(server, io.BytesIO()) is Head.ENDED


def test_whole_head_counts_though_the_client_has_closed_its_side(wire: Wire) -> None:
    client, server = wire
    client.sendall(HEAD)
    client.shutdown(socket.SHUT_WR)
    assert read_head(server, io.BytesIO()) is Head.WHOLE


def test_head_without_an_end_is_not_collected_for_ever(wire: Wire) -> None:
    client, server = wire
    buffer = io.BytesIO()
    outcome = Head.PART
    sent = 0
    while outcome is Head.PART:
        client.sendall(b"x" * 4_096)
        sent += 4_096
        outcome = read_head(server, buffer)
    assert outcome is Head.TOO_LARGE
    assert MAX_HEAD_BYTES <= sent < MAX_HEAD_BYTES + 16_384


def test_a_connection_that_was_reset_has_ended(wire: Wire) -> None:
    """Also in the middle of a head."""

    class Reset:
        def recv(self, size: int) -> bytes:
            raise ConnectionResetError

    assert read_head(Reset(), io.BytesIO()) is Head.ENDED  # type: ignore[arg-type]
    assert read_head(Reset(), io.BytesIO(HEAD[:20])) is Head.ENDED  # type: ignore[arg-type]
