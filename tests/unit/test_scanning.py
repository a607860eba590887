"""Where a boundary is, or may begin, in a chunk: the same as a reader with all bytes before him would say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.streaming import Chunk
from app.streaming.scanning import Scanner

NEEDLE = b"\r\n--b"
#: Bytes of which needles and their beginnings are made, so that they come often.
NEARLY = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"b", b"x", b"\r\n", b"\r\n-", NEEDLE])).map(b"".join)


def expected(data: bytes) -> int:
    """The first place from which on it is the needle, or as much of it as there is."""
    return next(
        (place for place in range(len(data)) if NEEDLE.startswith(data[place : place + len(NEEDLE)])), len(data)
    )


@given(NEARLY, st.booleans())
def test_what_comes_before_a_boundary_is_content(data: bytes, is_lent: bool) -> None:
    """In bytes, and in views of a buffer that is written again."""
    chunk: Chunk = memoryview(bytearray(data))[:] if is_lent and data else data
    scanner = Scanner(NEEDLE)
    assert scanner.bytes_before(chunk) == expected(data)


@pytest.mark.parametrize("before", [0, 1, 1_000_000])
def test_a_place_in_a_view_is_counted_from_its_beginning(before: int) -> None:
    buffer = memoryview(bytearray(b"?" * 7 + b"x" * before + NEEDLE + b"y" * 10))
    assert Scanner(NEEDLE).bytes_before(buffer[7:]) == before


def test_what_is_not_looked_at_is_said_so() -> None:
    """After a message has used up the time that it may take, its parser looks for itself."""
    scanner = Scanner(NEEDLE)
    scanner._seconds_left = -1.0
    scanner.bytes_before(b"x")
    assert not scanner.is_quick
    assert scanner.bytes_before(b"x") is None
