"""The page's modules in one file, composed when the gateway starts.

A browser loads six files at a time, so on a slow network dozens of modules take longer than their bytes, even when all
of them are preloaded (docs/benchmarks.md). Each module becomes a function here that runs at the first import and
returns the exports. The modules stay what they are: Node and browsers can also load them one by one.

It knows the imports and exports that the modules use, and refuses everything else.
"""

import json
import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from posixpath import dirname, join, normpath

_IMPORT = re.compile(
    r'^import (?:\* as (?P<whole>\w+)|(?P<names>\{[\w\s,]*\})) from "(?P<path>\.[^"]*)";$', re.MULTILINE
)
_LAZY_IMPORT = re.compile(r'\bimport\("(?P<path>\.[^"]*)"\)')
_EXPORT = re.compile(r"^export (?=(?:const|class|function|async function) (?P<name>\w+))", re.MULTILINE)
_OTHER = re.compile(r"^(?:import|export)\b.*|\bimport(?:\(|\.meta).*", re.MULTILINE)
_START = """\
// All modules of the console. The source map leads to the files; app/console/bundle.py explains how they were composed.
const $made = new Map();
const $use = (name) => {
  if (!$made.has(name)) $made.set(name, $makers[name]());
  return $made.get(name);
};
const $makers = {
"""
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class BundleError(Exception):
    """A module cannot be composed. The text names it and the reason."""


def compose(modules: Mapping[str, str], entry: str, source_map: str) -> tuple[str, str]:
    """Return a script that does what importing `entry` does, and its source map.

    `modules` are the sources by name (`js/app.js`), and `source_map` is the address of the map as the script states it.
    Raise BundleError for an import or export of an unknown form, an unknown module, and for modules that import each
    other.
    """
    composed: dict[str, str] = {}
    imports: dict[str, set[str]] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name not in composed:
            composed[name], imports[name], lazy_imports = _compose_module(name, modules)
            waiting += [*imports[name], *lazy_imports]
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        raise BundleError(f"these modules import each other: {', '.join(error.args[1])}") from error
    lines = _START.splitlines()
    origins: list[tuple[str, int] | None] = [None] * len(lines)
    # The entry comes last and without a function, because it may use `await`.
    for name in [*sorted(composed.keys() - {entry}), entry]:
        # Not `splitlines`, which knows more line ends than JavaScript.
        body = composed[name].split("\n")
        is_entry = name == entry
        lines += ["};", *body] if is_entry else [f'"{name}"() {{', *body, "},"]
        origins += [None, *((name, number) for number in range(len(body)))]
        origins += [] if is_entry else [None]
    script = "\n".join([*lines, f"//# sourceMappingURL={source_map}", ""])
    return script, _source_map(origins)


def _compose_module(name: str, modules: Mapping[str, str]) -> tuple[str, set[str], set[str]]:
    """Return a module as the body of a function with the same line numbers, its imports, and its lazy imports."""
    source = modules[name]
    found: set[str] = set()
    found_lazy: set[str] = set()

    def resolve(match: re.Match[str]) -> str:
        path = normpath(join(dirname(name), match["path"]))
        if path not in modules:
            raise BundleError(f"{name} imports {match['path']}, which does not exist")
        return path

    def take_import(match: re.Match[str]) -> str:
        found.add(resolve(match))
        names = match["whole"] or re.sub(r"\b(\w+) as (\w+)", r"\1: \2", match["names"])
        return f'const {names} = $use("{resolve(match)}");'

    def take_lazy_import(match: re.Match[str]) -> str:
        found_lazy.add(resolve(match))
        return f'Promise.resolve().then(() => $use("{resolve(match)}"))'

    exports = [match["name"] for match in _EXPORT.finditer(source)]
    body = _EXPORT.sub("", _LAZY_IMPORT.sub(take_lazy_import, _IMPORT.sub(take_import, source)))
    if other := _OTHER.search(body):
        raise BundleError(f"{name}: app/console/bundle.py does not know this form: {other[0]}")
    if exports:
        body = f"{body.rstrip()}\nreturn {{ {', '.join(exports)} }};"
    return body, found, found_lazy


def _source_map(origins: list[tuple[str, int] | None]) -> str:
    """Return a source map (ECMA-426) that maps whole lines. `origins` has the file and the line of each line."""
    sources = sorted({origin[0] for origin in origins if origin})
    source, line = 0, 0
    mappings = []
    for origin in origins:
        if origin is None:
            mappings.append("")
            continue
        number = sources.index(origin[0])
        mappings.append("A" + _vlq(number - source) + _vlq(origin[1] - line) + "A")
        source, line = number, origin[1]
    return json.dumps({"version": 3, "sources": sources, "names": [], "mappings": ";".join(mappings)})


def _vlq(number: int) -> str:
    """Return a number as a source map writes it: five bits per digit, the lowest first, the sign in the lowest bit."""
    rest = abs(number) << 1 | (number < 0)
    digits = ""
    while True:
        rest, digit = rest >> 5, rest & 31
        digits += _BASE64[digit | (32 if rest else 0)]
        if not rest:
            return digits
