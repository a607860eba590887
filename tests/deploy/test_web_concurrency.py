"""WEB_CONCURRENCY, which gunicorn reads when it is imported, before our configuration."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

#: Run gunicorn in an environment into whose packages the first argument's files were installed.
GUNICORN = "import site, sys; site.addsitedir(sys.argv.pop(1)); from gunicorn.app.wsgiapp import run; run()"


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    shutil.copy(ROOT / "deploy" / "web_concurrency.pth", folder)
    return folder


def check_configuration(site_packages: Path, value: str | None) -> subprocess.CompletedProcess[str]:
    """Let gunicorn check its configuration and print the number of workers."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "VISIONA_OIDC_ISSUER": "https://mc.example.com",
        "VISIONA_OIDC_CLIENT_ID": "gateway",
        "VISIONA_OIDC_CLIENT_SECRET": "secret",
        "VISIONA_PUBLIC_BASE_URL": "https://visiona.example.com",
        "VISIONA_SECRET_KEY": "k" * 40,
        "VISIONA_DATABASE_URL": f"sqlite:///{site_packages.parent}/visiona.db",
        "VISIONA_STORAGE_URL": f"file://{site_packages.parent}/models",
    }
    return subprocess.run(
        [sys.executable, "-c", GUNICORN, str(site_packages), "-c", "gunicorn.conf.py", "--print-config", "wsgi:app"],
        cwd=ROOT,
        env=environment if value is None else environment | {"WEB_CONCURRENCY": value},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize(("value", "workers"), [(None, 2), ("", 2), ("3", 3)])
def test_a_number_sets_the_workers_and_an_empty_value_counts_as_unset(
    site_packages: Path, value: str | None, workers: int
) -> None:
    run = check_configuration(site_packages, value)
    assert run.returncode == 0, run.stderr
    assert ["workers", "=", str(workers)] in [line.split() for line in run.stdout.splitlines()]


@pytest.mark.parametrize("value", ["0", "-1", "auto", "2.0", "²"])
def test_an_invalid_number_of_workers_is_refused_with_one_sentence(site_packages: Path, value: str) -> None:
    run = check_configuration(site_packages, value)
    assert run.returncode == 1
    assert run.stderr == "WEB_CONCURRENCY must be a whole number of workers, at least 1.\n"


@pytest.mark.parametrize("installer", ["scripts/make-venv", "deploy/Dockerfile"])
def test_every_installed_environment_has_the_file(installer: str) -> None:
    assert "web_concurrency.pth" in (ROOT / installer).read_text(encoding="utf-8")
