"""What /check takes for an announcement, and what it refuses as an upload would be refused."""

import tracemalloc
from io import BytesIO
from urllib.parse import urlencode

import pytest
from werkzeug.test import TestResponse

from app.api.announcement import MAX_FIELDS, MAX_HEAD_BYTES
from app.api.requests import MAX_SMALL_BODY_BYTES
from tests.api.edge import Edge

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


def part(disposition: str | bytes, content: bytes = b"1", *lines: str) -> bytes:
    given = disposition if isinstance(disposition, bytes) else disposition.encode()
    head = b"\r\n".join([b"Content-Disposition: form-data; " + given, *(line.encode() for line in lines)])
    return b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


def check(edge: Edge, body: bytes, content_type: str | None) -> TestResponse:
    source = BytesIO(body)
    return edge.client().post(
        "/api/conversion/check", input_stream=source, content_type=content_type, content_length=len(body)
    )


def outcome(edge: Edge, body: bytes, content_type: str | None) -> tuple[int, str | None]:
    response = check(edge, body, content_type)
    return response.status_code, response.get_json().get("code")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"size": 1}'),
        ("application/json", b""),
        ("text/plain", b"size=1"),
        (None, b"size=1"),
        ("multipart/mixed; boundary=b", b"--b--\r\n"),
        ("application/x-www-form-urlencoded, text/plain", b"size=1"),
    ],
)
def test_what_is_no_form_is_not_understood(edge: Edge, content_type: str | None, body: bytes) -> None:
    assert outcome(edge, body, content_type) == (415, "unsupported_media_type")
    assert edge.conversions.calls == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (MULTIPART, b""),
        (MULTIPART, b"size=1"),
        (MULTIPART, form(part('name="size"'))[:-7]),
        (MULTIPART, form(part('name="size"; name="parts"'))),
        (MULTIPART, form(part('name="size"; filename*0="x"'))),
        (MULTIPART, form(part('name="a;b"'))),
        (MULTIPART, form(part('name="size"', b"1", "Content-Transfer-Encoding: base64"))),
        (MULTIPART, form(part('name="size"', b"1", "Content-Type: text/plain; charset=utf-16"))),
        ("multipart/form-data", form(part('name="size"'))),
        (URLENCODED, b'{"size": 1}'),
        (URLENCODED, b"size"),
        (URLENCODED, b"size=1&&parts=2"),
        (URLENCODED, b"=1"),
    ],
)
def test_a_form_that_is_malformed_is_refused(edge: Edge, content_type: str, body: bytes) -> None:
    assert outcome(edge, body, content_type) == (400, "invalid_request")
    assert edge.conversions.calls == []


@pytest.mark.parametrize(
    ("content_type", "body"), [(URLENCODED, b"ver%A4si=1"), (MULTIPART, form(part(b'name="ver\xa4\xa4si"')))]
)
def test_a_fields_name_that_cannot_be_decoded_is_named_as_the_reason(
    edge: Edge, content_type: str, body: bytes
) -> None:
    response = check(edge, body, content_type)
    assert response.status_code == 400
    assert "name of a field is not UTF-8" in response.get_json()["detail"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, b""),
        (URLENCODED, b""),
        ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", b"size=1&version=&filename=%E6%A8%A1.onnx"),
        (
            MULTIPART,
            form(part('name="size"'), part('name="filename"', "模.onnx".encode()), part('name="version"', b"")),
        ),
        (MULTIPART, form(part('name="ref_images"; filename=""', b""), part('name="size"'))),
        (MULTIPART, form(part('name="head"; filename="模.onnx"', b"x" * 70_000), part('name="size"'))),
        (MULTIPART, form(part(b'name="head"; filename="\xbc\xd2.onnx"', b"x"))),
        (MULTIPART, form(part('name="user_id"', b"bob"), part('name="parts"', b"3"))),
        (
            "multipart/form-data; boundary=*****",
            b'--*****\r\nContent-Disposition: form-data; name="size"\r\n\r\n1\r\n--*****--\r\n',
        ),
    ],
)
def test_a_form_as_clients_write_it_is_understood(edge: Edge, content_type: str | None, body: bytes) -> None:
    assert outcome(edge, body, content_type) == (200, None)
    assert edge.conversions.calls == [("check", "alice")]


@pytest.mark.parametrize("name", ["size", "parts"])
def test_a_number_counts_in_either_form(edge: Edge, name: str) -> None:
    number = str(10**17)
    assert outcome(edge, urlencode({name: number}).encode(), URLENCODED) == (413, "payload_too_large")
    assert outcome(edge, form(part(f'name="{name}"', number.encode())), MULTIPART) == (413, "payload_too_large")


def test_fields_are_bounded_in_number_and_in_size(edge: Edge) -> None:
    for count, code in ((MAX_FIELDS, None), (MAX_FIELDS + 1, "payload_too_large")):
        assert outcome(edge, "&".join(f"f{number}=" for number in range(count)).encode(), URLENCODED)[1] == code
        assert outcome(edge, form(*(part(f'name="f{number}"') for number in range(count))), MULTIPART)[1] == code
    for excess, code in ((0, None), (1, "payload_too_large")):
        half = b"x" * (MAX_SMALL_BODY_BYTES // 2)
        assert outcome(edge, form(part('name="a"', half), part('name="b"', half + b"x" * excess)), MULTIPART)[1] == code
    assert outcome(edge, form(part('name="head"; filename="h"', b"x" * (MAX_HEAD_BYTES + 1))), MULTIPART)[0] == 413


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (URLENCODED, b"a=b&" * 700_000),
        (MULTIPART, form(*(part(f'name="f{number}"') for number in range(50_000)))),
        (MULTIPART, form(part('name="a"' + ";a=b" * 800_000))),
        (MULTIPART, form(part('name="a"', b"x" * 4_000_000))),
        (MULTIPART, form(part('name="head"; filename="h"', b"x" * MAX_HEAD_BYTES))),
    ],
    ids=["fields", "parts", "parameters", "a field", "head"],
)
def test_no_form_costs_more_memory_than_a_fraction_of_its_size(edge: Edge, content_type: str, body: bytes) -> None:
    check(edge, b"size=1", URLENCODED)
    client, source = edge.client(), BytesIO(body)
    tracemalloc.start()
    try:
        client.post("/api/conversion/check", input_stream=source, content_type=content_type, content_length=len(body))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000, f"{peak} bytes for {len(body)}"
