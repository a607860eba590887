"""The walk-through of the README, executed as it stands there."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models import expected_bytes
from tests.support.processes import ROOT
from tests.support.stack import Stack

_WALK_THROUGH = re.compile(r"<!-- walk-through -->\s*\n```sh\n(.*?)\n```", re.DOTALL)


@pytest.fixture(scope="module")
def quick_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A sandbox whose jobs end by themselves, as they do for a reader."""
    with Stack(tmp_path_factory.mktemp("quick"), job_seconds=1) as stack:
        yield stack


def walk_through() -> str:
    found = _WALK_THROUGH.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(found) == 1, "README.md needs one ```sh block after the line <!-- walk-through -->"
    script = str(found[0])
    assert script.startswith("BASE=${BASE:-http://localhost:8000}"), "the walk-through must let BASE be overridden"
    return script


@pytest.mark.timeout(60)
def test_walk_through_of_the_readme_works(quick_stack: Stack, tmp_path: Path) -> None:
    """Pasted into a shell it signs in, converts, keeps and downloads, and what it leaves is the right result."""
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", walk_through()],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "BASE": quick_stack.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=45,
        check=False,
    )
    for line in (tmp_path / "jar").read_text(encoding="utf-8").splitlines():
        quick_stack.note_secret(line.rpartition("\t")[2])

    assert run.returncode == 0, run.stdout + run.stderr
    model = (tmp_path / "model.onnx").read_bytes()
    assert (tmp_path / "model.nef").read_bytes() == expected_bytes(model)
    assert '"user_id":"u-alice-7f3a"' in run.stdout
