"""What the tests of the deployment read: the files that are installed, and the settings that they may name."""

import ast
import re

import pytest

from app.config import PREFIX, Settings
from tests.support.processes import ROOT


@pytest.fixture(scope="session")
def known_settings() -> set[str]:
    """Every environment variable that the gateway reads."""
    return {PREFIX + name.upper() for name in Settings.model_fields}


@pytest.fixture(scope="session")
def gunicorn_definitions() -> dict[str, ast.stmt]:
    """What gunicorn.conf.py defines at its top level, by name, and where."""
    found: dict[str, ast.stmt] = {}
    for statement in ast.parse((ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.FunctionDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            found |= {target.id: statement for target in statement.targets if isinstance(target, ast.Name)}
    return found


@pytest.fixture(scope="session")
def graceful_seconds(gunicorn_definitions: dict[str, ast.stmt]) -> int:
    """Return how long running uploads may continue after SIGTERM by default, in seconds."""
    assert ast.unparse(gunicorn_definitions["graceful_timeout"]) == "graceful_timeout = _settings.grace_seconds"
    return int(Settings.model_fields["grace_seconds"].default)


@pytest.fixture(scope="session")
def gateway_port() -> int:
    """The port at which deploy/nginx-host.conf looks for the gateway."""
    text = (ROOT / "deploy" / "nginx-host.conf").read_text(encoding="utf-8")
    [port] = set(re.findall(r"^\s*server 127\.0\.0\.1:(\d+) ", text, re.MULTILINE))
    return int(port)
