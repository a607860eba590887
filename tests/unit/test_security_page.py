"""docs/security.md names a test for each attack: a check that is not run is none."""

import ast
import re

from tests.support.processes import ROOT

ROW = re.compile(r"\| \d+ \| [^|]+ \| [^|]+ \| `(?P<path>tests/[^:`]+)::(?P<test>\w+)` \|")


def test_every_attack_on_the_page_names_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| *\d+ *\|.*$", page, re.MULTILINE)
    rows = [ROW.fullmatch(line) for line in lines]
    assert rows
    assert [line for line, row in zip(lines, rows, strict=True) if row is None] == []
    named = {(row["path"], row["test"]) for row in rows if row is not None}
    defined = {
        (path, node.name)
        for path in {path for path, _ in named}
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert named - defined == set()
