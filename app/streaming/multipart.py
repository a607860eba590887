"""Multipart messages parsed and rebuilt, a chunk at a time.

A message is never passed on as it came: it is parsed, and rebuilt with a fresh random boundary and canonical part
headers, so that no difference between our parser and the upstream's can smuggle a part through. The first part is the
caller's `user_id`, from the session; every part of the client's that claims to be one is dropped and counted.

The closing boundary is sent only after the client's message has ended properly: a failure before that raises out of
the iteration, and the upstream then holds a visibly incomplete message (RFC 9112, section 8).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from multipart import MultipartSegment

from app.domain.identity import claims_identity
from app.domain.model import clean_filename
from app.errors import InvalidRequestError, UnsupportedMediaTypeError
from app.streaming import Chunk
from app.streaming.content import BackgroundDigest, PartBody, PartWatcher
from app.streaming.encoder import LazyEncoder
from app.streaming.events import MessageEvents, parts
from app.streaming.progress import UploadProgress

#: Smaller pieces are joined as long as more is available without waiting: a send costs more than copying them.
JOIN_BELOW_BYTES = 16 * 1024
#: The part whose file is the model, and the parts whose files are reference images (docs/upstreams.md).
MODEL_PART, REF_IMAGES_PART = "model", "ref_images"
#: How many names of reference images are recorded.
_MOST_IMAGE_NAMES = 20

# Quoted or not: some clients leave out the quotes that RFC 2045 requires around `=` and similar characters.
_PARAMETER = re.compile(
    r""";[ \t]*+([A-Za-z0-9!#$%&'*+.^_`|~-]++)[ \t]*+=[ \t]*+("[^"\\]*+"[ \t]*+|[^\x00-\x08\x0a-\x1f\x7f";\\]++)"""
)
_PARAMETERS = re.compile(rf"(?:{_PARAMETER.pattern})*;?[ \t]*+")
# More than RFC 2046, section 5.1.1, allows: `*****` and `{...}` are in many code samples. The client's boundary never
# leaves the gateway, which writes its own. The four excluded characters have a meaning in the header itself.
_BOUNDARY = re.compile(r"[!#-:<-\[\]-~](?:[ !#-:<-\[\]-~]{0,198}[!#-:<-\[\]-~])?")
#: The parts that are files, with or without a file name.
_FILE_PARTS = frozenset({MODEL_PART, REF_IMAGES_PART})
_CONTENT_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}"
    r"(?:; ?[A-Za-z0-9!#$&^_.+-]{1,50}=(?:[A-Za-z0-9!#$&^_.+-]{1,100}|\"[A-Za-z0-9 !#$&^_.+/:=-]{0,100}\")){0,8}"
)
# Some readers look into these for further parts or fields, which nothing here has checked.
_COMPOSITE_TYPES = ("multipart/", "message/", "application/x-www-form-urlencoded")
# In any other charset, some readers decode a field, some take it for UTF-8, and some lose it.
_FIELD_CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1"}
_DEFAULT_CONTENT_TYPE = "application/octet-stream"


@dataclass(slots=True)
class UploadFacts:
    """What is known of a message. It is complete once the whole message has been given out."""

    filename: str = ""
    model_bytes: int | None = None
    #: In hexadecimal; None unless the message was made with `wants_digest`.
    model_sha256: str | None = None
    ref_images: int = 0
    ref_image_bytes: int = 0
    #: Of the first reference images.
    ref_image_names: list[str] = field(default_factory=list)
    parts: int = 0
    dropped_identities: int = 0


def parse_boundary(content_type: str | None) -> str:
    """Return the boundary that a request's Content-Type names.

    Raises UnsupportedMediaTypeError for anything but multipart/form-data, InvalidRequestError without a usable
    boundary: printable ASCII without quotes, backslashes and semicolons, up to 200 characters.
    """
    if media_type(content_type) != "multipart/form-data":
        raise UnsupportedMediaTypeError("multipart/form-data is expected")
    boundary = _the_boundary(content_type or "")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequestError("the multipart boundary is missing or malformed")
    return boundary


def media_type(content_type: str | None) -> str:
    """Return a Content-Type's type, in lower case and without its parameters; "" if there is none."""
    return (content_type or "").partition(";")[0].strip(" \t").lower()


def _the_boundary(content_type: str) -> str:
    """Return the one boundary among a Content-Type's parameters; "" if there is none, or several ways to read it."""
    start = content_type.find(";")
    if not _PARAMETERS.fullmatch(content_type, start):
        return ""
    parameters = [(name.lower(), str(value)) for name, value in _PARAMETER.findall(content_type, start)]
    found = [(name, value) for name, value in parameters if name.partition("*")[0] == "boundary"]
    if len(found) != 1 or found[0][0] != "boundary":
        return ""
    value = found[0][1].rstrip(" \t")
    return value[1:-1] if value.startswith('"') else value


