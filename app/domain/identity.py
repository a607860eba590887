"""Who a caller is, and which names in an upload would claim to say so.

The one source of identity is the OIDC session: `Identity` is made from verified claims by the sign-in code and by
nothing else. Anything the client sends that looks like a user or tenant id is dropped; this module says what that is.
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
# Decoding a name more often than this finds nothing that a sane upstream would find.
_MAX_DECODINGS = 4


@dataclass(frozen=True, slots=True)
class Identity:
    """A signed-in user, as MC's verified claims describe them. `user_id` is the OIDC subject."""

    user_id: str
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Session:
    """A session as the signed cookie holds it: who, under which session id, until when (UTC)."""

    sid: str
    identity: Identity
    expires_at: datetime


def identity_from_claims(claims: Mapping[str, Any]) -> Identity | None:
    """Return the identity that already verified claims describe, or None if their subject is unusable.

    Name and email are display texts only: bounded, and empty when absent or of another type.
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
    """Would some upstream parser read this field name as `user_id` or `tenant_id`?

    The name is folded the way lenient parsers differ: percent-encoding (also repeated), compatibility and
    case folding of Unicode, characters that do not show, accents, and every separator between the words (`-`, `_`,
    blanks, dots, brackets, NUL). A field in brackets (`form[user_id]`, `user_id[]`, `a.user_id`) counts by each of
    its words and by the whole, so that no way of nesting carries the name through.
    """
    for name in _decodings(field_name):
        folded = _fold(name)
        words = [word for word in _SEPARATORS.split(folded) if word]
        joined = "".join(words)
        if joined in _RESERVED:
            return True
        # Brackets and dots nest: any segment that is the name makes the field one that sets it.
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
    # Marks go before the name is decomposed: that puts them in order, in a time that grows with the square of their
    # number. The one that stays becomes a letter by case folding.
    decomposed = unicodedata.normalize("NFKD", _without_marks(name, but="\u0345")).casefold()
    return _without_marks(unicodedata.normalize("NFKD", decomposed)).translate(_LOOKALIKES)


def _without_marks(text: str, but: str = "") -> str:
    """`text` without marks and characters that do not show."""
    if text.isascii():
        return text
    return "".join(
        c for c in text if c == but or not (unicodedata.combining(c) or unicodedata.category(c) in {"Mn", "Cf", "Me"})
    )


# Letters of other scripts that show as the Latin letters of the two names; NFKD leaves them as they are.
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
