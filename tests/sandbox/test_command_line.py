"""`python -m sandbox` as a process: ready file, busy ports, one service alone, signals, kill and restart."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.settings import SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET
from tests.sandbox.callers import usual_form
from tests.support.processes import ROOT

ANY_PORT = "localhost:0"
START_SECONDS = 20

Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts sandbox processes that do not outlive the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sandbox", "--data", str(tmp_path / "data"), *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _ready(process: subprocess.Popen[str], path: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _port_of(url: str) -> str:
    return url.rpartition(":")[2]


def test_whole_sandbox_tells_where_it_is_and_ends_on_sigterm(launch: Launch, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready" / "sandbox.json"
    addresses = [f"--{name}={ANY_PORT}" for name in ("member-center", "converter", "file-access")]
    process = launch(*addresses, "--ready-file", str(ready_file), "--gateway", "http://localhost:1234")
    facts = _ready(process, ready_file)
    assert facts["pid"] == process.pid
    for name in ("member_center", "converter", "file_access"):
        assert requests.get(f"{facts[name]}/", timeout=10).status_code == 200
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert "alice / alice" in output
    assert f"export VISIONA_OIDC_ISSUER={facts['member_center']}" in output
    assert "export VISIONA_PUBLIC_BASE_URL=http://localhost:1234" in output


def test_busy_port_is_one_sentence_and_exit_code_2(launch: Launch, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    process = launch("--only", "converter", "--converter", ANY_PORT, "--ready-file", str(ready_file))
    port = _port_of(_ready(process, ready_file)["converter"])
    second = launch("--only", "converter", "--converter", f"localhost:{port}")
    output, errors = second.communicate(timeout=START_SECONDS)
    assert second.returncode == 2
    assert output == ""
    assert errors == f"sandbox: cannot listen on localhost:{port}: Address already in use\n"


@pytest.mark.parametrize("arguments", [("--converter", "9002"), ("--job-seconds", "-1"), ("--only", "everything")])
def test_wrong_argument_is_exit_code_2(launch: Launch, arguments: tuple[str, ...]) -> None:
    process = launch(*arguments)
    _, errors = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 2
    assert "error:" in errors


def test_killed_converter_comes_back_with_its_jobs_and_other_processes_tokens(launch: Launch, tmp_path: Path) -> None:
    def launch_alone(service: str, address: str) -> tuple[subprocess.Popen[str], str]:
        ready_file = tmp_path / f"{service}-{time.monotonic_ns()}.json"
        process = launch("--only", service, f"--{service}", address, "--ready-file", str(ready_file))
        return process, str(_ready(process, ready_file)[service.replace("-", "_")])

    _, member_center = launch_alone("member-center", ANY_PORT)
    form = {"grant_type": "client_credentials", "scope": "converter:job.read converter:job.write"}
    auth = (SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET)
    token = requests.post(f"{member_center}/oauth/token", data=form, auth=auth, timeout=10).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    process, converter = launch_alone("converter", ANY_PORT)
    upload = usual_form("u-1").add("model", b"a model", "m.onnx")
    typed = headers | {"Content-Type": upload.content_type}
    job = requests.post(f"{converter}/api/v1/jobs", data=upload.body, headers=typed, timeout=10).json()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    _, again = launch_alone("converter", f"localhost:{_port_of(converter)}")
    assert again == converter
    found = requests.get(f"{converter}/api/v1/jobs/{job['job_id']}", headers=headers, timeout=10)
    assert found.json()["created_at"] == job["created_at"]
