"""Object keys: the converter's names of files at the FAA, and the paths made of them.

A key may hold blanks, `+`, `%` and any script. It must not lead out of `/files/`, however often a server on the way
decodes it.
"""

import re
import unicodedata
from urllib.parse import quote, unquote

MAX_KEY_BYTES = 2_048
_MAX_DECODINGS = 4
_DOTS = frozenset({"", ".", ".."})


def is_safe_object_key(key: str) -> bool:
    """Return whether this key names a file below its folder, however often it is percent-decoded.

    False for empty, `.` and `..` segments (also percent-encoded, also with backslashes for slashes), leading or
    trailing slashes, control characters, surrogates, keys over 2048 bytes, and keys with too many layers of encoding.
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
    """Return the URL path of a key at the FAA: each segment percent-encoded, slashes as they are. Raises ValueError."""
    if not is_safe_object_key(key):
        raise ValueError("the object key is not safe to ask for")
    return "/files/" + "/".join(quote(segment, safe="") for segment in key.split("/"))
