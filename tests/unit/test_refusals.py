"""gunicorn's own responses in our form. That they leave a real gateway so: tests/security/test_responses.py."""

import json

import pytest

from app.domain.security_headers import security_headers
from app.server.refusals import refusal

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
def test_a_refusal_is_a_whole_response_with_a_problem_document(status: int, code: str, blame: str) -> None:
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
