"""The error catalog: what each code means to a caller.

The data is in `catalogue.toml`, so that translators and operators can read it without reading Python. An entry that
lacks a text prevents the start. `app/api/problem.py` turns an entry into a response.
"""

import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from types import MappingProxyType

#: The languages of all texts. The first one is for callers that accept neither.
LANGUAGES = ("en", "zh-TW")

#: A text for a placeholder: the same in all languages, or one for each.
Phrase = str | Mapping[str, str]


class Blame(StrEnum):
    """Who has to act on a failure: the user, the operators of the gateway, or those of the upstream."""

    USER = "user"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Entry:
    """One code of the catalog; `title` and `detail` map a language to a text."""

    code: str
    status: int
    i18n_key: str
    blame: Blame
    retryable: bool
    title: Mapping[str, str]
    detail: Mapping[str, str]
    retry_after_seconds: float | None = None

    @property
    def placeholders(self) -> frozenset[str]:
        """The names that a failure must supply for the detail text."""
        return frozenset(
            name for text in self.detail.values() for _, name, _, _ in string.Formatter().parse(text) if name
        )

    def general_detail(self, language: str) -> str:
        """Return the detail with an ellipsis for each value that only a failure can supply."""
        return re.sub(r"\{\w+\}[.。]?", "…", self.detail[language])

    def as_problem(self, language: str, *, texts: Mapping[str, Phrase], request_id: str) -> dict[str, object]:
        """Return the members of a problem document (RFC 9457), with `texts` filled into the detail."""
        detail = self.detail[language]
        for name in self.placeholders:
            text = texts.get(name, "")
            detail = detail.replace("{" + name + "}", text if isinstance(text, str) else text[language])
        return {
            "type": f"urn:visiona:problem:{self.code}",
            "title": self.title[language],
            "status": self.status,
            "detail": detail,
            "code": self.code,
            "i18n_key": self.i18n_key,
            "retryable": self.retryable,
            "blame": self.blame.value,
            "request_id": request_id,
        }


def _texts(code: str, field: str, table: Mapping[str, object]) -> Mapping[str, str]:
    texts = table.get(field)
    if not isinstance(texts, dict) or sorted(texts) != sorted(LANGUAGES) or not all(texts.values()):
        raise ValueError(f"catalogue entry {code!r} needs {field} in exactly these languages: {', '.join(LANGUAGES)}")
    return MappingProxyType({language: str(texts[language]) for language in LANGUAGES})


def _entry(code: str, table: Mapping[str, object]) -> Entry:
    status, retryable, seconds = table["status"], table["retryable"], table.get("retry_after_seconds")
    if not isinstance(status, int) or not isinstance(retryable, bool) or not isinstance(seconds, int | None):
        raise TypeError(f"catalogue entry {code!r}: status and retry_after_seconds are numbers, retryable a boolean")
    return Entry(
        code=code,
        status=status,
        i18n_key=str(table["i18n_key"]),
        blame=Blame(str(table["blame"])),
        retryable=retryable,
        title=_texts(code, "title", table),
        detail=_texts(code, "detail", table),
        retry_after_seconds=seconds,
    )


@cache
def catalogue() -> Mapping[str, Entry]:
    """Return all entries by code. Loaded once; immutable, so any thread may read it.

    Raises ValueError, KeyError or TypeError if the data file is incomplete.
    """
    data = tomllib.loads(resources.files("app.errors").joinpath("catalogue.toml").read_text(encoding="utf-8"))
    return MappingProxyType({code: _entry(code, table) for code, table in data.items()})
