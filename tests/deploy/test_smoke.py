"""`make smoke`: against a gateway behind nginx, with everything working and with parts broken."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from tests.support.processes import ROOT, dead_url
from tests.support.sandbox_processes import CONVERTER, MEMBER_CENTER
from tests.support.stack import Stack

SCRIPT = ROOT / "scripts" / "smoke"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start a gateway behind nginx with TLS, whose jobs end by themselves."""
    with Stack(tmp_path_factory.mktemp("deployed"), nginx={"tls": True}, job_seconds=2) as made:
        yield made


@pytest.fixture
def stack(deployed: Stack) -> Stack:
    deployed.reset()
    return deployed


def smoke(stack: Stack, cookie: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as an operator would, with only these variables in its environment."""
    assert stack.nginx is not None
    values = {
        "PATH": "/usr/bin:/bin",
        "TMPDIR": str(stack.directory / "tmp"),
        "BASE": stack.url,
        "COOKIE": cookie,
        "CURL_CA_BUNDLE": str(stack.nginx.certificate),
        **environment,
    }
    run = subprocess.run(
        [SCRIPT], env=values, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False
    )
    shown = run.stdout + run.stderr
    for secret in {cookie.partition("=")[2], *stack.sandbox.issued_secrets()} - {""}:
        assert secret not in shown, "the script has shown a secret"
    assert not list((stack.directory / "tmp").glob("tmp.*")), "the script has left its files"
    return run


def failed_step(run: subprocess.CompletedProcess[str]) -> str:
    """Return the failed step and its reason; AssertionError unless exactly one failed."""
    found = re.findall(r"^FAILED at step \d+, (.*)$", run.stderr, re.MULTILINE)
    assert run.returncode == 1, run.stdout + run.stderr
    assert len(found) == 1, run.stdout + run.stderr
    return str(found[0])


def walked_steps(run: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"^ok +\d+  ([^:\n]+)", run.stdout, re.MULTILINE)


def alice(stack: Stack) -> str:
    return stack.signed_in("alice").cookie_header


# Success


def test_all_steps_pass_and_the_library_is_unchanged(stack: Stack) -> None:
    run = smoke(stack, alice(stack))

    assert run.returncode == 0, run.stdout + run.stderr
    assert walked_steps(run) == re.findall(r"^step '([^']+)'$", _without_disabled(), re.MULTILINE)
    assert stack.signed_in("alice").get("/api/models").json()["models"] == []


def _without_disabled() -> str:
    return re.sub(r"^if \[ \"\$conversion\" = 501 \].*?^fi$", "", SCRIPT.read_text("utf-8"), flags=re.M | re.S)


def test_without_a_cookie_the_steps_without_session_pass(stack: Stack) -> None:
    run = smoke(stack)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "the other steps were not checked" in run.stdout
    assert "session" not in walked_steps(run)
    assert stack.sandbox.uploads() == []


def test_gateway_can_be_checked_at_its_own_port(stack: Stack) -> None:
    """PUBLIC_HOST sends the public name to a gateway that is reached by another address."""
    public_host = stack.url.removeprefix("https://")

    run = smoke(stack, alice(stack), BASE=stack.direct_url, PUBLIC_HOST=public_host)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "not checked, because there is no nginx in front" in run.stdout


def test_built_in_model_is_a_valid_graph(stack: Stack) -> None:
    script = SCRIPT.read_text("utf-8")
    [lines] = re.findall(r"^    \{\n((?: +printf '[^']+'\n)+)    \} >", script, re.MULTILINE)
    model = subprocess.run(["sh", "-c", lines], capture_output=True, check=True).stdout

    onnx.checker.check_model(onnx.load_from_string(model))


# Failures


def test_gateway_that_is_down_fails_at_the_first_step(stack: Stack) -> None:
    """The message names nginx, which responds instead."""
    cookie = alice(stack)
    stack.stop_gateway()

    run = smoke(stack, cookie)

    assert re.fullmatch(r"health: expected 200, got 502 gateway_unavailable \(request [0-9a-f]{32}\)", failed_step(run))


def test_a_refused_connection_shows_curls_error(stack: Stack) -> None:
    """Without a response there is no status to report."""
    run = smoke(stack, BASE=dead_url())

    assert failed_step(run).startswith("health: no response to GET /healthz (curl: (7)")


def test_invalid_cookie_fails_at_the_session(stack: Stack) -> None:
    """The steps without session pass. The message has the code and the request id."""
    run = smoke(stack, alice(stack)[:-12] + "x" * 12)

    assert re.fullmatch(r"session: expected 200, got 401 unauthenticated \(request [0-9a-f]{32}\)", failed_step(run))


def test_missing_storage_fails_at_readiness(stack: Stack) -> None:
    """At the gateway's own port the message shows the failed check."""
    public_host = stack.url.removeprefix("https://")
    moved = stack.storage_path.rename(stack.directory / "moved")
    try:
        stack.storage_path.write_text("no folder")
        stack.outlast_readiness()
        run = smoke(stack, BASE=stack.direct_url, PUBLIC_HOST=public_host)
    finally:
        stack.storage_path.unlink()
        moved.rename(stack.storage_path)
        stack.outlast_readiness()

    assert failed_step(run).startswith("readiness: not ready: ")
    assert '"storage":"storage_unavailable"' in run.stderr


def test_failing_converter_fails_at_the_upload(stack: Stack) -> None:
    stack.sandbox.fault(CONVERTER, call="create_job", status=500)

    run = smoke(stack, alice(stack))

    assert failed_step(run).startswith("upload: expected 201, got 502 upload_outcome_unknown (request ")


def test_failed_conversion_shows_its_error(stack: Stack, tmp_path: Path) -> None:
    """MODEL is uploaded under its own name, and the message shows the job's error."""
    model = tmp_path / "fail.onnx"
    model.write_bytes(b"a model that the converter does not like")

    run = smoke(stack, alice(stack), MODEL=str(model))

    assert re.match(r"conversion: the job \S+ has ended as failed: [a-z_]+ \(request ", failed_step(run))
    assert stack.sandbox.last_upload()["parts"][-1]["filename"] == "fail.onnx"


def test_conversion_without_end_is_given_up(stack: Stack) -> None:
    run = smoke(stack, alice(stack), POLL_SECONDS="0")

    assert re.match(r"conversion: still not complete after 0 s: (queued|running) \(request ", failed_step(run))


def test_refused_download_token_fails_at_the_download(stack: Stack) -> None:
    stack.sandbox.fault(MEMBER_CENTER, call="download_tokens", status=400)

    run = smoke(stack, alice(stack))

    assert failed_step(run).startswith("download: expected 302, got 502 download_token_failed (request ")


def curl_in_the_way(folder: Path, command: str) -> str:
    """Return a PATH where curl first runs `command`, then curl."""
    folder.mkdir()
    shim = folder / "curl"
    shim.write_text(f'#!/bin/sh\n{command}\nexec /usr/bin/curl "$@"\n')
    shim.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_model_is_removed_even_if_a_later_step_fails(stack: Stack, tmp_path: Path) -> None:
    path = curl_in_the_way(tmp_path / "bin", 'case "$*" in *"--request PATCH "*) exit 52 ;; esac')

    run = smoke(stack, alice(stack), PATH=path)

    assert failed_step(run).startswith("rename: no response to PATCH /api/models/")
    assert stack.signed_in("alice").get("/api/models").json()["models"] == []


def test_no_secret_is_on_a_command_line(stack: Stack, tmp_path: Path) -> None:
    """Every user of a machine can read all command lines."""
    seen, cookie = tmp_path / "seen", alice(stack)
    path = curl_in_the_way(tmp_path / "bin", f'printf "%s\\n" "$*" >>"{seen}"')

    run = smoke(stack, cookie, PATH=path)

    assert run.returncode == 0, run.stdout + run.stderr
    lines = seen.read_text("utf-8")
    assert lines.count("--request") > 20
    for secret in [cookie.partition("=")[2], *stack.sandbox.issued_secrets()]:
        assert secret not in lines
    assert "access_token" not in lines


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"BASE": "visiona.example.com"}, "BASE must be an http or https address"),
        ({"BASE": "https://user:password@visiona.example.com"}, "BASE must not contain credentials"),
        ({"COOKIE": "a-value-alone"}, "COOKIE must be name=value"),
        ({"POLL_SECONDS": "soon"}, "POLL_SECONDS must be a number"),
        ({"MODEL": "/no/such/file"}, "MODEL must be a file"),
        ({"PATH": "/nowhere"}, "curl is needed"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_invalid_arguments_are_reported_before_the_first_step(environment: dict[str, str], sentence: str) -> None:
    run = subprocess.run(
        ["/bin/sh", SCRIPT],
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (run.returncode, run.stdout) == (2, "")
    assert sentence in run.stderr
    assert "password" not in run.stderr


def test_make_passes_its_variables_to_the_script() -> None:
    command = ["make", "--no-print-directory", "smoke", "BASE=http://localhost:1", "COOKIE=a-value-alone"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)

    assert run.returncode != 0
    assert "COOKIE must be name=value" in run.stderr
    assert "a-value-alone" not in run.stdout + run.stderr
