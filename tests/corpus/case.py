"""What a case of the corpus is, and the words in which cases are written.

    Case("user-id-in-capitals", upload(field("USER_ID", CLAIM)), passes())

A case says what goes in, and what must come of it: either the parts that go on to the upstream after our own user_id,
or the code of the refusal. There is no third way, and none may differ with how the bytes arrive.
"""

from dataclasses import dataclass
from typing import Final

from tests.corpus.readers import Part

#: Who is signed in, and who a hostile upload claims to be from.
USER_ID: Final = "u-alice-7f3a"
CLAIM: Final = b"u-bob-c81e"
BOUNDARY: Final = "b"
MAX_PARTS: Final = 2_000

INVALID: Final = "invalid_request"
TOO_LARGE: Final = "payload_too_large"
UNSUPPORTED: Final = "unsupported_media_type"

#: The parts that most cases have beside the one which they are about.
MODEL_ID: Final = Part("model_id", b"32769")
MODEL: Final = Part("model", b"\x00\x01\r\n--model\r\n\x1a\xff", "m.onnx")


@dataclass(frozen=True)
class Passes:
    """The message goes on; these parts follow our user_id, in this order."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Refused:
    """The caller gets this code, and the upstream never sees the end of a message."""

    code: str


@dataclass(frozen=True)
class Case:
    """One message. `name` is a slug; `why` says what is not obvious about the outcome."""

    name: str
    body: bytes
    outcome: Passes | Refused
    why: str = ""
    content_type: str = f"multipart/form-data; boundary={BOUNDARY}"


def passes(*parts: Part) -> Passes:
    """These parts go on, and then the usual ones."""
    return Passes((*parts, MODEL_ID, MODEL))


def passes_only(*parts: Part) -> Passes:
    """These parts go on, and nothing else."""
    return Passes(parts)


def refused(code: str = INVALID) -> Refused:
    return Refused(code)


def part(head: str | bytes, content: bytes = b"1") -> bytes:
    """A part with these header lines, joined by CRLF, as they are."""
    return (head.encode() if isinstance(head, str) else head) + b"\r\n\r\n" + content


def disposition(parameters: str | bytes, content: bytes = b"1", *more: str) -> bytes:
    """A part whose Content-Disposition goes on like this after `form-data; `, with more header lines after it."""
    raw = parameters.encode() if isinstance(parameters, str) else parameters
    return part(b"\r\n".join([b"Content-Disposition: form-data; " + raw, *(line.encode() for line in more)]), content)


def field(name: str | bytes, content: bytes = b"1") -> bytes:
    """A field as browsers write it, with the name as it is."""
    return disposition(b'name="%b"' % (name.encode() if isinstance(name, str) else name), content)


def file(name: str, content: bytes, filename: str | bytes, content_type: str = "application/octet-stream") -> bytes:
    """A file as browsers write it, with the names as they are."""
    raw = filename.encode() if isinstance(filename, str) else filename
    return disposition(b'name="%b"; filename="%b"' % (name.encode(), raw), content, f"Content-Type: {content_type}")


MODEL_ID_BYTES: Final = field("model_id", MODEL_ID.content)
MODEL_BYTES: Final = file("model", MODEL.content, "m.onnx")


def message(*parts: bytes, boundary: str = BOUNDARY, before: bytes = b"", end: bytes = b"--\r\n") -> bytes:
    """A message of these parts. `end` follows the last `--boundary`; b"" leaves only that."""
    delimiter = b"--" + boundary.encode()
    return before + b"".join(b"%b\r\n%b\r\n" % (delimiter, one) for one in parts) + delimiter + end


def upload(*parts: bytes, boundary: str = BOUNDARY, before: bytes = b"", end: bytes = b"--\r\n") -> bytes:
    """A message of these parts and then the usual ones."""
    return message(*parts, MODEL_ID_BYTES, MODEL_BYTES, boundary=boundary, before=before, end=end)


def with_part(name: str, part: bytes, outcome: Passes | Refused, why: str = "") -> Case:
    """A case of a message with this part before the usual ones."""
    return Case(name, upload(part), outcome, why)
