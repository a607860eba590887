"""The page's files, and the version in their addresses. Files are read once.

Browsers can cache every file forever and still never mix two releases. The pages load two files that are composed of
the others: the modules, and the style sheets of the console.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType

from app.console.bundle import compose

_CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "svg": "image/svg+xml",
}
_ENTRY = "js/app.js"
#: The modules in one file, and its source map.
SCRIPT, _SOURCE_MAP = "app.js", "app.js.map"
#: The style sheets of the console in one file, in this order.
STYLES = "console.css"
_STYLE_NAMES = ("base", "form", "advice", "job", "lists")
_VERSION_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page."""

    body: bytes
    content_type: str
    etag: str


def _asset(name: str, body: bytes) -> Asset:
    return Asset(body, _CONTENT_TYPES[name.rpartition(".")[2]], hashlib.sha256(body).hexdigest()[:32])


@cache
def _assets() -> Mapping[str, Asset]:
    """Return all files by name (`js/app.js`). Files of an unknown type are left out."""
    files = dict(_walk(resources.files("app.console") / "static", ""))
    modules = {name: body.decode() for name, body in files.items() if name.endswith(".js")}
    script, source_map = compose(modules, _ENTRY, _SOURCE_MAP)
    files[SCRIPT], files[_SOURCE_MAP] = script.encode(), source_map.encode()
    files[STYLES] = b"\n".join(files[f"css/{name}.css"] for name in _STYLE_NAMES)
    return MappingProxyType({name: _asset(name, files[name]) for name in sorted(files)})


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
        elif (
            entry.name.rpartition(".")[2] in _CONTENT_TYPES
        ):  # pragma: no branch - all shipped files are of a known type
            yield name, entry.read_bytes()


def find_asset(name: str) -> Asset | None:
    """Return the file with this name, or None. Names are looked up and never used as paths."""
    return _assets().get(name)


def _version() -> str:
    digest = hashlib.sha256()
    for name, asset in _assets().items():
        digest.update(f"{name}\0{asset.etag}\n".encode())
    return digest.hexdigest()[:_VERSION_CHARACTERS]


#: Changes whenever a file of the page changes.
VERSION = _version()
