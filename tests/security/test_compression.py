"""nginx compresses only responses that are the same for everyone or repeat nothing of a request (BREACH)."""

import gzip

import pytest

from tests.support.clients import Client
from tests.support.stack import Stack

PUBLIC = ["/openapi.json", "/docs", "/console/errors.json", "/console/any/js/console.js", "/console/any/css/base.css"]
OF_A_PERSON = [
    "/",
    "/?lang=en",
    "/console/signed-in",
    "/api/me",
    "/api/models",
    "/api/conversion/active",
    "/auth/authorize?state=x",
]
#: A secret could be guessed from the size of a response that shows these words, too.
CHOSEN = "gu3ssed-w0rds"


@pytest.mark.parametrize("path", PUBLIC)
def test_public_responses_are_compressed(stack: Stack, path: str) -> None:
    client = stack.client()
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    response = client.get(path, headers={"Accept-Encoding": "gzip"}, stream=True)
    sent = response.raw.read(decode_content=False)
    assert "Content-Encoding" not in plain.headers
    assert response.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in response.headers["Vary"]
    assert gzip.decompress(sent) == plain.content
    assert len(sent) < len(plain.content) / 2
    if path != "/docs":
        again = client.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": response.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", OF_A_PERSON)
def test_personal_responses_are_not_compressed(alice: Client, path: str) -> None:
    response = alice.get(path, headers={"Accept-Encoding": "gzip, br, deflate, zstd"})
    assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("path", ["/api/me", "/api/models/m/file", "/api/nothing", "/nothing", "/auth/authorize"])
def test_pages_about_failures_are_not_compressed(stack: Stack, path: str) -> None:
    """They have the path in a link."""
    headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Accept-Encoding": "gzip, br, deflate, zstd"}
    response = stack.client().get(f"{path}?{CHOSEN}", headers=headers)
    assert response.status_code >= 400
    assert response.headers["Content-Type"].startswith("text/html")
    assert "Content-Encoding" not in response.headers
    assert CHOSEN not in response.text


@pytest.mark.parametrize("path", PUBLIC)
def test_compressed_responses_repeat_nothing_of_the_request(alice: Client, path: str) -> None:
    response = alice.get(
        f"{path}?lang={CHOSEN}&next={CHOSEN}&{CHOSEN}",
        headers={"User-Agent": CHOSEN, "Referer": f"https://x.example/{CHOSEN}", "Accept-Language": CHOSEN},
    )
    assert response.status_code == 200
    assert CHOSEN not in response.text
