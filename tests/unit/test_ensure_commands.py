"""What is missing or too old on a machine is named at once, with the command that installs it."""

import subprocess
from pathlib import Path

from tests.support.processes import ROOT

SCRIPT = ROOT / "scripts" / "ensure-commands"


def look(folder: Path, *wanted: str) -> tuple[int, str]:
    """The script's status and complaint, for somebody who is not root and has only the commands of a folder."""
    (folder / "id").write_text("#!/bin/sh\necho 1000\n")
    (folder / "id").chmod(0o755)
    run = subprocess.run(
        ["/bin/sh", SCRIPT, *wanted],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return run.returncode, run.stderr


def command(folder: Path, name: str, version: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)


def test_nothing_is_said_where_everything_is_there(tmp_path: Path) -> None:
    command(tmp_path, "node", "v18.20.4")
    assert look(tmp_path, "node=18", "sh", "libc.so.6") == (0, "")


def test_everything_that_is_missing_is_named_at_once_by_its_package(tmp_path: Path) -> None:
    status, complaint = look(tmp_path, "sh", "absent-a", "absent-b=3", "libabsent.so.1")
    assert status == 1
    assert complaint.endswith("sudo apt-get install -y absent-a absent-b libabsent.so.1\n")


def test_a_command_that_is_too_old_is_named_with_what_it_has_to_be(tmp_path: Path) -> None:
    command(tmp_path, "node", "v16.3.0")
    command(tmp_path, "mute", "")
    status, complaint = look(tmp_path, "node=18", "mute=2", "absent")
    assert status == 1
    assert "absent" in complaint
    assert f"{tmp_path}/node is version 16, and 18 or newer is needed." in complaint
    assert f"{tmp_path}/mute is version" in complaint
