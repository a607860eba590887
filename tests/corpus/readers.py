"""Four readers of multipart messages that were written by four people, and what each of them sees in a message.

    found = read_by_busboy(content_type, body)

Each raises UnreadableError for a message that it does not take. What a reader cannot show (werkzeug and busboy decode
what a field holds, werkzeug lists files after fields) is left to the judge.
"""

import base64
import email
import email.policy
import io
import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from multipart import MultipartError, MultipartParser, parse_options_header
from werkzeug.exceptions import HTTPException
from werkzeug.formparser import MultiPartParser as WerkzeugParser

NODE_DIRECTORY: Final = Path(__file__).resolve().parents[1] / "node"
_NO_LIMIT: Final = 1 << 40


class UnreadableError(Exception):
    """A reader did not take the message; its own words."""


@dataclass(frozen=True)
class Part:
    """A part as somebody sent it or saw it. A `filename` of None makes it a field."""

    name: str
    content: bytes
    filename: str | None = None

    def __repr__(self) -> str:
        content = self.content if len(self.content) <= 60 else self.content[:50] + b"...%d" % len(self.content)
        return f"Part({self.name!r}, {content!r}, {self.filename!r})"


Reader = Callable[[str, bytes], list[Part]]


def boundary_of(content_type: str) -> str:
    return str(parse_options_header(content_type)[1]["boundary"])


def read_by_multipart(content_type: str, body: bytes) -> list[Part]:
    """defnull's `multipart`, in strict mode."""
    parser = MultipartParser(
        io.BytesIO(body),
        boundary_of(content_type),
        strict=True,
        part_limit=_NO_LIMIT,
        partsize_limit=_NO_LIMIT,
        memory_limit=_NO_LIMIT,
        spool_limit=_NO_LIMIT,
        header_limit=_NO_LIMIT,
        headersize_limit=_NO_LIMIT,
    )
    try:
        return [Part(one.name, one.raw, one.filename) for one in parser]
    except MultipartError as error:
        raise UnreadableError(f"multipart: {error}") from error


def read_by_werkzeug(content_type: str, body: bytes) -> list[Part]:
    """werkzeug's form parser, behind every Flask upstream. Fields first, then files; fields are decoded."""
    try:
        form, files = WerkzeugParser().parse(io.BytesIO(body), boundary_of(content_type).encode(), len(body))
    except (ValueError, HTTPException) as error:
        raise UnreadableError(f"werkzeug: {error}") from error
    found = [Part(name, value.encode()) for name, value in form.items(multi=True)]
    for name, file in files.items(multi=True):
        with file.stream:
            found.append(Part(name, file.read(), file.filename))
    return found


def read_by_email(content_type: str, body: bytes) -> list[Part]:
    """Python's email parser, which looks into nested messages and decodes transfer encodings where it finds any."""
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    if message.defects or not message.is_multipart():
        raise UnreadableError(f"email: {message.defects}")
    found = []
    for one in message.walk():
        if one is message:
            continue
        if one.is_multipart():
            raise UnreadableError(f"email: a part of type {one.get_content_type()} has parts of its own")
        if one.defects or one.epilogue or one.preamble:
            raise UnreadableError(f"email: {one.defects}")
        headers = [name.lower() for name, _ in one.raw_items()]
        if headers.count("content-disposition") != 1:
            raise UnreadableError(f"email: the headers of a part are {headers}")
        # Given as text, for the parser takes the UTF-8 in a header's bytes for something that it does not know.
        raw = next(value for name, value in one.raw_items() if name.lower() == "content-disposition")
        disposition = email.message.Message()
        disposition["Content-Disposition"] = raw.encode("ascii", "surrogateescape").decode()
        name = disposition.get_param("name", header="content-disposition")
        filename = disposition.get_param("filename", header="content-disposition")
        payload = one.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found.append(Part(_text(name) or "", payload, _text(filename)))
    return found


def _text(value: Any) -> str | None:
    return value[2] if isinstance(value, tuple) else value


class BusboyProcess:
    """busboy on Node: one process that reads many messages. Safe to use from several threads; close it."""

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None or not (NODE_DIRECTORY / "node_modules" / "busboy").is_dir():
            raise RuntimeError("Node and its packages are needed: scripts/ensure-node-packages tests/node")
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [node, str(NODE_DIRECTORY / "read_multipart.js")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def read(self, content_type: str, body: bytes) -> list[Part]:
        """What busboy sees; a field's content is its text, in UTF-8."""
        question = {"content_type": content_type, "body": base64.b64encode(body).decode()}
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            response = json.loads(self._process.stdout.readline())
        if response["error"]:
            raise UnreadableError(f"busboy: {response['error']}")
        return [_of_busboy(part) for part in response["parts"]]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


def _of_busboy(part: dict[str, Any]) -> Part:
    if "content" in part:
        return Part(part["name"] or "", base64.b64decode(part["content"]), part["filename"])
    if part["text"] is None:
        raise UnreadableError(f"busboy: the field {part['name']!r} has no value")
    return Part(part["name"] or "", part["text"].encode())


_busboy: BusboyProcess | None = None


def read_by_busboy(content_type: str, body: bytes) -> list[Part]:
    """busboy, by the one process that all tests of this Python share; `close_busboy` ends it."""
    global _busboy  # noqa: PLW0603 - a process to share
    if _busboy is None:
        _busboy = BusboyProcess()
    return _busboy.read(content_type, body)


def close_busboy() -> None:
    global _busboy  # noqa: PLW0603
    if _busboy is not None:
        _busboy.close()
        _busboy = None


READERS: Final[dict[str, Reader]] = {
    "multipart": read_by_multipart,
    "werkzeug": read_by_werkzeug,
    "email": read_by_email,
    "busboy": read_by_busboy,
}
