"""The query parameters that select jobs and models of a list."""

import unicodedata
from collections.abc import Collection

from flask import request

from app.advice.toolchain import toolchain
from app.api.requests import optional_number
from app.domain.filters import JobFilter, ModelFilter
from app.domain.job import JobStatus
from app.domain.model import MAX_FILENAME_BYTES
from app.errors import InvalidRequestError

#: As long as a file name can be.
MAX_TEXT_CHARACTERS = MAX_FILENAME_BYTES
#: Further words count as one, with the blanks between them.
_MOST_WORDS = 8
#: The states that a caller may ask for, and the statuses that each stands for.
STATUSES = {status.value: frozenset({status}) for status in JobStatus} | {
    "active": frozenset(status for status in JobStatus if not status.is_terminal)
}


def job_filter() -> JobFilter:
    """Return which jobs the request asks for. Raises InvalidRequestError for a value that is not allowed."""
    status = _choice("status", STATUSES)
    return JobFilter(
        words=_words(),
        chip=_choice("platform", toolchain().chips),
        statuses=STATUSES[status] if status else frozenset(),
        filename=_text("filename"),
        model_id=optional_number(request.args, "model_id"),
    )


def model_filter() -> ModelFilter:
    """Return which models the request asks for. Raises InvalidRequestError for a value that is not allowed."""
    return ModelFilter(words=_words(), chip=_choice("platform", toolchain().chips))


def _words() -> tuple[str, ...]:
    return tuple((_text("q") or "").split(maxsplit=_MOST_WORDS - 1))


def _text(name: str) -> str | None:
    """Return a parameter in NFC, like all file names and names of models."""
    text = request.args.get(name, "")
    # A database would refuse some control characters.
    if len(text) > MAX_TEXT_CHARACTERS or any(unicodedata.category(one) in {"Cc", "Cs"} for one in text):
        raise InvalidRequestError(f"{name} may have at most {MAX_TEXT_CHARACTERS} printable characters")
    return unicodedata.normalize("NFC", text).strip() or None


def _choice(name: str, choices: Collection[str]) -> str | None:
    value = request.args.get(name, "")
    if value and value not in choices:
        raise InvalidRequestError(f"{name} must be one of {', '.join(choices)}")
    return value or None
