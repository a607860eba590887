"""Run the walk-through of the README, and the curl examples of `/docs`."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.api.openapi.operation import Operation
from app.api.openapi.operations import OPERATIONS
from app.api.session import SESSION_COOKIE
from app.console.docs import curl_command
from tests.support.models import expected_bytes
from tests.support.processes import ROOT
from tests.support.sandbox_processes import CONVERTER
from tests.support.stack import Stack

#: Without an upload, there is none to end.
_DOCUMENTED = {"endUpload": {404}}
#: These change what the others need.
_LAST = ("startConversion", "deleteModel", "signOut")
_WALK_THROUGH = re.compile(r"<!-- walk-through -->\s*\n```sh\n(.*?)\n```", re.DOTALL)


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A sandbox whose jobs end by themselves, as they do for readers."""
    with Stack(tmp_path_factory.mktemp("quick"), job_seconds=1) as stack:
        yield stack


@pytest.fixture
def quick_stack(module_stack: Stack) -> Stack:
    module_stack.reset()
    return module_stack


def walk_through() -> str:
    found = _WALK_THROUGH.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(found) == 1, "README.md needs one ```sh block after the line <!-- walk-through -->"
    script = str(found[0])
    assert "BASE=${BASE:-http://localhost:8000}" in script, "the walk-through must let BASE be overridden"
    return script


def walk(stack: Stack, folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run the script as if it were pasted into a shell: a failure does not end the shell."""
    run = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "BASE": stack.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=45,
        check=False,
    )
    for line in (folder / "jar").read_text(encoding="utf-8").splitlines():
        stack.note_secret(line.rpartition("\t")[2])
    return run


@pytest.mark.timeout(60)
def test_walk_through_of_the_readme_works(quick_stack: Stack, tmp_path: Path) -> None:
    run = walk(quick_stack, tmp_path, walk_through())

    assert run.returncode == 0, run.stdout + run.stderr
    model = (tmp_path / "model.onnx").read_bytes()
    assert (tmp_path / "model.nef").read_bytes() == expected_bytes(model)
    assert '"user_id":"u-alice-7f3a"' in run.stdout


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(
            ("-F model=@model.onnx", "-F 'model=@model.onnx;filename=fail.onnx'"), '"status":"failed"', id="failed job"
        ),
        pytest.param(("password=alice", "password=wrong"), '"code":"unauthenticated"', id="wrong password"),
    ],
)
def test_walk_through_ends_with_the_reason_of_a_refusal(
    quick_stack: Stack, tmp_path: Path, change: tuple[str, str], text: str
) -> None:
    script = walk_through()
    assert change[0] in script

    run = walk(quick_stack, tmp_path, script.replace(*change))

    assert run.returncode != 0, run.stdout
    assert text in run.stdout
    assert not (tmp_path / "model.nef").exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        pytest.param("create_job", 422, "converter_rejected", id="upload"),
        pytest.param("get_job", 404, "job_not_found", id="poll"),
        pytest.param("promote", 422, "promote_failed", id="promote"),
    ],
)
def test_walk_through_ends_with_the_problem_of_the_gateway(
    quick_stack: Stack, tmp_path: Path, call: str, status: int, code: str
) -> None:
    quick_stack.sandbox.fault(CONVERTER, call=call, status=status, body_json={"error": {"code": "no", "message": "no"}})

    run = walk(quick_stack, tmp_path, walk_through())

    assert run.returncode != 0, run.stdout
    assert f'"code":"{code}"' in run.stdout
    assert not (tmp_path / "model.nef").exists()


def last(operation: Operation) -> bool:
    return operation.operation_id in _LAST


@pytest.mark.timeout(60)
def test_the_curl_examples_of_the_reference_work(quick_stack: Stack, tmp_path: Path) -> None:
    """Copied as they are, with only the variables set. A call without a state to act on gets its documented failure."""
    alice = quick_stack.client().sign_in("alice")
    model = quick_stack.kept_model(alice)
    (tmp_path / "model.onnx").write_bytes(b"a model")
    session = {
        "SESSION": alice.cookies[SESSION_COOKIE],
        "JOB_ID": model["source_job_id"],
        "MODEL_ID": model["id"],
        "UPLOAD_ID": "upload-that-has-ended",
        "PATH": os.environ["PATH"],
    }
    for operation in sorted(OPERATIONS, key=last):
        command = curl_command(operation, quick_stack.url, SESSION_COOKIE)
        if command is None:
            continue
        run = subprocess.run(
            ["sh", "-c", f"{command} -sS -w '\\n%{{http_code}}'"],
            cwd=tmp_path,
            env=session,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert run.returncode == 0, f"{command}\n{run.stderr}"
        status = int(run.stdout.rpartition("\n")[2])
        followed = {200} if "-L" in command else set()
        assert status in {*operation.responses, *_DOCUMENTED.get(operation.operation_id, ()), *followed}, (
            f"{command}\n{run.stdout}"
        )
    assert (tmp_path / "model.nef").read_bytes() == expected_bytes(b"a model")
