"""Unit tests of the console's modules in Node, and checks that its texts are complete in every language."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.console.assets import SCRIPT, find_asset
from tests.support.processes import ROOT

STATIC = ROOT / "app" / "console" / "static"
TEMPLATES = ROOT / "app" / "console" / "templates"
TESTS = sorted((Path(__file__).parent / "js").glob("*.test.js"))
#: Prefixes of keys that are composed at run time.
COMPOSED = (
    "chip.",
    "status.",
    "stage.",
    "step.",
    "form.earlier.",
    "theme.",
    "job.heading.",
    "docs.in.",
    "job.lead.",
    "job.sentence.",
    "verdict.",
    "severity.",
    "list.status.",
    "history.",
    "models.",
    "notify.",
    "problem.",
    "home.",
    "choice.reason.",
    "curl.call.",
    "job.again.",
)
#: Words that a text for users never has, because another word says the same (docs/glossary.md), and faults of style.
UNWANTED = {
    "en": r"(?<!\{)\b(jobs?|kept|stored?|advice|entries|selection|gateway|please|cannot|ids?|cancelled)\b",
    "zh-TW": r"工作(?!階段)|參考影像|用戶|信息|數據|默認|網絡|保存"
    r"|[一-鿿](?=[A-Za-z0-9{`,.;:!?()])|[A-Za-z0-9}`,;:!?()](?=[一-鿿])",
}


def texts(language: str) -> dict[str, str]:
    return dict(json.loads((STATIC / "texts" / f"{language}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.removesuffix(".test.js"))
def test_javascript_modules(path: Path, tmp_path: Path) -> None:
    # Node needs the modules and the test in one package of type "module".
    shutil.copytree(STATIC / "js", tmp_path / "js")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "tests").mkdir()
    shutil.copy(path, tmp_path / "tests")
    run = subprocess.run(
        ["node", "--test", f"tests/{path.name}"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert re.search(r"^# pass [1-9]", run.stdout, re.MULTILINE) or "pass" in run.stdout


def test_the_composed_script_is_valid(tmp_path: Path) -> None:
    """It has all modules of the console, also those that need a browser."""
    asset = find_asset(SCRIPT)
    assert asset is not None
    script = tmp_path / "app.mjs"
    script.write_bytes(asset.body)
    run = subprocess.run(["node", "--check", script], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr


def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    english, chinese = texts("en"), texts("zh-TW")
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key
        assert text.strip()
        assert chinese[key].strip()


def leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each text of a document, with its keys."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, (*path, key))


@pytest.mark.parametrize("language", UNWANTED)
def test_texts_for_users_have_one_word_for_each_thing(language: str) -> None:
    found = {(key,): text for key, text in texts(language).items() if not key.startswith("docs.")}
    for path in ("errors/catalogue.toml", "advice/texts.toml"):
        document = tomllib.loads((ROOT / "app" / path).read_text(encoding="utf-8"))
        found |= {keys: text for keys, text in leaves(document) if keys[-1] == language}
    unwanted = re.compile(UNWANTED[language])
    assert {keys: text for keys, text in found.items() if unwanted.search(text)} == {}


def test_every_text_is_used_and_every_key_has_a_text() -> None:
    sources = [path.read_text(encoding="utf-8") for path in [*STATIC.rglob("*.js"), *TEMPLATES.rglob("*.html")]]
    known = set(texts("en"))
    code = "\n".join(sources)
    asked = set(re.findall(r"""\bt\(\s*["']([\w.]+)["']""", code))
    asked |= set(re.findall(r"""text\[["']([\w.]+)["']\]""", code)) | set(re.findall(r'data-t="([\w.]+)"', code))
    assert asked <= known, asked - known
    unused = {
        key
        for key in known
        if f'"{key.removesuffix(".one")}"' not in code and f"'{key}'" not in code and not key.startswith(COMPOSED)
    }
    assert unused == set()


def test_the_pages_code_uses_no_other_host_and_no_markup_from_strings() -> None:
    """The code doesn't attempt what the Content-Security-Policy forbids, and never turns texts into markup."""
    for path in STATIC.rglob("*"):
        if path.suffix in {".js", ".css"}:
            code = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://", code), path.name
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", code), path.name
