"""The caller's identity, and the field names in an upload that would claim one.

An identity comes from the OIDC session only: the sign-in makes it from verified claims. The gateway drops every field
of an upload that looks like a user id or a tenant id; `claims_identity` decides which ones do.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

MAX_DISPLAY_CHARACTERS = 200

# OpenID Connect Core, section 2: a subject is at most 255 ASCII characters.
_SUBJECT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_RESERVED = frozenset({"userid", "tenantid"})
_SEPARATORS = re.compile(r"[^0-9a-z]+")
# No upstream decodes a name more often than this.
_MAX_DECODINGS = 4


@dataclass(frozen=True, slots=True)
class Identity:
    """A signed-in user, as MC's verified claims describe them. `user_id` is the OIDC subject."""

    user_id: str
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Session:
    """A session as in the signed cookie: its id, the user, and when it expires (UTC)."""

    sid: str
    identity: Identity
    expires_at: datetime


def identity_from_claims(claims: Mapping[str, Any]) -> Identity | None:
    """Return the identity in verified claims, or None if their subject is unusable.

    Name and email are for display only. They are bounded, and empty if they are absent or not texts.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        return None
    name = _display(claims.get("name")) or _display(claims.get("preferred_username")) or _display(claims.get("email"))
    return Identity(user_id=subject, name=name, email=_display(claims.get("email")))


def _display(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(character for character in value if character.isprintable())[:MAX_DISPLAY_CHARACTERS]


def claims_identity(field_name: str) -> bool:
    """Return whether a parser of an upstream could read this field name as `user_id` or `tenant_id`.

    The comparison ignores what lenient parsers ignore or decode: percent-encoding (also repeated), compatibility forms
    and case in Unicode, invisible characters, accents, and all separators between the words (`-`, `_`, blanks, dots,
    brackets, NUL). Of a nested name (`form[user_id]`, `user_id[]`, `a.user_id`) each segment is compared, and all.
    """
    for name in _decodings(field_name):
        folded = _fold(name)
        words = [word for word in _SEPARATORS.split(folded) if word]
        joined = "".join(words)
        if joined in _RESERVED:
            return True
        # With brackets and dots a field sets each name that is one of its segments.
        segments = re.split(r"[\[\]().{}/:]+", folded)
        if any(_SEPARATORS.sub("", segment) in _RESERVED for segment in segments):
            return True
    return False


def _decodings(name: str) -> list[str]:
    found = [name]
    for _ in range(_MAX_DECODINGS):
        # %u0069 is what old IIS and JavaScript's escape() write.
        plain = re.sub(r"%u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), found[-1].replace("+", " "))
        decoded = unquote(plain, errors="replace")
        if decoded == found[-1]:
            break
        found.append(decoded)
    return found


def _fold(name: str) -> str:
    # Marks are removed before NFKD, which sorts them in a time that grows with the square of their number. The mark
    # that stays becomes a letter by case folding.
    decomposed = unicodedata.normalize("NFKD", _without_marks(name, but="\u0345")).casefold()
    return _without_marks(unicodedata.normalize("NFKD", decomposed)).translate(_LOOKALIKES)


def _without_marks(text: str, but: str = "") -> str:
    """Return `text` without marks and invisible characters."""
    if text.isascii():
        return text
    return "".join(
        c for c in text if c == but or not (unicodedata.combining(c) or unicodedata.category(c) in {"Mn", "Cf", "Me"})
    )


# Letters of other scripts that look like the Latin letters of the two names. NFKD does not replace them.
_LOOKALIKES = str.maketrans(
    {
        "\u0131": "i",
        "\u0456": "i",
        "\u03b9": "i",
        "\u0455": "s",
        "\u0435": "e",
        "\u0440": "r",
        "\u0501": "d",
        "\u0430": "a",
        "\u03b1": "a",
        "\u0442": "t",
        "\u03c4": "t",
        "\u043f": "n",
        "\u03c5": "u",
        "\u057d": "u",
    }
)
