"""Uploads and their outcomes, the same for curl, requests, Node's fetch and Chromium's XHR."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

# More than all buffers on the way hold: a client is still sending when the response comes.
MODEL_BYTES = 40_000_000
#: Above the limit of tests that have one, by another `MODEL_BYTES`.
TOO_MANY_BYTES = 2 * MODEL_BYTES
INIT = "/api/conversion/init"
#: The request after each upload, by the same client, over the same connection if it is still open.
FOLLOW_UP = "/api/me"
PIECE = bytes(1_000_000)


@dataclass(frozen=True)
class Upload:
    """One upload. Where `prefix` is None it is a form as each client makes it; else these bytes, then the model."""

    model_bytes: int = MODEL_BYTES
    is_chunked: bool = False
    prefix: bytes | None = None
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    #: The account that sends it, or None for a client that is not signed in.
    user: str | None = "alice"

    def as_json(self, cookie: str, times: int) -> dict[str, object]:
        """For clients that are programs of their own."""
        return {
            "times": times,
            "init": INIT,
            "follow_up": FOLLOW_UP,
            "model_bytes": self.model_bytes,
            "is_chunked": self.is_chunked,
            "prefix": None if self.prefix is None else self.prefix.decode("ascii"),
            "content_type": self.content_type,
            "headers": self.headers,
            "cookie": cookie,
        }


@dataclass(frozen=True)
class Outcome:
    """What a client has learned: status and problem code, or 0 and the reason, and the outcome of the next request."""

    status: int
    code: str
    error: str
    next_status: int

    @classmethod
    def of(cls, status: int, body: str | bytes, error: str, next_status: int) -> "Outcome":
        """From a response's body, whatever that is."""
        try:
            code = str(json.loads(body)["code"])
        except (ValueError, KeyError, TypeError):
            code = ""
        return cls(status, code, error or ("" if code else repr(body[:200])), next_status)


class UploadClient(Protocol):
    """A kind of client. `send` sends an upload so many times, one after another, each followed by another request."""

    #: Whether it can send a body without announcing its length.
    can_chunk: bool
    #: Whether it can send requests as a page of another site.
    can_be_cross_site: bool

    def send(self, base_url: str, cookie: str, upload: Upload, times: int) -> list[Outcome]: ...

    def close(self) -> None: ...


def filler(size: int) -> Iterator[bytes]:
    """Give so many bytes, a piece at a time."""
    while size > 0:
        yield PIECE[:size]
        size -= len(PIECE)


FORM_BOUNDARY = "a-boundary-of-ours"
FORM_HEAD = "".join(
    f'--{FORM_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
    for name, value in [("model_id", "32769"), ("version", "0001"), ("platform", "720")]
)
FORM_MODEL_HEAD = (
    f'--{FORM_BOUNDARY}\r\nContent-Disposition: form-data; name="model"; filename="model.onnx"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
)
#: The form made by hand, for clients and shapes that make none.
FORM_PREFIX = (FORM_HEAD + FORM_MODEL_HEAD).encode()
FORM_TYPE = f"multipart/form-data; boundary={FORM_BOUNDARY}"


def by_hand(upload: Upload) -> tuple[bytes, bytes, str]:
    """The bytes before and after the model's, and the content type, for clients that compose no form themselves."""
    if upload.prefix is not None:
        return upload.prefix, b"", upload.content_type
    return FORM_PREFIX, f"\r\n--{FORM_BOUNDARY}--\r\n".encode(), FORM_TYPE
