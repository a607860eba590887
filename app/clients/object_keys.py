"""Object keys: names of files at the FAA, as the converter gives them, and the paths that they may become.

A key may hold blanks, `+`, `%` and any script. What it must not do is leave `/files/`, in whatever reading some server
on the way may have of it.
"""

import re
import unicodedata
from urllib.parse import quote, unquote

MAX_KEY_BYTES = 2_048
_MAX_DECODINGS = 4
_DOTS = frozenset({"", ".", ".."})


def is_safe_object_key(key: str) -> bool:
    """Would this key, percent-encoded or decoded again by somebody, still name a file below its folder?

    False for empty, `.` and `..` segments (also percent-encoded, also with backslashes for slashes), leading or
    trailing slashes, control characters, surrogates, keys over 2048 bytes, and what is percent-encoded over and over.
    """
    if len(key.encode("utf-8", "replace")) > MAX_KEY_BYTES:
        return False
    reading = key
    for _ in range(_MAX_DECODINGS):
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in reading):
            return False
        if any(segment.strip() in _DOTS for segment in re.split(r"[/\\]", reading)):
            return False
        decoded = unquote(reading, errors="replace")
        if decoded == reading:
            return True
        reading = decoded
    return False


def object_path(key: str) -> str:
    """The URL path of a key at the FAA: every segment percent-encoded, slashes kept. Raises ValueError if unsafe."""
    if not is_safe_object_key(key):
        raise ValueError("the object key is not safe to ask for")
    return "/files/" + "/".join(quote(segment, safe="") for segment in key.split("/"))
