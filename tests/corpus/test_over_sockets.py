"""Every case of the corpus through a running gateway, judged by the bytes that it sent to the upstream."""

import contextlib
import itertools
import re

import pytest

from tests.corpus.case import MODEL, MODEL_ID, Case, Passes
from tests.corpus.cases import CASES
from tests.corpus.judgement import assert_every_reader_sees
from tests.corpus.recorder import RecordingConverter
from tests.corpus.request_framings import FRAMINGS, Framing
from tests.support.clients import Client, RawConnection, RawResponse
from tests.support.stack import Stack

STATUSES = {"invalid_request": 400, "payload_too_large": 413, "unsupported_media_type": 415}
CHUNK_BYTES = 7_001
#: Taken in turns: inside, both framings come to the same arrivals, which tests/corpus/test_arrivals.py goes through.
FRAMING_KINDS = ("counted", "chunked")
#: A sample, cut over sockets at every eleventh byte; tests/corpus/test_arrivals.py cuts them all, everywhere.
CUT_CASES = {
    "client-chrome",
    "claim-in-a-second-disposition-after-a-bare-line-feed",
    "epilogue-with-a-part",
    "preamble-of-eight-bytes-without-line-break",
    "boundary-is-the-beginning-of-another",
    "closing-boundary-half",
}


def send(connection: RawConnection, client: Client, case: Case, framing: str) -> RawResponse:
    """Post a case's message; what is refused before it was read to its end may not be taken to its end."""
    headers = {"Cookie": client.cookie_header}
    if case.content_type:
        headers["Content-Type"] = case.content_type
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if framing == "counted":
            connection.send_head("POST", "/api/conversion/init", {**headers, "Content-Length": str(len(case.body))})
            connection.send(case.body)
        else:
            connection.send_head("POST", "/api/conversion/init", {**headers, "Transfer-Encoding": "chunked"})
            for start in range(0, len(case.body), CHUNK_BYTES):
                connection.send_chunk(case.body[start : start + CHUNK_BYTES])
            connection.send(b"0\r\n\r\n")
    return connection.read_response()


def assert_the_connection_is_clean(connection: RawConnection, client: Client, response: RawResponse) -> None:
    """Nothing of the message was taken for a request: either the connection ends, or the next request is the next."""
    if (response.header("Connection") or "").lower() == "close":
        with contextlib.suppress(ConnectionResetError):
            assert connection.socket.recv(1) == b""
        return
    following = connection.send_head("GET", "/api/me", {"Cookie": client.cookie_header}).read_response()
    assert (following.status, following.json()["user_id"]) == (200, "u-alice-7f3a")


@pytest.mark.parametrize(
    ("case", "framing"),
    [
        pytest.param(case, framing, id=case.name)
        for case, framing in zip(CASES, itertools.cycle(FRAMING_KINDS), strict=False)
    ],
)
def test_upstream_gets_what_was_meant_or_no_whole_message(
    stack: Stack, converter: RecordingConverter, alice: Client, case: Case, framing: str
) -> None:
    with stack.connect() as connection:
        response = send(connection, alice, case, framing)
        uploads = converter.take()

        if isinstance(case.outcome, Passes):
            assert response.status == 201, response.body
            (upload,) = uploads
            assert upload.is_whole
            assert_every_reader_sees(upload.content_type, bytes(upload.body), case.outcome.parts)
        else:
            assert response.status == STATUSES[case.outcome.code], response.body
            assert response.json()["code"] == case.outcome.code
            assert len(uploads) <= 1
            assert not any(upload.is_whole or upload.has_closing_boundary for upload in uploads)
        assert_the_connection_is_clean(connection, alice, response)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.name in CUT_CASES])
def test_message_in_two_chunks_has_the_same_outcome(
    stack: Stack, converter: RecordingConverter, alice: Client, case: Case
) -> None:
    headers = {"Cookie": alice.cookie_header, "Content-Type": case.content_type, "Transfer-Encoding": "chunked"}
    for point in range(1, len(case.body), 11):
        with stack.connect() as connection:
            connection.send_head("POST", "/api/conversion/init", headers)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send_chunk(case.body[:point]).send_chunk(case.body[point:]).send(b"0\r\n\r\n")
            response = connection.read_response()
        uploads = converter.take()
        if isinstance(case.outcome, Passes):
            assert (point, response.status) == (point, 201)
            assert_every_reader_sees(uploads[0].content_type, bytes(uploads[0].body), case.outcome.parts)
        else:
            assert (point, response.json()["code"]) == (point, case.outcome.code)
            assert not any(upload.is_whole or upload.has_closing_boundary for upload in uploads)


def all_statuses(connection: RawConnection) -> tuple[int, ...]:
    """The statuses of everything that still comes, until the gateway ends the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.socket.recv(65_536):
            received += data
    return tuple(int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received))


@pytest.mark.parametrize("framing", [pytest.param(framing, id=framing.name) for framing in FRAMINGS])
def test_request_has_one_framing_or_none_and_hides_no_second_request(
    stack: Stack, converter: RecordingConverter, alice: Client, framing: Framing
) -> None:
    host = f"localhost:{stack.port}"
    lines = (
        f"POST /api/conversion/init {framing.version}",
        f"Host: {host}",
        f"Cookie: {alice.cookie_header}",
        "Content-Type: multipart/form-data; boundary=b",
        *framing.lines,
    )
    head = b"".join((line if isinstance(line, bytes) else line.encode()) + framing.line_end for line in lines)
    behind = f"GET /behind HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()

    with stack.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(head + framing.line_end + framing.body + behind).finish_sending()
        statuses = all_statuses(connection)

    uploads = converter.take()
    assert statuses == framing.statuses
    if statuses[0] == 201:
        (upload,) = uploads
        assert upload.is_whole
        assert_every_reader_sees(upload.content_type, bytes(upload.body), (MODEL_ID, MODEL))
    else:
        assert not any(upload.is_whole or upload.has_closing_boundary for upload in uploads)
