"""The page's own words, for the parts that the server renders: the same files that the modules read."""

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from app.console.assets import find_asset


@cache
def texts(language: str) -> Mapping[str, str]:
    """All texts of one of the languages, by key. Raises LookupError if there is no such language."""
    asset = find_asset(f"texts/{language}.json")
    if asset is None:
        raise LookupError(language)
    return MappingProxyType(json.loads(asset.body))
