"""Having a message re-composed in process, from arrivals of any size."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.errors import GatewayError
from app.streaming import Chunk
from app.streaming.multipart import UploadMessage, parse_boundary
from tests.corpus.case import MAX_PARTS, USER_ID


@dataclass(frozen=True)
class Given:
    """What came out: the bytes, whether they are whole, and the code if it was refused."""

    content_type: str
    body: bytes
    is_whole: bool
    code: str | None

    @property
    def outcome(self) -> bytes | str:
        """To compare two runs by: the boundary, which is fresh for each, does not count."""
        if self.code is not None:
            return self.code
        boundary = self.content_type.partition("boundary=")[2].encode()
        return self.body.replace(boundary, b"BOUNDARY")


def give(content_type: str, arrivals: Iterable[Chunk]) -> Given:
    """Have a message re-composed, from what arrives one after the other."""
    try:
        boundary = parse_boundary(content_type)
    except GatewayError as failure:
        return Given("", b"", is_whole=False, code=failure.entry.code)
    recomposition = UploadMessage(arrivals, boundary, USER_ID, max_parts=MAX_PARTS)
    given: list[bytes] = []
    code = None
    try:
        given.extend(bytes(chunk) for chunk in recomposition)
    except GatewayError as failure:
        code = failure.entry.code
    return Given(recomposition.content_type, b"".join(given), is_whole=recomposition.progress.is_whole, code=code)


def cut(body: bytes, *points: int) -> Iterator[bytes]:
    """The body in as many arrivals as it is cut into; none is empty."""
    edges = sorted({0, len(body), *points})
    return (body[start:end] for start, end in itertools.pairwise(edges))


def lent(arrivals: Iterable[bytes]) -> Iterator[memoryview]:
    """The arrivals as views of one buffer, whose bytes are overwritten before the next is given."""
    buffer = bytearray()
    for arrival in arrivals:
        if len(arrival) > len(buffer):
            buffer = bytearray(len(arrival))
        buffer[: len(arrival)] = arrival
        yield memoryview(buffer)[: len(arrival)]
        buffer[:] = b"!" * len(buffer)
