"""The texts of the parts that the server renders. The modules read the same files."""

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from app.console.assets import find_asset


@cache
def texts(language: str) -> Mapping[str, str]:
    """Return all texts of a language by key. Raises LookupError for an unknown language."""
    asset = find_asset(f"texts/{language}.json")
    if asset is None:
        raise LookupError(language)
    return MappingProxyType(json.loads(asset.body))
