"""The systemd unit: valid, confined, and consistent with gunicorn.conf.py. No systemd runs here."""

import ast
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.stack import Stack

UNIT = ROOT / "deploy" / "visiona-gateway.service"
HOME = "/opt/visiona-gateway"


def values(section: str, name: str) -> list[str]:
    """Return all values of a directive, which may occur several times."""
    [body] = re.findall(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", UNIT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return re.findall(rf"^{name}=(.*)$", body, re.MULTILINE)


def value(section: str, name: str) -> str:
    [found] = values(section, name)
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """`systemd-analyze verify` reports nothing, with a program that exists on this machine."""
    installed = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    assert f"{HOME}/.venv/bin/gunicorn" in text
    installed.write_text(text.replace(f"{HOME}/.venv/bin/gunicorn", sys.executable), "utf-8")

    verdict = analyze("verify", str(installed))

    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_exposure_is_low() -> None:
    verdict = analyze("security", "--offline=true", "--threshold=15", str(UNIT))

    assert verdict.returncode == 0, verdict.stdout


def test_unit_starts_gunicorn_as_the_readme_does() -> None:
    assert value("Service", "ExecStart") == f"{HOME}/.venv/bin/gunicorn -c gunicorn.conf.py wsgi:app"
    assert value("Service", "WorkingDirectory") == HOME


def test_running_uploads_can_complete(graceful_seconds: int) -> None:
    """systemd stops only the master, and kills the rest only after graceful_timeout."""
    assert int(value("Service", "TimeoutStopSec")) >= graceful_seconds + 10
    assert value("Service", "KillMode") == "mixed"


def test_settings_of_the_unit_exist_and_are_in_a_writable_folder(known_settings: set[str]) -> None:
    """The database and the storage are in the folder that survives a restart."""
    given = dict(pair.split("=", 1) for pair in values("Service", "Environment"))
    ours = {name: where for name, where in given.items() if name.startswith("VISIONA_")}

    assert set(ours) == {"VISIONA_DATABASE_URL", "VISIONA_STORAGE_URL"}
    assert set(ours) <= known_settings
    state = f"/var/lib/{value('Service', 'StateDirectory')}/"
    assert all(f"//{state}" in where for where in ours.values()), ours


def test_account_of_the_unit_is_declared() -> None:
    lines = (ROOT / "deploy" / "visiona-gateway.sysusers").read_text("utf-8").splitlines()
    declared = [line.split()[1] for line in lines if line.startswith("u ")]

    assert declared == [value("Service", "User")] == [value("Service", "Group")]


def test_files_of_the_workers_are_in_a_writable_folder(gunicorn_definitions: dict[str, ast.stmt]) -> None:
    """Heartbeats are in /dev/shm, which is writable with a strict ProtectSystem and a private /dev."""
    assert "/dev/shm" in ast.unparse(gunicorn_definitions["worker_tmp_dir"])
    assert value("Service", "ProtectSystem") == "strict"


def test_reload_needs_only_the_shell() -> None:
    """/bin/kill belongs to procps, which a minimal Debian does not have."""
    [program, *arguments] = shlex.split(value("Service", "ExecReload"))
    assert program == "/bin/sh"
    with subprocess.Popen(["/bin/sleep", "60"]) as master:
        reload = subprocess.run(
            [program, *arguments], env={"PATH": "/nowhere", "MAINPID": str(master.pid)}, timeout=10, check=False
        )
        assert (reload.returncode, master.wait(10)) == (0, -signal.SIGUSR2)


@pytest.mark.timeout(90)
def test_gunicorn_notifies_systemd_when_it_listens(tmp_path: Path) -> None:
    """READY=1 comes after the database is migrated and the port is open."""
    name = f"\0visiona-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(30)
        stack = Stack(tmp_path, environment={"NOTIFY_SOCKET": name.replace("\0", "@")}, workers=1, start_gateway=False)
        with stack:
            assert stack.gateway is None
            stack.start_gateway()
            message = systemd.recv(4096).decode()
            assert "READY=1" in message.splitlines()
            assert stack.database_path.exists()
    assert value("Service", "Type") == "notify"
