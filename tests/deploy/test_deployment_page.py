"""docs/deployment.md: everything that it names exists, and it explains all of gunicorn.conf.py."""

import ast
import re

from gunicorn.config import KNOWN_SETTINGS

from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def test_page_explains_exactly_the_settings_of_gunicorn_conf(gunicorn_definitions: dict[str, ast.stmt]) -> None:
    """The table has a row for each option and hook that gunicorn.conf.py sets."""
    known = {setting.name for setting in KNOWN_SETTINGS}
    [section] = re.findall(r"^## gunicorn\.conf\.py.*?$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    explained = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)

    assert set(explained) == {name for name in gunicorn_definitions if name in known}
    assert len(explained) == len(set(explained))


def test_names_in_gunicorn_conf_are_settings_or_private_names(gunicorn_definitions: dict[str, ast.stmt]) -> None:
    known = {setting.name for setting in KNOWN_SETTINGS}

    assert {name for name in gunicorn_definitions if not name.startswith("_")} <= known


def test_settings_on_the_page_exist(known_settings: set[str]) -> None:
    assert set(re.findall(r"\bVISIONA_[A-Z_]+", PAGE)) <= known_settings


def test_files_on_the_page_exist() -> None:
    linked = [(ROOT / "docs" / path).resolve() for path in re.findall(r"\]\(([^)#:]+)\)", PAGE)]
    named = re.findall(r"(?<![/\w.])(?:deploy|scripts)/[\w./-]+\w", PAGE)
    made_by_the_reader = {"deploy/gateway.env", "deploy/tls", "deploy/postgres-password"}

    assert [path for path in linked if not path.exists()] == []
    assert [path for path in named if path not in made_by_the_reader and not (ROOT / path).exists()] == []
    assert "deploy/visiona-gateway.service" in named


def test_paths_on_the_page_are_those_of_the_unit() -> None:
    """The commands of the page put the files where the unit expects them."""
    unit = (ROOT / "deploy" / "visiona-gateway.service").read_text(encoding="utf-8")
    for directive in ("WorkingDirectory", "EnvironmentFile"):
        [place] = re.findall(rf"^{directive}=(.*)$", unit, re.MULTILINE)
        assert place in PAGE, directive
