"""The sentences of the advice in both languages. The data is in `texts.toml`."""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from app.advice.toolchain import toolchain

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@cache
def _texts() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    data = tomllib.loads(resources.files("app.advice").joinpath("texts.toml").read_text(encoding="utf-8"))
    return MappingProxyType(data)


@cache
def _replacements() -> Mapping[str, str]:
    return {operator: key for key, entry in _texts()["replacement"].items() for operator in entry["operators"]}


def sentence(kind: str, key: str, language: str, values: Mapping[str, str | int] | None = None) -> str | None:
    """Return the text of a key, with its values; None if there is no such key."""
    entry = _texts()[kind].get(key)
    if entry is None:
        return None
    return _PLACEHOLDER.sub(lambda match: str((values or {}).get(match[1], "")), entry[language])


def condition_text(condition: str, language: str) -> str:
    """Return a condition of the chip table in words."""
    return sentence("condition", condition, language) or condition


def replacement_text(operator: str, language: str, chip: str | None) -> str | None:
    """Return what to write instead of an operator, or None if we know of nothing that the chip's NPU runs."""
    key, table = _replacements().get(operator), toolchain()
    if key is None:
        return None
    uses = _texts()["replacement"][key]["uses"]
    if chip is not None and chip in table.chips and not all(table.support(each, chip).npu for each in uses):
        return None
    return sentence("replacement", key, language)
