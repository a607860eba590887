"""The commands of docs/deployment.md for a second gateway for uploads, run on the shipped files."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT

UNIT, OWN_UNIT, HOSTS = "visiona-gateway.service", "visiona-gateway-uploads.service", "visiona-hosts.conf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in which the section's `sed` commands have run."""
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    section = page.partition("## Uploads in processes of their own")[2].partition("\n## ")[0]
    block = section.partition("```sh\n")[2].partition("```")[0].replace("\\\n", " ")
    commands = [line for line in block.splitlines() if line.startswith("sed ")]
    assert len(commands) == 2
    (tmp_path / UNIT).write_text((ROOT / "deploy" / UNIT).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / HOSTS).write_text((ROOT / "deploy" / "nginx-host.conf").read_text(encoding="utf-8"), encoding="utf-8")
    for command in commands:
        subprocess.run(["sh", "-ec", command.replace("/etc/nginx/conf.d/", "")], cwd=tmp_path, check=True)
    return tmp_path


def changed_lines(before: Path, after: Path) -> list[tuple[str, str]]:
    old, new = (path.read_text(encoding="utf-8").splitlines() for path in (before, after))
    assert len(old) == len(new)
    return [(one, other) for one, other in zip(old, new, strict=True) if one != other]


def test_second_service_has_its_own_port_and_directory(folder: Path) -> None:
    """systemd removes a RuntimeDirectory with its service, so the two must not share one."""
    (start, own_start), (directory, own_directory) = changed_lines(folder / UNIT, folder / OWN_UNIT)
    assert own_start == start.replace(" wsgi:app", " --bind 127.0.0.1:8001 wsgi:app")
    assert (directory, own_directory) == ("RuntimeDirectory=visiona", "RuntimeDirectory=visiona-uploads")


def test_nginx_sends_only_uploads_to_the_second_service(folder: Path) -> None:
    [(_, changed)] = changed_lines(ROOT / "deploy" / "nginx-host.conf", folder / HOSTS)
    assert changed.strip() == "server 127.0.0.1:8001 max_fails=0;"
    text = (folder / HOSTS).read_text(encoding="utf-8")
    assert re.search(r"upstream visiona_uploads \{\n    server 127\.0\.0\.1:8001 ", text)
