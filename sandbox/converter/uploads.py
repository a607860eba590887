"""Read an upload as it arrives: piece by piece from the connection to the disk, checked part by part.

A refused or incomplete upload leaves nothing on disk. Every upload is logged with its parts in the order of the wire,
so tests see what the gateway sent.
"""

import hashlib
import re
import shutil
import threading
import unicodedata
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import unquote

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from sandbox.converter.jobs import MODEL_FILE
from sandbox.request_body import IncompleteBodyError, RequestBody

PIECE_BYTES: Final = 256 * 1024
MAX_PARTS: Final = 5000
MAX_FIELD_BYTES: Final = 64 * 1024
MAX_HEADER_BYTES: Final = 8 * 1024
REMEMBERED_ATTEMPTS: Final = 500

PLATFORMS: Final = ("520", "720", "530", "630", "730")
FIRST_MODEL_ID: Final = 32768
LAST_MODEL_ID: Final = 65535


class UploadRefusedError(Exception):
    """The upload cannot become a job; `status` and `code` go to the client."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass
class Part:
    """One part, as it was on the wire."""

    name: str
    filename: str | None
    content_type: str | None
    headers: list[str]
    size: int = 0
    sha256: str | None = None

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass
class Attempt:
    """One upload, whatever its outcome."""

    number: int
    content_type: str
    received_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    parts: list[Part] = field(default_factory=list)
    bytes_read: int = 0
    final_boundary_seen: bool = False
    complete: bool = False
    outcome: str = "receiving"
    user_id: str | None = None
    job_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "parts": [part.as_json() for part in list(self.parts)]}


class UploadLog:
    """The last uploads, including those in progress. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attempts: deque[Attempt] = deque(maxlen=REMEMBERED_ATTEMPTS)
        self._number = 0

    def begin(self, content_type: str) -> Attempt:
        with self._lock:
            self._number += 1
            attempt = Attempt(self._number, content_type)
            self._attempts.append(attempt)
        return attempt

    def as_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [attempt.as_json() for attempt in self._attempts]

    def clear(self) -> None:
        with self._lock:
            self._attempts.clear()


@dataclass(frozen=True)
class Upload:
    """A complete and valid upload, in a directory that belongs to the caller of `receive`."""

    user_id: str
    model_filename: str
    parameters: dict[str, Any]
    directory: Path


@contextmanager
def receive(
    body: RequestBody,
    content_type: str,
    attempt: Attempt,
    *,
    uploads: Path,
    max_bytes: int,
    on_user: Callable[[str], None],
) -> Iterator[Upload]:
    """Read a body to its end and yield the upload; afterwards remove what its directory still holds.

    `on_user` is called as soon as the user is known, and may raise to refuse early. Raises UploadRefusedError if the
    message is invalid, and IncompleteBodyError if the body does not end.
    """
    directory = uploads / uuid.uuid4().hex
    directory.mkdir()
    try:
        with _Receiver(attempt, directory, on_user) as receiver:
            _feed(body, content_type, attempt, max_bytes, receiver)
            yield receiver.upload()
    except IncompleteBodyError:
        attempt.outcome = "incomplete_body"
        raise
    except UploadRefusedError as error:
        attempt.outcome = error.code
        raise
    finally:
        attempt.bytes_read = body.bytes_read
        shutil.rmtree(directory, ignore_errors=True)


def _feed(body: RequestBody, content_type: str, attempt: Attempt, max_bytes: int, receiver: "_Receiver") -> None:
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise UploadRefusedError(400, "not_multipart", "The body must be multipart/form-data with a boundary.")
    if (body.remaining or 0) > max_bytes:
        raise UploadRefusedError(413, "payload_too_large", f"An upload may have {max_bytes} bytes.")
    try:
        parser = PushMultipartParser(options["boundary"], max_header_size=MAX_HEADER_BYTES, max_segment_count=MAX_PARTS)
        while piece := body.read(PIECE_BYTES):
            attempt.bytes_read = body.bytes_read
            if body.bytes_read > max_bytes:
                raise UploadRefusedError(413, "payload_too_large", f"An upload may have {max_bytes} bytes.")
            for event in parser.parse(piece):
                receiver.take(event)
        parser.close()
    except ParserLimitReached as error:
        raise UploadRefusedError(413, "payload_too_large", f"{error}.") from error
    except MultipartError as error:
        raise UploadRefusedError(400, "malformed_multipart", f"{error}.") from error
    attempt.final_boundary_seen = True
    attempt.complete = body.complete


