"""What real clients send, each in its own way of writing: all of it must pass.

Each sample has the boundary, the order and case of headers, the quoting and the ending of its client.
"""

from dataclasses import dataclass, replace
from typing import Final

from tests.corpus.case import MODEL, MODEL_ID, Case, passes_only
from tests.corpus.readers import Part

_CHINESE: Final = replace(MODEL, filename="模型 (1).onnx")
_EXTENDED: Final = "utf-8''%E6%A8%A1%E5%9E%8B%20%281%29.onnx"


@dataclass(frozen=True)
class _Client:
    """`headers` are the header lines of the field and of the file."""

    name: str
    boundary: str
    headers: tuple[str, str]
    model: Part = MODEL
    before: bytes = b""
    end: bytes = b"--\r\n"
    quotes_boundary: bool = False
    why: str = ""

    def case(self) -> Case:
        delimiter = f"--{self.boundary}".encode()
        body = self.before
        for head, one in zip(self.headers, (MODEL_ID, self.model), strict=True):
            body += b"%b\r\n%b\r\n\r\n%b\r\n" % (delimiter, head.encode(), one.content)
        boundary = f'"{self.boundary}"' if self.quotes_boundary else self.boundary
        content_type = f"multipart/form-data; boundary={boundary}"
        return Case(
            f"client-{self.name}",
            body + delimiter + self.end,
            passes_only(MODEL_ID, self.model),
            self.why,
            content_type,
        )


_FIELD: Final = 'Content-Disposition: form-data; name="model_id"'
_FILE: Final = 'Content-Disposition: form-data; name="model"; filename="m.onnx"'
_MODEL: Final = 'Content-Disposition: form-data; name="model"'
_TOKEN_MODEL: Final = "Content-Disposition: form-data; name=model"
_BINARY: Final = "Content-Transfer-Encoding: binary"
_OCTETS: Final = "Content-Type: application/octet-stream"
_BROWSER: Final = (_FIELD, f'Content-Disposition: form-data; name="model"; filename="模型 (1).onnx"\r\n{_OCTETS}')
_SIZE: Final = len(MODEL.content)

