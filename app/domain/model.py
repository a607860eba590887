"""Models of the library, which are results that a user has promoted, and the names that they may have."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

MAX_NAME_CHARACTERS = 200
MAX_FILENAME_BYTES = 255
#: Every file of the library has a key of the first form, or of the second one if an older version made it.
_STORAGE_KEY = re.compile(r"[0-9a-f]{32}-([A-Za-z0-9_-]{1,128})|([A-Za-z0-9_-]{1,128})/[0-9a-f]{32}")
# At most so many characters become one in NFC. Longer texts are refused or cut first, because NFC sorts marks in a time
# that grows with the square of their number.
_MAX_DECOMPOSED = 4
#: Zero-width joiner and non-joiner, which Persian words and combined emoji need.
_JOINERS = "\u200c\u200d"
_MAX_SUFFIX_CHARACTERS = 16
_FORBIDDEN_IN_FILENAMES = frozenset('/\\:*?"<>|')


@dataclass(frozen=True, slots=True)
class Model:
    """One model of one user's library. `storage_key` never leaves the gateway."""

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
    #: Whether the SHA-256 is the one that the converter announced. None if an earlier version stored the model.
    is_verified: bool | None = None
    #: Parameters of the source job, as the converter reported them. None if the ledger doesn't have them.
    model_id: str | None = None
    version: str | None = None


def storage_key_of(job_id: str, model_id: str) -> str:
    """Return the key of a model's file. `model_id` is a UUID in 32 hexadecimal digits, so a key is never reused."""
    return f"{model_id}-{job_id}"


def job_of_storage_key(key: str) -> str | None:
    """Return the job that a file was made from, or None if the gateway does not make keys of this form."""
    found = _STORAGE_KEY.fullmatch(key)
    return found[1] or found[2] if found else None


def clean_name(text: str) -> str | None:
    """Return `text` as a display name, or None if it has control characters, or is empty or too long.

    The name is in NFC, trimmed, with single blanks, and without invisible characters that change how others are shown
    (U+202E would reverse the rest of a line). Joiners stay.
    """
    if len(text) > _MAX_DECOMPOSED * MAX_NAME_CHARACTERS:
        return None
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        return None
    name = " ".join(unicodedata.normalize("NFC", _without_format(text)).split())
    return name if name.strip(_JOINERS + " ") and len(name) <= MAX_NAME_CHARACTERS else None


def clean_filename(text: str, default: str) -> str:
    """Return `text` as a file name that is safe on every system, or `default` if no character of it is.

    It is the last path segment (after `/` or `\\`), without control characters, reserved characters and characters that
    change how others are shown. The length is bounded in UTF-8 bytes. The suffix is preserved.
    """
    last = text.replace("\\", "/").rsplit("/", 1)[-1]
    allowed = "".join(
        character
        for character in _without_format(last)
        if character not in _FORBIDDEN_IN_FILENAMES and unicodedata.category(character) not in {"Cc", "Cs"}
    )
    name = " ".join(allowed.split()).rstrip(" .")
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > _MAX_SUFFIX_CHARACTERS:
        stem, dot, suffix = name, "", ""
    stem = unicodedata.normalize("NFC", stem[: _MAX_DECOMPOSED * MAX_FILENAME_BYTES]).strip(" .")
    ending = dot + unicodedata.normalize("NFC", suffix)
    most = MAX_FILENAME_BYTES - len(ending.encode())
    if not stem.strip(_JOINERS):
        return stem_of(default) + ending if ending else default
    return stem.encode()[:most].decode("utf-8", "ignore") + ending


def _without_format(text: str) -> str:
    return "".join(c for c in text if c in _JOINERS or unicodedata.category(c) != "Cf")


def stem_of(filename: str) -> str:
    """Return `filename` without its last suffix."""
    stem, dot, _ = filename.rpartition(".")
    return stem if dot and stem else filename
