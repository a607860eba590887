"""gunicorn's own answers in our form. That they leave a real gateway so: tests/security/test_answers.py."""

import json
import socket

import pytest
from gunicorn import util

from app.domain.security_headers import security_headers
from app.server.refusals import answer_refusals, refusal

HEADERS = security_headers(is_https=True)


@pytest.mark.parametrize(
    ("status", "code", "blame"),
    [
        (400, "invalid_request", "user"),
        (417, "invalid_request", "user"),
        (431, "invalid_request", "user"),
        (501, "invalid_request", "user"),
        (500, "internal_error", "gateway"),
    ],
)
def test_a_refusal_is_a_whole_answer_with_a_problem_document(status: int, code: str, blame: str) -> None:
    """Gunicorn's status, the catalogue's code and words, all headers, and the length that it has."""
    head, _, body = refusal(status, "A Reason", HEADERS).partition(b"\r\n\r\n")

    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    document = json.loads(body)
    assert first == f"HTTP/1.1 {status} A Reason"
    assert headers["Content-Length"] == str(len(body))
    assert headers["Connection"] == "close"
    assert headers.items() >= HEADERS.items()
    assert (document["status"], document["code"], document["blame"]) == (status, code, blame)
    assert "{" not in document["detail"]


def test_gunicorn_answers_so_once_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it would have said of the request is left out."""
    monkeypatch.setattr(util, "write_error", util.write_error)  # put back at the end

    assert answer_refusals(HEADERS)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        util.write_error(ours, 400, "Bad Request", "Invalid HTTP Header: <script>")
        answer = theirs.recv(65_536)

    assert answer == refusal(400, "Bad Request", HEADERS)


def test_gunicorns_own_pages_stay_where_its_inside_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(sock: object, status: int) -> None:
        """A later version's."""

    monkeypatch.setattr(util, "write_error", another)
    assert not answer_refusals(HEADERS)
    assert util.write_error is another

    monkeypatch.delattr(util, "write_error")
    assert not answer_refusals(HEADERS)