class UploadMessage:
    """One upload's message, rebuilt for the upstream. Iterate it once, in one thread, for its chunks.

    `source` gives the client's message and must raise, rather than end, when that is cut off. `content_type` is the
    outbound Content-Type, with the fresh boundary. After the last chunk, `facts` is complete and `progress.is_whole`
    true. `wants_digest` adds the model's SHA-256 to the facts. `watcher` sees the parts that are passed on.
    """

    def __init__(
        self,
        source: Iterable[Chunk],
        boundary: str,
        user_id: str,
        *,
        max_parts: int,
        wants_digest: bool = False,
        watcher: PartWatcher | None = None,
        progress: UploadProgress | None = None,
    ) -> None:
        self.facts = UploadFacts()
        self.progress = progress or UploadProgress()
        self._has_begun = False
        self._user_id = user_id
        self._wants_digest = wants_digest
        self._watcher = watcher
        self._digest: BackgroundDigest | None = None
        self._events = MessageEvents(source, boundary, max_parts)
        self._encoder = LazyEncoder(self._fields())
        self.content_type = str(self._encoder.content_type)

    def __iter__(self) -> Iterator[Chunk]:
        """Give the outbound message in chunks: what one arrival brought goes out before the next is asked for.

        A large chunk consists of the very bytes that arrived, lent if the source lends; small pieces are joined.

        Raises InvalidRequestError for a malformed message, PayloadTooLargeError for one over a limit, and whatever
        `source` raises. In each case the closing boundary has not been given out and never will be: iterating a second
        time is a bug, and raises RuntimeError.
        """
        if self._has_begun:
            raise RuntimeError("a message can be iterated once")
        self._has_begun = True
        small: list[Chunk] = []
        small_bytes = 0
        try:
            while pieces := self._encoder.next_pieces():
                for piece in pieces:
                    if len(piece) < JOIN_BELOW_BYTES:
                        small.append(piece)
                        small_bytes += len(piece)
                        continue
                    if small:
                        yield b"".join(small)
                        small, small_bytes = [], 0
                    yield piece
                if small and (small_bytes >= JOIN_BELOW_BYTES or not self._events.has_more_at_hand):
                    yield b"".join(small)
                    small, small_bytes = [], 0
        finally:
            if self._digest is not None:
                self._digest.abandon()
        self.progress.is_whole = True

    def _fields(self) -> Iterator[tuple[str, Any]]:
        """Give toolbelt's fields, one for each part. The encoder reads each to its end before it asks for the next."""
        yield "user_id", self._user_id
        for segment, content in parts(self._events):
            self.facts.parts += 1
            name = segment.name or ""
            content_type = canonical_content_type(str(segment.header("Content-Type", "")))
            # RFC 7578, section 4.2, only recommends a file name, and some clients give none to a stream of bytes.
            if segment.filename is None and name in _FILE_PARTS and segment.content_type == _DEFAULT_CONTENT_TYPE:
                segment.filename = ""
            is_field = segment.filename is None
            is_model = name == MODEL_PART and not is_field and self.facts.model_bytes is None
            self._digest = BackgroundDigest() if is_model and self._wants_digest else None
            if claims_identity(name):
                self.facts.dropped_identities += 1
                PartBody(content, is_field=is_field).drain()
                continue
            watch = self._watcher.watch(name, file_name=segment.filename) if self._watcher is not None else None
            body = PartBody(content, is_field=is_field, digest=self._digest, watch=watch)
            check_name(name)
            if is_field:
                require_known_charset(segment)
                yield name, (None, body, content_type)
            else:
                filename = _upstream_filename(segment.filename)
                if name == MODEL_PART and not self.facts.filename:
                    self.facts.filename = filename
                yield name, (filename, body, content_type or _DEFAULT_CONTENT_TYPE)
                if name == REF_IMAGES_PART:
                    self._count_image(filename, body.bytes_read)
            if is_model:
                self.facts.model_bytes = body.bytes_read
                self.facts.model_sha256 = self._digest.finish() if self._digest is not None else None

    def _count_image(self, filename: str, size: int) -> None:
        self.facts.ref_images += 1
        self.facts.ref_image_bytes += size
        if len(self.facts.ref_image_names) < _MOST_IMAGE_NAMES:
            self.facts.ref_image_names.append(filename)


def check_name(name: str) -> None:
    """Raise InvalidRequestError for a part name that parsers are known to read differently."""
    if not name:
        raise InvalidRequestError("a part has no name")
    if "=?" in name:
        raise InvalidRequestError("a part's name has an encoded word (RFC 2047)")
    if any(character in '"\\;' or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name):
        raise InvalidRequestError("a part's name has a quote, a backslash, a semicolon or a control character")


def require_known_charset(segment: MultipartSegment) -> None:
    """Raise InvalidRequestError for a field in a charset that not all readers know."""
    if (segment.charset or "utf-8").lower() not in _FIELD_CHARSETS:
        raise InvalidRequestError("a field has an unsupported charset")


def _upstream_filename(filename: str) -> str:
    """Return the file name for the outbound header, without what could end or extend that header for some parser."""
    # Path segments, quotes, backslashes and semicolons go. Some readers take %22, %0D and %0A in it for a quote and
    # line breaks, which is how browsers write those.
    return re.sub(r"%(?=22|0[AD])", "_", clean_filename(filename.rstrip("; "), "file").replace(";", "_"))


def canonical_content_type(value: str) -> str | None:
    """Return a part's Content-Type if it is a plain one, else None."""
    if not _CONTENT_TYPE.fullmatch(value) or value.lower().startswith(_COMPOSITE_TYPES):
        return None
    return value
