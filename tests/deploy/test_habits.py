"""The commands that keep the project in order: they are listed, agree with each other, and do not pretend."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.processes import ROOT

BIN = Path(sys.executable).parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*arguments: str) -> str:
    run = subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


# make


def test_help_lists_every_target_in_a_group() -> None:
    targets = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)

    groups = re.split(r"\n\n", make("--no-print-directory").strip())
    listed = re.findall(r"^  make (\S+) +\S", "\n".join(groups), re.MULTILINE)

    assert sorted(listed) == sorted(targets)
    assert len(groups) == MAKEFILE.count("\n##@ ") >= 3
    assert all(not group.strip().startswith("make ") for group in groups), "a group lacks its heading"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/deployment.md", "docs/reliability.md"])
def test_targets_that_a_page_names_exist(page: str) -> None:
    targets = set(re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, re.MULTILINE))
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z][a-z-]*)", text)) | set(
        re.findall(r"^make ([a-z][a-z-]*)", text, re.MULTILINE)
    )

    assert named <= targets


def test_every_shell_script_is_checked() -> None:
    places = [*(ROOT / "scripts").iterdir(), *(ROOT / ".ci").iterdir()]
    shells = {
        str(path.relative_to(ROOT))
        for path in places
        if path.is_file() and re.match(rb"#!/bin/(ba)?sh\n", path.read_bytes())
    }
    [checked] = re.findall(r"^SHELL_SCRIPTS := (.+)$", MAKEFILE, re.MULTILINE)

    assert set(checked.split()) == shells


def test_bill_of_materials_names_every_pin(tmp_path: Path) -> None:
    """What `make sbom` runs gives each pinned package once, with its version and hashes."""
    [recipe] = re.findall(r"^\t\$\(BIN\)/cyclonedx-py (.+)$", make_recipe("sbom"), re.MULTILINE)
    target = tmp_path / "sbom.json"
    command = [BIN / "cyclonedx-py", *recipe.replace("var/sbom.json", str(target)).split()]

    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=150, check=True)

    components = json.loads(target.read_text("utf-8"))["components"]
    assert {(c["name"].lower(), c["version"]) for c in components} == set(pins("requirements.txt").items())


def make_recipe(target: str) -> str:
    [recipe] = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return str(recipe)


# Pins


def pins(file: str) -> dict[str, str]:
    """Names and versions of a compiled file; AssertionError where a pin has no hash."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = {}
    for name, version, rest in re.findall(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=.*\n?)*)", text, re.MULTILINE):
        assert "--hash=sha256:" in rest, name
        found[name.lower()] = version
    assert len(found) == len(re.findall(r"^[\w.-]+(?:\[\S+\])?==", text, re.MULTILINE)), "a pin has no hash"
    return found


@pytest.mark.parametrize("name", ["requirements", "requirements-dev", "requirements-s3"])
def test_everything_that_is_asked_for_is_pinned(name: str) -> None:
    wanted = (ROOT / f"{name}.in").read_text(encoding="utf-8")
    names = {match.lower() for match in re.findall(r"^(\w[\w.-]*)", wanted, re.MULTILINE)}

    assert names <= set(pins(f"{name}.txt"))


def test_pins_agree_with_each_other() -> None:
    """What is tested is what runs: the three files never name two versions of one package."""
    runtime, development, s3 = (pins(f"requirements{kind}.txt") for kind in ("", "-dev", "-s3"))

    assert runtime.items() <= development.items()
    assert {name: s3[name] for name in s3.keys() & runtime.keys()}.items() <= runtime.items()


# Hooks


def test_hooks_fetch_nothing_and_check_what_lint_checks() -> None:
    """Each is a command of this machine that `make lint` runs, too."""
    hooks = [h for repo in _hook_repositories() for h in repo["hooks"]]
    programs = {re.sub(r"^\.venv/bin/", "", hook["entry"].split()[0]) for hook in hooks}
    linted = set(re.findall(r"^\t(?:\$\(BIN\)/)?([a-z][\w-]*)", make_recipe("lint"), re.MULTILINE))

    assert {hook["language"] for hook in hooks} == {"system"}
    assert programs - {"git"} == linted


def _hook_repositories() -> list[dict[str, list[dict[str, str]]]]:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {repository["repo"] for repository in repositories} == {"local"}
    return list(repositories)


# The audit


ADVISORY = '{"dependencies": [{"name": "x", "version": "1", "vulns": [{"id": "PYSEC-1"}]}]}'
NOTHING = '{"dependencies": [{"name": "x", "version": "1", "vulns": []}]}'
SKIPPED = '{"dependencies": [{"name": "x", "skip_reason": "not found"}, {"name": "y", "version": "1", "vulns": []}]}'
UNREACHABLE = ""


def audit(folder: Path, *, control: str, pins: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/audit with a pip-audit that reports this of the control question, and that of the pins."""
    (folder / "control-report").write_text(control)
    (folder / "pins-report").write_text(pins)
    program = folder / "pip-audit"
    program.write_text(
        f"""#!/bin/sh
        report= file={folder}/pins-report
        for word in "$@"; do
            [ "$last" = --output ] && report=$word
            case $last$word in --requirement*/control) file={folder}/control-report ;; esac
            last=$word
        done
        [ -s "$file" ] || {{ echo "ERROR: could not connect" >&2; exit 1; }}
        cp "$file" "${{report:-/dev/stdout}}"
        """
    )
    program.chmod(0o755)
    return subprocess.run(
        [ROOT / "scripts" / "audit", "requirements.txt"],
        env={"PATH": "/usr/bin:/bin", "AUDIT": str(program), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    "control", [UNREACHABLE, SKIPPED, NOTHING], ids=["unreachable", "mirror", "without advisories"]
)
def test_audit_asks_nobody_who_knows_nothing(tmp_path: Path, control: str) -> None:
    """A service without advisories, such as a mirror of PyPI, finds nothing against anything: that is no audit."""
    run = audit(tmp_path, control=control, pins=NOTHING)

    assert run.returncode == 2
    assert "The advisory service cannot be asked" in run.stdout
    assert "requirements.txt: NOT AUDITED" in run.stdout
    assert "nothing is known against its pins" not in run.stdout


@pytest.mark.parametrize(
    ("pins", "sentence"),
    [(UNREACHABLE, "ERROR: could not connect"), (SKIPPED, "the service does not know 1 of its pins")],
    ids=["unreachable", "skipped"],
)
def test_audit_with_gaps_is_none(tmp_path: Path, pins: str, sentence: str) -> None:
    run = audit(tmp_path, control=ADVISORY, pins=pins)

    assert (run.returncode, run.stdout) == (2, f"requirements.txt: NOT AUDITED, {sentence}\n")


def test_audit_that_finds_something_fails_and_shows_it(tmp_path: Path) -> None:
    run = audit(tmp_path, control=ADVISORY, pins=ADVISORY)

    assert run.returncode == 1
    assert "requirements.txt: there are advisories:" in run.stdout
    assert "PYSEC-1" in run.stdout


def test_audit_that_finds_nothing_says_of_what(tmp_path: Path) -> None:
    run = audit(tmp_path, control=ADVISORY, pins=NOTHING)

    assert (run.returncode, run.stdout) == (0, "requirements.txt: nothing is known against its pins\n")
