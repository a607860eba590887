"""nginx's configuration as data: as much of its grammar as deploy/nginx.conf uses.

[server] = parse(text).all("server")
server.one("keepalive_timeout")   # ["65s"]
"""

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | (?P<text>'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | [{};] | (?:[^\s;{}'"]|\{[0-9,]+\})+)""",
    re.X | re.S,
)
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass
class Block:
    """What stands between braces: directives and blocks in their order, each with its name and arguments."""

    arguments: list[str] = field(default_factory=list)
    content: list[tuple[str, "list[str] | Block"]] = field(default_factory=list)

    def values(self, name: str) -> list[list[str]]:
        """The arguments of every directive of that name which stands here itself, not in a block inside."""
        return [found for key, found in self.content if key == name and isinstance(found, list)]

    def one(self, name: str) -> list[str]:
        """The arguments of the only directive of that name; AssertionError if there are none or several."""
        found = self.values(name)
        assert len(found) == 1, f"{name} stands here {len(found)} times"
        return found[0]

    def blocks(self, name: str) -> "list[Block]":
        """Every block of that name."""
        return [found for key, found in self.content if key == name and isinstance(found, Block)]


def parse(text: str) -> Block:
    """The whole file as one block. Raises AssertionError for what it does not understand."""
    tokens, position = [], 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        assert found, f"not understood: {text[position : position + 40]!r}"
        if found["text"]:
            tokens.append(found["text"])
        position = found.end()
    root = Block()
    open_blocks, words = [root], []
    for token in tokens:
        if token == ";":
            open_blocks[-1].content.append((words[0], words[1:]))
            words = []
        elif token == "{":
            inner = Block(words[1:])
            open_blocks[-1].content.append((words[0], inner))
            open_blocks.append(inner)
            words = []
        elif token == "}":
            assert not words, words
            open_blocks.pop()
        else:
            words.append(token[1:-1] if token[0] in "'\"" else token)
    assert open_blocks == [root], "the braces do not match"
    return root


def size(text: str) -> int:
    """`5m` in bytes."""
    number, unit = re.fullmatch(r"(\d+)([kmg]?)", text.lower()).groups()  # type: ignore[union-attr]
    return int(number) * _SIZES[unit]


def seconds(text: str) -> float:
    """`90s` in seconds."""
    number, unit = re.fullmatch(r"(\d+)(ms|[smhd]?)", text).groups()  # type: ignore[union-attr]
    return int(number) * _SECONDS[unit]
