"""docs/security.md names tests that exist: a check that is not run is none."""

import ast
import re

import pytest

from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "security.md"
ROW = re.compile(
    r"^\| (?P<number>\d+) \| (?P<attack>[^|]+) \| (?P<prevention>[^|]+) \| `(?P<path>[^:`]+)::(?P<test>\w+)` \|$"
)
SECTIONS = ["The boundary", "Ownership", "Session, sign-in and other sites", "The download token", "Exhaustion"]
SECTIONS += ["The service"]


def rows() -> list[re.Match[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| *\d+ *\|", line)]
    found = [ROW.match(line) for line in lines]
    assert all(found), [line for line, row in zip(lines, found, strict=True) if row is None]
    return [row for row in found if row is not None]


def defined_in(path: str) -> set[str]:
    """The names of the test functions that a file defines, and that pytest would collect."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_there_are_at_least_forty_checks_numbered_without_a_gap() -> None:
    numbers = [int(row["number"]) for row in rows()]
    assert len(numbers) >= 40
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["number"])
def test_the_test_of_a_check_exists(row: re.Match[str]) -> None:
    assert row["path"].startswith("tests/")
    assert row["test"] in defined_in(row["path"]), f"{row['path']} has no {row['test']}"


def test_no_test_stands_for_two_checks() -> None:
    """Whoever counts the rows counts attacks, not mentions of one test."""
    named = [(row["path"], row["test"]) for row in rows()]
    assert sorted(set(named)) == sorted(named)


def test_every_kind_of_attack_has_its_section() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [section for section in SECTIONS if f"\n### {section}\n" not in text] == []
