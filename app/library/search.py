"""Conditions on texts that SQLite and PostgreSQL evaluate alike."""

import functools
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa


def contains_all(text: sa.ColumnElement[str], words: Iterable[str]) -> sa.ColumnElement[bool]:
    """Match texts that contain each of the words, in upper or lower case.

    The pattern names both cases of each letter, because LIKE would not do: SQLite's knows the cases of ASCII only, and
    so does PostgreSQL in a database with the locale "C".
    """
    return sa.and_(sa.true(), *(text.regexp_match("".join(map(_in_either_case, word))) for word in words))


def joined(*texts: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Join texts by blanks; a null counts as empty."""
    first, *others = (sa.func.coalesce(text, "") for text in texts)
    return functools.reduce(lambda whole, text: whole + " " + text, others, first)


def parameter(column: sa.Column[Any], name: str) -> sa.ColumnElement[str]:
    """Return a job's parameter as text, or null. The converter sends numbers or texts."""
    return sa.cast(column[name].as_string(), sa.Text)


def _in_either_case(character: str) -> str:
    cases = {case for case in (character, character.lower(), character.upper()) if len(case) == 1}
    if len(cases) > 1:
        return f"[{''.join(sorted(cases))}]"
    return f"\\{character}" if character.isascii() and not character.isalnum() else character
