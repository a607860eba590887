"""Files arrive byte for byte, whatever is in them and however they are cut, in process and through a gateway."""

import hashlib
import random
from collections.abc import Iterator

import pytest

from app.streaming.multipart import UploadMessage
from tests.corpus.case import MAX_PARTS, USER_ID
from tests.corpus.giving import cut
from tests.corpus.judgement import assert_every_reader_sees
from tests.corpus.readers import Part, read_by_multipart
from tests.corpus.recorder import RecordingConverter
from tests.support.clients import Client
from tests.support.multipart_bodies import PARAMETERS, Multipart
from tests.support.stack import Stack

SIZE = 1_500_000
BOUNDARY = "test-boundary"
IMAGES = 1_000


def filled_with(piece: bytes) -> bytes:
    return (piece * (SIZE // len(piece) + 1))[:SIZE]


CONTENTS = {
    "random": random.Random(1).randbytes(SIZE),
    "empty": b"",
    "one-byte": b"\r",
    "line-breaks": filled_with(b"\r\n"),
    "carriage-returns": filled_with(b"\r"),
    "half-boundaries": filled_with(f"\r\n--{BOUNDARY[:-1]}".encode()),
    "boundaries-without-line-break": filled_with(f"--{BOUNDARY}".encode()),
    "boundaries-with-line-feed": filled_with(f"\n--{BOUNDARY}--\n".encode()),
    "line-breaks-and-hyphens": filled_with(b"\r\n--"),
    "nul": bytes(SIZE),
}


def message(model: bytes, *, images: int = 0) -> tuple[Multipart, tuple[Part, ...]]:
    """An upload with parts before, around and after the model, and what must arrive of it."""
    body = Multipart(boundary=BOUNDARY)
    body.field("user_id", "u-bob-c81e").fields(**PARAMETERS).file("model", model, "m.onnx").field("note", "after")
    parts = [*(Part(name, value.encode()) for name, value in PARAMETERS.items()), Part("model", model, "m.onnx")]
    parts.append(Part("note", b"after"))
    for number in range(images):
        image = random.Random(number).randbytes(number * 3)
        body.file("ref_images", image, f"{number}.png")
        parts.append(Part("ref_images", image, f"{number}.png"))
    return body.file("last", b"", "empty.bin"), (*parts, Part("last", b"", "empty.bin"))


def hashes(parts: list[Part] | tuple[Part, ...]) -> list[tuple[str, str | None, int, str]]:
    """Short enough to be read when a test fails."""
    return [(one.name, one.filename, len(one.content), hashlib.sha256(one.content).hexdigest()) for one in parts]


def arrivals(body: bytes, seed: int) -> Iterator[bytes]:
    """The body in arrivals of 1 byte to 256 KiB."""
    chance, points, point = random.Random(seed), [], 0
    while point < len(body):
        point += 1 << chance.randrange(4, 19)
        points.append(min(point, len(body)))
    return cut(body, *points)


@pytest.mark.parametrize("name", CONTENTS)
def test_content_arrives_byte_for_byte_in_process(name: str) -> None:
    body, expected = message(CONTENTS[name])

    for seed in range(5):
        recomposition = UploadMessage(
            arrivals(body.as_bytes(), seed), BOUNDARY, USER_ID, max_parts=MAX_PARTS, wants_digest=True
        )
        out = b"".join(recomposition)
        found = read_by_multipart(recomposition.content_type, out)
        assert hashes(found[1:]) == hashes(expected)
        assert recomposition.facts.model_sha256 == hashlib.sha256(CONTENTS[name]).hexdigest()


def test_thousand_reference_images_arrive_byte_for_byte_in_process() -> None:
    body, expected = message(CONTENTS["random"], images=IMAGES)

    recomposition = UploadMessage(arrivals(body.as_bytes(), 1), BOUNDARY, USER_ID, max_parts=MAX_PARTS)
    out = b"".join(recomposition)

    assert hashes(read_by_multipart(recomposition.content_type, out)[1:]) == hashes(expected)


@pytest.mark.parametrize("framing", ["counted", "chunked"])
@pytest.mark.parametrize("name", [*CONTENTS, "thousand-images"])
def test_content_arrives_byte_for_byte_through_a_gateway(
    stack: Stack, converter: RecordingConverter, alice: Client, name: str, framing: str
) -> None:
    body, expected = message(CONTENTS.get(name, b"a model"), images=0 if name in CONTENTS else IMAGES)

    data = body if framing == "counted" else body.chunked()
    response = alice.post("/api/conversion/init", data=data, headers=body.headers)

    (upload,) = converter.take()
    assert response.status_code == 201, response.text
    assert upload.is_whole
    found = read_by_multipart(upload.content_type, bytes(upload.body))
    assert hashes(found[1:]) == hashes(expected)
    assert_every_reader_sees(upload.content_type, bytes(upload.body), expected)
