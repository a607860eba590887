"""The page's files, and the version in their addresses. Files are read once.

ES modules import each other by relative addresses, so the version in the path applies to all of them. Browsers can
cache every file forever and still never mix two releases, without a build step.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType

_CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
_VERSION_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page."""

    body: bytes
    content_type: str
    etag: str


@cache
def _assets() -> Mapping[str, Asset]:
    """Return all files by name (`js/app.js`). Files of an unknown type are left out."""
    return MappingProxyType(dict(sorted(_walk(resources.files("app.console") / "static", ""))))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in folder.iterdir():
        name = prefix + entry.name
        content_type = _CONTENT_TYPES.get(entry.name.rpartition(".")[2])
        if entry.is_dir():
            found += _walk(entry, f"{name}/")
        elif content_type is not None:  # pragma: no branch - every file that is shipped is of a known kind
            body = entry.read_bytes()
            found.append((name, Asset(body, content_type, hashlib.sha256(body).hexdigest()[:32])))
    return found


def find_asset(name: str) -> Asset | None:
    """Return the file with this name, or None. Names are looked up and never used as paths."""
    return _assets().get(name)


def module_names() -> list[str]:
    """Return the names of all ES modules, so that browsers can fetch them in parallel instead of import by import."""
    return [name for name in _assets() if name.endswith(".js")]


def _version() -> str:
    digest = hashlib.sha256()
    for name, asset in _assets().items():
        digest.update(f"{name}\0{asset.etag}\n".encode())
    return digest.hexdigest()[:_VERSION_CHARACTERS]


#: Changes whenever a file of the page changes.
VERSION = _version()
