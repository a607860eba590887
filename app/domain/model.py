"""Models of the library: converted results that a user has kept, and the names that they may have."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

MAX_NAME_CHARACTERS = 200
MAX_FILENAME_BYTES = 255
#: Every file of the library has a key of this form; a key of any other form is not ours.
_STORAGE_KEY = re.compile(r"([A-Za-z0-9_-]{1,128})/[0-9a-f]{32}")
_FORBIDDEN_IN_FILENAMES = frozenset('/\\:*?"<>|')


@dataclass(frozen=True, slots=True)
class Model:
    """One model of one user's library. `storage_key` is ours and never leaves the gateway."""

    id: str
    user_id: str
    source_job_id: str
    name: str
    platform: str
    filename: str
    size: int
    sha256: str
    content_type: str
    storage_key: str
    created_at: datetime


def storage_key_of(job_id: str, model_id: str) -> str:
    """Return the key of a model's file. `model_id` is a UUID in 32 hexadecimal digits, so a key is never reused."""
    return f"{job_id}/{model_id}"


def job_of_storage_key(key: str) -> str | None:
    """Return the job that a file was made from, or None if the gateway does not make keys of this form."""
    found = _STORAGE_KEY.fullmatch(key)
    return found[1] if found else None


def clean_name(text: str) -> str | None:
    """Return the display name that `text` gives: NFC, trimmed, blanks folded; None if nothing or too much is left."""
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        return None
    name = " ".join(unicodedata.normalize("NFC", text).split())
    return name if 0 < len(name) <= MAX_NAME_CHARACTERS else None


def clean_filename(text: str, default: str) -> str:
    """Return a file name that is safe to offer on any system, made from `text`, or `default` if nothing is left.

    Only the last path segment counts (whatever the separator); control and reserved characters go; the length is
    bounded in UTF-8 bytes with the suffix kept.
    """
    last = unicodedata.normalize("NFC", text).replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(
        character
        for character in last
        if character not in _FORBIDDEN_IN_FILENAMES and unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
    )
    name = " ".join(kept.split()).strip(" .")
    if not name:
        return default
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > 16:
        stem, dot, suffix = name, "", ""
    room = MAX_FILENAME_BYTES - len((dot + suffix).encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + dot + suffix


def stem_of(filename: str) -> str:
    """Return `filename` without its last suffix."""
    stem, dot, _ = filename.rpartition(".")
    return stem if dot and stem else filename