_CLIENTS: Final = [
    _Client("chrome", "----WebKitFormBoundary7MA4YWxkTrZu0gW", _BROWSER, _CHINESE),
    _Client("firefox", "----geckoformboundary8cd4a3b0d1f86a6e7a0c1d1b2f9e3c55", _BROWSER, _CHINESE),
    _Client("firefox-of-old", "---------------------------9051914041544843365972754266", _BROWSER, _CHINESE),
    _Client(
        "browser-with-quote-in-file-name",
        "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        (_FIELD, f'Content-Disposition: form-data; name="model"; filename="a%22b.onnx"\r\n{_OCTETS}'),
        replace(MODEL, filename="ab.onnx"),
    ),
    _Client("curl", "------------------------d74496d66958873e", (_FIELD, f"{_FILE}\r\n{_OCTETS}")),
    _Client(
        "curl-of-old-with-quote-in-file-name",
        "------------------------d74496d66958873e",
        (_FIELD, f'Content-Disposition: form-data; name="model"; filename="a\\"b.onnx"\r\n{_OCTETS}'),
        replace(MODEL, filename="ab.onnx"),
    ),
    _Client("requests", "0f0e0d0c0b0a09080706050403020100", (_FIELD, _FILE), why="no type where none can be guessed"),
    _Client(
        "requests-of-old",
        "0f0e0d0c0b0a09080706050403020100",
        (_FIELD, f'Content-Disposition: form-data; name="model"; filename*={_EXTENDED}'),
        _CHINESE,
    ),
    _Client("toolbelt", "0f0e0d0c0b0a09080706050403020100", (_FIELD, f"{_FILE}\r\n{_OCTETS}")),
    _Client("httpx", "a1b2c3d4e5f60718293a4b5c6d7e8f90", _BROWSER, _CHINESE),
    _Client(
        "aiohttp",
        "4ad8a5c0f5b34d6cbe8bcd21c0ffee00",
        (
            f"Content-Type: text/plain; charset=utf-8\r\n{_FIELD}",
            f'{_OCTETS}\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"',
        ),
    ),
    _Client(
        "axios-with-form-data", "--------------------------515890814546601021194782", (_FIELD, f"{_FILE}\r\n{_OCTETS}")
    ),
    _Client("node-fetch", "----formdata-undici-046789124512", _BROWSER, _CHINESE, end=b"--"),
    _Client(
        "node-request-of-old",
        "--------------------------515890814546601021194782",
        (_FIELD, f"{_FILE}\r\n{_OCTETS}"),
        before=b"\r\n",
    ),
    _Client("go", "c9b2e8f2a4d1b7c3e5f60718293a4b5c6d7e8f900f1e2d3c4b5a69788796a5", (_FIELD, f"{_FILE}\r\n{_OCTETS}")),
    _Client(
        "okhttp",
        "3c6e0b8a-9c15-4f8b-8f3c-5a1d2e3f4a5b",
        (f"{_FIELD}\r\nContent-Length: 5", f"{_FILE}\r\n{_OCTETS}\r\nContent-Length: {_SIZE}"),
    ),
    _Client(
        "retrofit",
        "3c6e0b8a-9c15-4f8b-8f3c-5a1d2e3f4a5b",
        (
            f"{_FIELD}\r\n{_BINARY}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5",
            f"{_FILE}\r\n{_BINARY}\r\n{_OCTETS}\r\nContent-Length: {_SIZE}",
        ),
    ),
    _Client(
        "apache-httpclient",
        "Wb3FyWN7kq0yBvFqT2nE5xQmZr",
        (
            f"{_FIELD}\r\nContent-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit",
            f"{_FILE}\r\n{_OCTETS}\r\nContent-Transfer-Encoding: binary",
        ),
    ),
    _Client("java-httpclient-by-hand", "----JavaBoundary1700000000000", (_FIELD, f"{_FILE}\r\n{_OCTETS}")),
    _Client(
        "spring",
        "aXV4d2tqbmRzZmpr",
        (
            f"{_FIELD}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: 5",
            f"{_FILE}\r\n{_OCTETS}\r\nContent-Length: {_SIZE}",
        ),
    ),
    _Client(
        "spring-with-chinese",
        "aXV4d2tqbmRzZmpr",
        (
            f"{_FIELD}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: 5",
            f'{_MODEL}; filename="=?UTF-8?Q?=E6=A8=A1=E5=9E=8B_=281=29.onnx?="; filename*={_EXTENDED}\r\n{_OCTETS}',
        ),
        _CHINESE,
    ),
    _Client(
        "dotnet",
        "5f0a1c9e-2f0e-4c1b-9d7a-8e6f5a4b3c2d",
        (
            "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model_id",
            "Content-Disposition: form-data; name=model; filename=m.onnx; filename*=utf-8''m.onnx",
        ),
        quotes_boundary=True,
        why="bare tokens, and a boundary in quotes",
    ),
    _Client(
        "dotnet-with-chinese",
        "5f0a1c9e-2f0e-4c1b-9d7a-8e6f5a4b3c2d",
        (
            "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model_id",
            f'{_OCTETS}\r\n{_TOKEN_MODEL}; filename="=?utf-8?B?5qih5Z6LICgxKS5vbm54?="; filename*={_EXTENDED}',
        ),
        _CHINESE,
        quotes_boundary=True,
        why="the encoded word beside it is no file name",
    ),
    _Client(
        "guzzle",
        "fca6ce0f0f0c2cbbd6f1c4d9a53e9a9f6b6e6c1d",
        (f"{_FIELD}\r\nContent-Length: 5", f"{_FILE}\r\nContent-Length: {_SIZE}\r\n{_OCTETS}"),
    ),
    _Client(
        "dart",
        "dart-http-boundary-Jx5Q0kNnO8yWJ3mBqQm1zqv0wz4q1x.Gx7L_3nF5+Ab9",
        (
            'content-disposition: form-data; name="model_id"',
            'content-type: application/octet-stream\r\ncontent-disposition: form-data; name="model"; filename="m.onnx"',
        ),
    ),
    _Client("alamofire", "alamofire.boundary.4b3c2d1e0f9a8b7c", (_FIELD, f"{_FILE}\r\n{_OCTETS}")),
    _Client(
        "ruby-multipart-post",
        "-----------RubyMultipartPost-2f1e0d9c8b7a",
        (_FIELD, f"{_FILE}\r\nContent-Length: {_SIZE}\r\n{_OCTETS}\r\nContent-Transfer-Encoding: binary"),
        end=b"--\r\n\r\n",
    ),
    _Client("postman", "--------------------------787542187419476581357712", (_FIELD, f"{_FILE}\r\n{_OCTETS}")),
    _Client(
        "internet-explorer",
        "---------------------------7e41a3b2c0d8e",
        (_FIELD, f'Content-Disposition: form-data; name="model"; filename="C:\\models\\m.onnx"\r\n{_OCTETS}'),
    ),
]

CASES: Final[list[Case]] = [client.case() for client in _CLIENTS]
