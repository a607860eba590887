"""The texts of the parts that the server renders. The modules read the same files."""

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from app.console.assets import find_asset
from app.errors import LANGUAGES


@cache
def texts(language: str) -> Mapping[str, str]:
    """Return all texts of a language by key. Raises LookupError for an unknown language."""
    asset = find_asset(f"texts/{language}.json")
    if asset is None:
        raise LookupError(language)
    return MappingProxyType(json.loads(asset.body))


@cache
def reference_texts(language: str) -> Mapping[str, str]:
    """Return the translations of the API description by its English lines. In English there is nothing to translate."""
    if language == LANGUAGES[0]:
        return MappingProxyType({})
    source = resources.files("app.console") / f"reference.{language}.toml"
    return MappingProxyType(tomllib.loads(source.read_text(encoding="utf-8")))
