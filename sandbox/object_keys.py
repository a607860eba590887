"""Object keys: the rules that Member Center, the converter and the File Access Agent share."""

import unicodedata


class InvalidObjectKeyError(ValueError):
    """A key that could name something else than one file below the root."""


def verify_object_key(unverified_key: str) -> str:
    """Return the key; raise InvalidObjectKeyError for empty, `.` or `..` segments and control characters."""
    if any(segment in {"", ".", ".."} for segment in unverified_key.split("/")):
        raise InvalidObjectKeyError("an object key has no empty, . or .. segments")
    if any(unicodedata.category(character) == "Cc" for character in unverified_key):
        raise InvalidObjectKeyError("an object key has no control characters")
    return unverified_key


def as_segment(text: str, default: str) -> str:
    """Return `text` as one segment of a key; blanks, signs and all scripts stay."""
    kept = "".join("_" if c in "/\\" or unicodedata.category(c) in {"Cc", "Cs"} else c for c in text).strip()[:100]
    return default if kept in {"", ".", ".."} else kept
