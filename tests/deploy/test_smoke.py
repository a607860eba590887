"""`make smoke`: the walk through a deployed gateway, in front of a real one behind nginx, and with things broken."""

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
    """A gateway behind nginx with TLS, whose jobs end by themselves."""
    with Stack(tmp_path_factory.mktemp("deployed"), nginx={"tls": True}, job_seconds=2) as made:
        yield made


@pytest.fixture
def stack(deployed: Stack) -> Stack:
    deployed.reset()
    return deployed


def smoke(stack: Stack, cookie: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as an operator would: nothing in its environment but what it is told."""
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
    """The step that failed and why, without its number; AssertionError unless exactly one did."""
    found = re.findall(r"^FAILED at step \d+, (.*)$", run.stderr, re.MULTILINE)
    assert run.returncode == 1, run.stdout + run.stderr
    assert len(found) == 1, run.stdout + run.stderr
    return str(found[0])


def walked_steps(run: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"^ok +\d+  ([^:\n]+)", run.stdout, re.MULTILINE)


def alice(stack: Stack) -> str:
    return stack.signed_in("alice").cookie_header


# What goes well


def test_walk_ends_well_and_leaves_nothing_in_the_library(stack: Stack) -> None:
    """Every step is walked, and afterwards the user's library is as it was."""
    run = smoke(stack, alice(stack))

    assert run.returncode == 0, run.stdout + run.stderr
    assert walked_steps(run) == re.findall(r"^step '([^']+)'$", _without_disabled(), re.MULTILINE)
    assert stack.signed_in("alice").get("/api/models").json()["models"] == []


def _without_disabled() -> str:
    return re.sub(r"^if \[ \"\$conversion\" = 501 \].*?^fi$", "", SCRIPT.read_text("utf-8"), flags=re.M | re.S)


def test_without_a_cookie_the_open_half_is_walked_and_the_rest_named(stack: Stack) -> None:
    """Nobody takes half a walk for a whole one."""
    run = smoke(stack)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "what needs a session was not looked at" in run.stdout
    assert "session" not in walked_steps(run)
    assert stack.sandbox.uploads() == []


def test_gateway_is_asked_past_its_public_address(stack: Stack) -> None:
    """PUBLIC_HOST lets it be tried on its own port, where it only answers to its public name."""
    public_host = stack.url.removeprefix("https://")

    run = smoke(stack, alice(stack), BASE=stack.direct_url, PUBLIC_HOST=public_host)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "not looked at, because no nginx is in front" in run.stdout


def test_built_in_model_is_a_valid_graph(stack: Stack) -> None:
    """A converter that looks at what it gets has something to look at."""
    script = SCRIPT.read_text("utf-8")
    [lines] = re.findall(r"^    \{\n((?: +printf '[^']+'\n)+)    \} >", script, re.MULTILINE)
    model = subprocess.run(["sh", "-c", lines], capture_output=True, check=True).stdout

    onnx.checker.check_model(onnx.load_from_string(model))


# What fails


def test_gateway_that_is_down_fails_at_the_first_step(stack: Stack) -> None:
    """nginx answers in its place, and is named."""
    cookie = alice(stack)
    stack.stop_gateway()

    run = smoke(stack, cookie)

    assert re.fullmatch(r"health: expected 200, got 502 gateway_unavailable \(request [0-9a-f]{32}\)", failed_step(run))


def test_nobody_listening_is_told_in_curls_words(stack: Stack) -> None:
    """Where nothing answers at all, there is no status to report."""
    run = smoke(stack, BASE=dead_url())

    assert failed_step(run).startswith("health: no answer to GET /healthz (curl: (7)")


def test_cookie_of_no_session_fails_at_the_session(stack: Stack) -> None:
    """The open half went well; the code says what is wrong, and the request id where to look."""
    run = smoke(stack, alice(stack)[:-12] + "x" * 12)

    assert re.fullmatch(r"session: expected 200, got 401 unauthenticated \(request [0-9a-f]{32}\)", failed_step(run))


def test_storage_that_is_gone_fails_at_readiness(stack: Stack) -> None:
    """The script, run at the gateway's own port, shows what the gateway says of itself."""
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


def test_converter_that_fails_is_found_at_the_upload(stack: Stack) -> None:
    """A failure of a neighbour has its own code."""
    stack.sandbox.fault(CONVERTER, call="create_job", status=500)

    run = smoke(stack, alice(stack))

    assert failed_step(run).startswith("upload: expected 201, got 502 upload_outcome_unknown (request ")


def test_conversion_that_fails_says_why(stack: Stack, tmp_path: Path) -> None:
    """A model of one's own goes under its own name, and the job's error is shown."""
    model = tmp_path / "fail.onnx"
    model.write_bytes(b"a model that the converter does not like")

    run = smoke(stack, alice(stack), MODEL=str(model))

    assert re.match(r"conversion: the job \S+ has ended as failed: [a-z_]+ \(request ", failed_step(run))
    assert stack.sandbox.last_upload()["parts"][-1]["filename"] == "fail.onnx"


def test_conversion_that_does_not_end_is_given_up(stack: Stack) -> None:
    """The walk is bounded, whatever the converter does."""
    run = smoke(stack, alice(stack), POLL_SECONDS="0")

    assert re.match(r"conversion: not ended within 0 s: (queued|running) \(request ", failed_step(run))


def test_download_tokens_that_are_refused_are_found_at_the_download(stack: Stack) -> None:
    """Everything before it has gone well."""
    stack.sandbox.fault(MEMBER_CENTER, call="download_tokens", status=400)

    run = smoke(stack, alice(stack))

    assert failed_step(run).startswith("download: expected 302, got 502 download_token_failed (request ")


def curl_in_the_way(folder: Path, command: str) -> str:
    """A PATH on which curl is `command` first and itself afterwards."""
    folder.mkdir()
    shim = folder / "curl"
    shim.write_text(f'#!/bin/sh\n{command}\nexec /usr/bin/curl "$@"\n')
    shim.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_model_is_removed_although_a_later_step_has_failed(stack: Stack, tmp_path: Path) -> None:
    """However it ends, the library is left as it was."""
    path = curl_in_the_way(tmp_path / "bin", 'case "$*" in *"--request PATCH "*) exit 52 ;; esac')

    run = smoke(stack, alice(stack), PATH=path)

    assert failed_step(run).startswith("rename: no answer to PATCH /api/models/")
    assert stack.signed_in("alice").get("/api/models").json()["models"] == []


def test_no_secret_is_on_a_command_line(stack: Stack, tmp_path: Path) -> None:
    """Everybody on a machine can read everybody's command lines."""
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
        ({"BASE": "https://user:password@visiona.example.com"}, "BASE must not hold credentials"),
        ({"COOKIE": "a-value-alone"}, "COOKIE must be name=value"),
        ({"POLL_SECONDS": "soon"}, "POLL_SECONDS must be a number"),
        ({"MODEL": "/no/such/file"}, "MODEL must be a file"),
        ({"PATH": "/nowhere"}, "curl is needed"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_it_says_what_it_needs_before_it_begins(environment: dict[str, str], sentence: str) -> None:
    """No step is walked with what cannot work."""
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


def test_make_hands_on_what_it_is_told() -> None:
    """`make smoke BASE=… COOKIE=…` reaches the script, by the environment."""
    command = ["make", "--no-print-directory", "smoke", "BASE=http://localhost:1", "COOKIE=a-value-alone"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)

    assert run.returncode != 0
    assert "COOKIE must be name=value" in run.stderr
    assert "a-value-alone" not in run.stdout + run.stderr