class _Receiver:
    """Handles the parser's events, writes files, and checks every part when it is complete."""

    def __init__(self, attempt: Attempt, directory: Path, on_user: Callable[[str], None]) -> None:
        self._attempt = attempt
        self._directory = directory
        self._on_user = on_user
        self._part: Part | None = None
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._text = bytearray()
        self._user_id: str | None = None
        self._model: Part | None = None
        self._reference_images = 0
        self._fields: dict[str, Any] = {}

    def __enter__(self) -> "_Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def take(self, event: MultipartSegment | bytes | None) -> None:
        """Handle one event of the parser: a part's head, a piece of its content, or (None) its end."""
        if event is None:
            self._end()
        elif isinstance(event, MultipartSegment):
            self._begin(event)
        else:
            self._continue(event)

    def upload(self) -> Upload:
        """Return what was received; raise UploadRefusedError if something is missing."""
        if self._user_id is None:
            raise UploadRefusedError(400, "user_id_missing", "The first part must be user_id.")
        for name in ("model_id", "version", "platform"):
            if name not in self._fields:
                raise UploadRefusedError(422, f"{name}_missing", f"{name} is required.")
        if self._model is None:
            raise UploadRefusedError(400, "model_missing", "A model file is required.")
        if self._model.size == 0:
            raise UploadRefusedError(422, "model_empty", "The model file is empty.")
        return Upload(self._user_id, self._model.filename or "model", self._fields, self._directory)

    def _begin(self, segment: MultipartSegment) -> None:
        name = segment.name or ""
        headers = [f"{header}: {value}" for header, value in segment.headerlist]
        part = Part(name, segment.filename, segment.content_type, headers)
        is_first = not self._attempt.parts
        self._attempt.parts.append(part)
        self._part, self._digest, self._text = part, hashlib.sha256(), bytearray()
        if is_first and (name != "user_id" or part.filename is not None):
            raise UploadRefusedError(400, "user_id_not_first", "The first part must be the field user_id.")
        if not is_first and looks_like_user_id(name):
            raise UploadRefusedError(
                400, "user_id_repeated", f"There must be one user_id, and nothing like it: {name!r}."
            )
        if name == "model":
            if part.filename is None:
                raise UploadRefusedError(400, "model_not_a_file", "model must be a file.")
            if self._model is not None:
                raise UploadRefusedError(400, "model_repeated", "There must be one model.")
            self._model = part
            self._file = (self._directory / MODEL_FILE).open("wb")
        elif name == "ref_images":
            if part.filename is None:
                raise UploadRefusedError(400, "ref_image_not_a_file", "ref_images must be files.")
            self._reference_images += 1
            self._file = (self._directory / f"ref_image_{self._reference_images}").open("wb")

    def _continue(self, piece: bytes) -> None:
        part = self._current
        part.size += len(piece)
        self._digest.update(piece)
        if self._file:
            self._file.write(piece)
        elif part.filename is None:
            self._text += piece
            if len(self._text) > MAX_FIELD_BYTES:
                raise UploadRefusedError(413, "field_too_large", f"The field {part.name!r} is too long.")

    def _end(self) -> None:
        part = self._current
        part.sha256 = self._digest.hexdigest()
        if self._file:
            self._file.close()
            self._file = None
        elif part.filename is None:
            try:
                value = self._text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UploadRefusedError(400, "field_not_text", f"The field {part.name!r} is not UTF-8.") from error
            self._take_field(part.name, value)

    def _take_field(self, name: str, value: str) -> None:
        if name == "user_id":
            if not value or len(value) > 255 or not value.isprintable():
                raise UploadRefusedError(400, "user_id_invalid", "user_id must be a short line of text.")
            self._user_id = self._attempt.user_id = value
            self._on_user(value)
        elif name in {"model_id", "version", "platform"} and name in self._fields:
            raise UploadRefusedError(400, f"{name}_repeated", f"There must be one {name}.")
        elif name == "model_id":
            self._fields[name] = parse_model_id(value)
        elif name == "version":
            self._fields[name] = parse_version(value)
        elif name == "platform":
            self._fields[name] = parse_platform(value)
        elif name in self._fields:
            known = self._fields[name]
            self._fields[name] = [*known, value] if isinstance(known, list) else [known, value]
        else:
            self._fields[name] = value

    @property
    def _current(self) -> Part:
        if self._part is None:
            raise UploadRefusedError(400, "malformed_multipart", "Content came before the first part.")
        return self._part


def looks_like_user_id(name: str) -> bool:
    """Return whether some lenient parser could read this name as user_id."""
    folded = unicodedata.normalize("NFKC", unquote(unquote(name))).casefold()
    return re.sub(r"[\W_]", "", folded) == "userid"


def parse_model_id(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not FIRST_MODEL_ID <= int(text) <= LAST_MODEL_ID:
        raise UploadRefusedError(
            422, "model_id_invalid", f"model_id must be a whole number from {FIRST_MODEL_ID} to {LAST_MODEL_ID}."
        )
    return int(text)


def parse_version(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{4}", text):
        raise UploadRefusedError(422, "version_invalid", "version must be four hexadecimal digits.")
    return text


def parse_platform(text: str) -> str:
    platform = re.sub(r"\Akl", "", text, flags=re.IGNORECASE)
    if platform not in PLATFORMS:
        raise UploadRefusedError(422, "platform_invalid", f"platform must be one of {', '.join(PLATFORMS)}.")
    return platform
