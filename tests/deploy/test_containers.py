"""The images and the compose file: linted, confined, and consistent with the other files. Nothing is built here."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import Settings
from tests.support.processes import ROOT, free_port
from tests.support.stack import Stack

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
COMPOSE = ROOT / "deploy" / "compose.yaml"
BIN = Path(sys.executable).parent


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    stage = ""
    for line in filter(str.strip, text.splitlines()):
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            stage = rest.split(" AS ")[1]
        found.setdefault(stage, []).append((instruction, " ".join(rest.split())))
    return found


def instructions(stage: str, name: str) -> list[str]:
    return [rest for instruction, rest in stages()[stage] if instruction == name]


def copied(stage: str) -> list[tuple[list[str], str]]:
    """Return what a stage copies from the repository, and where to."""
    words = [rest.split() for rest in instructions(stage, "COPY") if "--from=" not in rest]
    return [(line[:-1], line[-1]) for line in words]


def services() -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(COMPOSE.read_text("utf-8"))["services"])


# The Dockerfile


def test_hadolint_finds_nothing() -> None:
    verdict = subprocess.run([BIN / "hadolint", DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)

    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_copied_files_exist_and_are_not_ignored() -> None:
    """.dockerignore allows what the Dockerfile copies, and nothing else."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_through = {line[1:] for line in lines if line.startswith("!")}
    wanted = {source for stage in ("build", "edge") for sources, _ in copied(stage) for source in sources}

    assert "*" in lines
    assert wanted == let_through
    assert all((ROOT / source).exists() for source in wanted)


@pytest.mark.timeout(60)
def test_gateway_starts_from_the_copied_files(tmp_path: Path) -> None:
    for sources, place in copied("build"):
        for path in (ROOT / source for source in sources):
            # Like COPY: of a folder, copy the contents.
            shutil.copytree(path, tmp_path / place) if path.is_dir() else shutil.copy(path, tmp_path / place)
    environment = {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "VISIONA_OIDC_ISSUER": "https://mc.example.com",
        "VISIONA_OIDC_CLIENT_ID": "gateway",
        "VISIONA_OIDC_CLIENT_SECRET": "secret",
        "VISIONA_PUBLIC_BASE_URL": "https://visiona.example.com",
        "VISIONA_SECRET_KEY": "k" * 40,
        "VISIONA_DATABASE_URL": f"sqlite:///{tmp_path}/visiona.db",
        "VISIONA_STORAGE_URL": f"file://{tmp_path}/models",
    }
    [command] = instructions("gateway", "CMD")
    run = subprocess.run(
        [*json.loads(command), "--check-config"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr


def test_default_stage_is_the_gateway() -> None:
    assert list(stages())[-1] == "gateway"


def test_image_runs_as_an_account_without_rights(known_settings: set[str]) -> None:
    """The account is a number, and owns the volume with the data."""
    [user] = instructions("gateway", "USER")
    [volume] = instructions("gateway", "VOLUME")
    named = dict(re.findall(r"(VISIONA_\w+)=(\S+)", " ".join(instructions("gateway", "ENV"))))

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    owner, _, group = user.partition(":")
    assert f"install -d -m 0700 -o {owner} -g {group} {volume}" in instructions("gateway", "RUN")
    assert all("--chown" not in rest for rest in instructions("gateway", "COPY")), "the code is to be root's"
    assert set(named) <= known_settings
    assert all(f"//{volume}/" in where for where in named.values()), named


def test_ports_agree(gateway_port: int) -> None:
    """It listens on the port of its health check, of nginx and of EXPOSE."""
    [command], [check] = instructions("gateway", "CMD"), instructions("gateway", "HEALTHCHECK")

    assert instructions("gateway", "EXPOSE") == [str(gateway_port)]
    assert f"0.0.0.0:{gateway_port}" in json.loads(command)
    assert f"http://127.0.0.1:{gateway_port}/healthz" in check


@pytest.mark.timeout(90)
def test_health_check_succeeds_only_while_the_gateway_responds(tmp_path: Path, gateway_port: int) -> None:
    [check] = instructions("gateway", "HEALTHCHECK")
    _, option, code = json.loads(check.partition(" CMD ")[2])

    def healthy(port: int) -> bool:
        command = [sys.executable, option, code.replace(f":{gateway_port}/", f":{port}/")]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    with Stack(tmp_path, workers=1) as stack:
        assert healthy(stack.port)
    assert not healthy(free_port())


# The compose file


@pytest.mark.parametrize("name", services())
def test_services_are_read_only_and_without_privileges(name: str) -> None:
    """Only the named folders are writable, there are no new privileges, and logs are limited."""
    service = services()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service
    assert service.get("cap_add", []) == [] or name == "postgres"


@pytest.mark.parametrize("name", ["gateway", "nginx"])
def test_services_are_stages_of_the_dockerfile_and_can_complete_uploads(name: str, graceful_seconds: int) -> None:
    """The names agree, and Docker kills no service before graceful_timeout has passed."""
    service = services()[name]
    context = (COMPOSE.parent / service["build"]["context"]).resolve()

    assert context == ROOT
    assert context / service["build"]["dockerfile"] == DOCKERFILE
    assert service["build"]["target"] in stages()
    assert int(service["stop_grace_period"].removesuffix("s")) >= graceful_seconds + 10


def test_limit_of_processes_allows_all_threads_of_old_and_new_workers() -> None:
    """Docker counts threads, and requests wait if a worker cannot start one."""
    threads, workers = Settings.model_fields["worker_threads"].default, 2

    assert services()["gateway"]["pids_limit"] >= 2 * workers * (threads + 20)


def test_data_is_in_the_volume_of_the_image() -> None:
    [volume] = instructions("gateway", "VOLUME")

    assert services()["gateway"]["volumes"] == [f"state:{volume}"]


def test_nginx_finds_the_files_and_addresses_of_its_configuration() -> None:
    """Certificates are mounted where deploy/nginx.conf expects them, and the gateway has its usual address."""
    nginx = services()["nginx"]
    text = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
    folders = {path.rpartition("/")[0] for path in re.findall(r"ssl_certificate(?:_key)? (\S+);", text)}

    assert [mount.split(":")[1] for mount in nginx["volumes"]] == sorted(folders)
    assert nginx["network_mode"] == "service:gateway"
    assert sorted(services()["gateway"]["ports"]) == ["443:443", "80:80"]
    [log] = set(re.findall(r"access_log (\S+) ", text))
    assert log in instructions("edge", "RUN")[0]
    [pages] = set(re.findall(r"root (\S+);", text))
    assert f"deploy/pages {pages}" in instructions("edge", "COPY")


def test_git_ignores_the_files_with_secrets() -> None:
    document = yaml.safe_load(COMPOSE.read_text("utf-8"))
    files = [document["services"]["gateway"]["env_file"], "tls/visiona.key"]
    files += [secret["file"] for secret in document["secrets"].values()]
    for file in files:
        path = Path("deploy") / file
        ignored = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False).returncode == 0
        assert ignored, f"{path} could be committed"
