"""Whether what the upstream got is what it should have got, in the eyes of every reader."""

import re
import unicodedata
from collections import Counter
from urllib.parse import unquote

from tests.corpus.case import USER_ID
from tests.corpus.readers import READERS, Part, UnreadableError

#: These show a field's text, not its bytes.
DECODING_READERS = {"werkzeug", "busboy"}

_OURS = Part("user_id", USER_ID.encode())


def could_mean_an_identity(name: str) -> bool:
    """Could anybody, however lenient, take a field of this name for user_id or tenant_id?

    Far too broad for a gateway to act on, and written without a look at the rules that it does act on.
    """
    for _ in range(6):
        name = unquote(re.sub(r"%u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), name))
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    letters = "".join(character for character in folded if character.isascii() and character.isalpha())
    return "userid" in letters or "tenantid" in letters


def assert_every_reader_sees(content_type: str, body: bytes, expected: tuple[Part, ...]) -> None:
    """Every reader sees our user_id first and once, and then exactly the expected parts."""
    for reader, read in READERS.items():
        try:
            found = read(content_type, body)
        except UnreadableError as error:
            raise AssertionError(f"{reader} cannot read what went on: {error}") from error
        _assert_one_identity(reader, found, expected)
        _assert_same_parts(reader, found[1:], expected)


def _assert_one_identity(reader: str, found: list[Part], expected: tuple[Part, ...]) -> None:
    assert found[:1] == [_OURS], f"{reader} sees first {found[:1]}"
    meant = {part.name for part in expected}
    for part in found[1:]:
        assert part.name in meant or not could_mean_an_identity(part.name), f"{reader} sees a second identity: {part}"
        assert part.name not in {"user_id", "tenant_id"}, f"{reader} sees a second identity: {part}"


def _assert_same_parts(reader: str, found: list[Part], expected: tuple[Part, ...]) -> None:
    wanted = list(expected)
    if reader in DECODING_READERS:
        found, wanted = [_decoded(part) for part in found], [_decoded(part) for part in wanted]
    if reader == "werkzeug":
        # It lists fields before files, and what has one name together.
        difference = Counter(found)
        difference.subtract(wanted)
        assert not any(difference.values()), f"{reader}: {[part for part in difference if difference[part]]}"
    else:
        assert found == wanted, f"{reader} sees {found}\nbut should see {wanted}"


def _decoded(part: Part) -> Part:
    """A field without what is not ASCII: the reader shows text, and by which charset is the sender's business."""
    return part if part.filename is not None else Part(part.name, re.sub(rb"[\x80-\xff]+", b"?", part.content))
