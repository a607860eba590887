"""docs/deployment.md: what it names exists, and gunicorn.conf.py is explained without gaps."""

import ast
import re

from gunicorn.config import KNOWN_SETTINGS

from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def test_every_setting_of_gunicorn_is_explained_and_nothing_else(gunicorn_definitions: dict[str, ast.stmt]) -> None:
    """The table has a row for each option and hook that gunicorn.conf.py sets."""
    known = {setting.name for setting in KNOWN_SETTINGS}
    [section] = re.findall(r"^## gunicorn\.conf\.py.*?$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    explained = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)

    assert set(explained) == {name for name in gunicorn_definitions if name in known}
    assert len(explained) == len(set(explained))


def test_names_in_gunicorn_conf_are_settings_or_private(gunicorn_definitions: dict[str, ast.stmt]) -> None:
    """A misspelt option would be taken for a variable, and be silently without effect."""
    known = {setting.name for setting in KNOWN_SETTINGS}

    assert {name for name in gunicorn_definitions if not name.startswith("_")} <= known


def test_settings_it_names_exist(known_settings: set[str]) -> None:
    """Nobody sets what nobody reads."""
    assert set(re.findall(r"\bVISIONA_[A-Z_]+", PAGE)) <= known_settings


def test_files_it_names_exist() -> None:
    """Links and commands lead somewhere."""
    linked = [(ROOT / "docs" / path).resolve() for path in re.findall(r"\]\(([^)#:]+)\)", PAGE)]
    named = re.findall(r"(?<![/\w.])(?:deploy|scripts)/[\w./-]+\w", PAGE)
    made_by_the_reader = {"deploy/gateway.env", "deploy/tls", "deploy/postgres-password"}

    assert [path for path in linked if not path.exists()] == []
    assert [path for path in named if path not in made_by_the_reader and not (ROOT / path).exists()] == []
    assert "deploy/visiona-gateway.service" in named


def test_places_it_names_are_those_of_the_unit() -> None:
    """A reader who follows the page ends with files where the unit looks for them."""
    unit = (ROOT / "deploy" / "visiona-gateway.service").read_text(encoding="utf-8")
    for directive in ("WorkingDirectory", "EnvironmentFile"):
        [place] = re.findall(rf"^{directive}=(.*)$", unit, re.MULTILINE)
        assert place in PAGE, directive
