"""Small bodies that are made to harm a parser."""

import contextlib
import gzip

import pytest

from app.api.inspection import MAX_MODEL_BYTES
from app.api.requests import MAX_SMALL_BODY_BYTES
from tests.security.conftest import Door
from tests.support.clients import Client
from tests.support.multipart_bodies import Multipart
from tests.support.stack import Stack

JSON = {
    "deep lists": b"[" * 60_000,
    "deep objects": b'{"a":' * 12_000,
    "deep and closed": b'{"name":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "a number of 5000 digits": b'{"name":' + b"9" * 5_000 + b"}",
    "half a surrogate, raw": b'{"name":"\xed\xa0\x80"}',
    "Latin-1": b'{"name":"\xff"}',
    "a list": b"[1]",
    "a text": b'"name"',
    "nothing": b"",
    "two documents": b"{}{}",
    "a form": b"name=x",
}
NAMES = {
    "infinity": b'{"name":1e999999}',
    "not a number": b'{"name":NaN}',
    "half a surrogate": b'{"name":"\\ud800"}',
    "a NUL": b'{"name":"a\\u0000b"}',
    "an object": b'{"name":{"$ne":""}}',
    "twice": b'{"name":"a","name":["b"]}',
    "a megabyte": b'{"name":"' + b"a" * 1_000_000 + b'"}',
}


@pytest.fixture
def model_id(stack: Stack, alice: Client) -> str:
    return str(stack.kept_model(alice)["id"])


def test_json_that_would_hurt_a_parser_is_malformed(alice: Client, model_id: str) -> None:
    """Deep, huge or invalid JSON gets 400 at once; the model is unchanged, and the worker survives."""
    before = alice.get(f"/api/models/{model_id}").json()
    for what, body in {**JSON, **NAMES}.items():
        response = alice.patch(f"/api/models/{model_id}", data=body, headers={"Content-Type": "application/json"})
        expected = (400, "invalid_request") if len(body) <= MAX_SMALL_BODY_BYTES else (413, "payload_too_large")
        assert (response.status_code, response.json()["code"]) == expected, what
        assert response.elapsed.total_seconds() < 15, what
    assert alice.get(f"/api/models/{model_id}").json() == before


def test_a_body_is_never_unpacked(alice: Client, model_id: str) -> None:
    bomb = gzip.compress(b" " * 10_000_000 + b'{"name":"unpacked"}')

    response = alice.patch(f"/api/models/{model_id}", data=bomb, headers={"Content-Encoding": "gzip"})

    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


def test_forms_are_bounded_in_their_fields(stack: Stack, alice: Client) -> None:
    """Ten thousand fields are refused or ignored at once, and no upstream is called."""
    fields = "&".join(f"f{number}=x" for number in range(10_000))
    parts = "".join(f'--b\r\nContent-Disposition: form-data; name="f{number}"\r\n\r\nx\r\n' for number in range(10_000))
    for body, kind in (
        (fields, "application/x-www-form-urlencoded"),
        (parts + "--b--\r\n", "multipart/form-data; boundary=b"),
    ):
        response = alice.post("/api/conversion/check", data=body, headers={"Content-Type": kind})
        assert (response.status_code, response.json()["code"]) == (413, "payload_too_large"), kind
        assert response.elapsed.total_seconds() < 15


def test_models_to_inspect_pass_nginx_up_to_the_gateways_limit(stack: Stack, alice: Client) -> None:
    """The largest one is accepted, one byte more gets the gateway's own refusal, and no upstream is called."""
    for size, status in ((MAX_MODEL_BYTES, 200), (MAX_MODEL_BYTES + 1, 413)):
        form = Multipart().file("model", b"\x0a" * size, "net.onnx")
        response = alice.post("/api/conversion/inspect", data=form, headers=form.headers)
        assert response.status_code == status, response.text
        assert "8 MiB" in response.text or status == 200
    assert stack.sandbox.calls("converter") == []


def test_a_body_with_a_method_that_has_none_changes_nothing(door: Door, alice: Client, model_id: str) -> None:
    cookie = ("Cookie", alice.cookie_header)
    body = f'{{"id":"{model_id}","name":"taken over"}}'.encode()

    statuses = [
        door.ask(method, "/api/models/absent", cookie, ("Content-Type", "application/json"), body=body).status
        for method in ("GET", "HEAD", "DELETE")
    ]

    assert statuses == [404, 404, 404]
    assert alice.get(f"/api/models/{model_id}").json()["name"] != "taken over"


def test_a_small_body_without_end_is_refused(door: Door, alice: Client) -> None:
    """A chunked body of unknown size gets 413 at the limit; the part before the limit is not used.

    The first chunk is complete JSON; the blanks after it change only the size.
    """
    with door.connect() as connection:
        head = {"Host": door.host, "Cookie": alice.cookie_header, "Transfer-Encoding": "chunked"}
        connection.send_head("PATCH", "/api/models/some-model", head)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send_chunk(b'{"name":"cut off"}')
            for _ in range(6):
                connection.send_chunk(b" " * 1024**2)
        response = connection.read_response("PATCH")

    assert (response.status, response.json()["code"]) == (413, "payload_too_large")


def test_a_small_body_of_exactly_the_limit_is_taken(door: Door, alice: Client) -> None:
    for size, status in ((MAX_SMALL_BODY_BYTES, 404), (MAX_SMALL_BODY_BYTES + 1, 413)):
        body = b'{"name":"x"}'.ljust(size)
        counted = door.ask("PATCH", "/api/models/some-model", ("Cookie", alice.cookie_header), body=body)
        with door.connect() as connection:
            head = {"Host": door.host, "Cookie": alice.cookie_header, "Transfer-Encoding": "chunked"}
            connection.send_head("PATCH", "/api/models/some-model", head).send_chunk(body).send_chunk(b"")
            chunked = connection.read_response("PATCH")
        assert (counted.status, chunked.status) == (status, status)
