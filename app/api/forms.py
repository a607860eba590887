"""Read a small multipart form without spooling: its fields, and its files as they arrive."""

from collections.abc import Callable, Iterator
from typing import cast

from flask import request

from app.api.requests import MAX_SMALL_BODY_BYTES, GatewayRequest
from app.errors import InvalidRequestError, PayloadTooLargeError
from app.streaming import Chunk
from app.streaming.events import MessageEvents, parts
from app.streaming.multipart import parse_boundary, require_known_charset

MAX_FIELDS = 64
_READ_BYTES = 64 * 1024
_MIB = 1024 * 1024


class FormFile:
    """A file that a form may have, once, and what takes its bytes as they arrive."""

    def __init__(self, name: str, max_bytes: int, begin: Callable[[str], Callable[[Chunk], object]]) -> None:
        """Accept a file of at most `max_bytes`, whole MiB. `begin` is called with the file's name."""
        self.name = name
        self._max_bytes = max_bytes
        self._begin = begin
        self.is_present = False
        #: In bytes, as far as the file was read.
        self.size = 0

    def take(self, content: Iterator[Chunk], file_name: str) -> None:
        """Read the file. Raises PayloadTooLargeError, and InvalidRequestError if the form has it twice."""
        if self.is_present:
            raise InvalidRequestError(
                f"the form has more than one file {self.name}", zh_tw=f"表單中有一個以上的 {self.name} 檔案"
            )
        self.is_present = True
        take = self._begin(file_name)
        for chunk in content:
            self.size += len(chunk)
            if self.size > self._max_bytes:
                most = self._max_bytes // _MIB
                raise PayloadTooLargeError(
                    f"the file {self.name} may have at most {most} MiB", zh_tw=f"{self.name} 檔案最多 {most} MiB"
                )
            take(chunk)


def read_form(*files: FormFile, max_bytes: int) -> Iterator[tuple[str, str]]:
    """Give the fields of the request's multipart form, and read the `files`. Other files are read and discarded.

    Raises UnsupportedMediaTypeError for another body, InvalidRequestError for a malformed one, PayloadTooLargeError for
    more than `max_bytes`, MAX_FIELDS parts, or MAX_SMALL_BODY_BYTES in all fields.
    """
    boundary = parse_boundary(request.content_type)
    body = cast(GatewayRequest, request).stream_of(max_bytes)
    source = iter(lambda: body.read(_READ_BYTES), b"")
    by_name = {file.name: file for file in files}
    bytes_left = MAX_SMALL_BODY_BYTES
    for part, content in parts(MessageEvents(source, boundary, MAX_FIELDS)):
        if part.filename is not None or part.content_type == "application/octet-stream":
            file = by_name.get(part.name)
            if file is not None:
                file.take(content, part.filename or "")
            for _ in content:
                pass
            continue
        require_known_charset(part)
        value = bytearray()
        for chunk in content:
            value += chunk
            if len(value) > bytes_left:
                raise PayloadTooLargeError(f"the fields may have at most {MAX_SMALL_BODY_BYTES} bytes in total")
        bytes_left -= len(value)
        yield part.name, value.decode("utf-8", "replace")
