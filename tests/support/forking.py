"""Python programs that start as forks of a server process, which has imported their libraries already.

A gateway and its sandbox import the same libraries in six processes. A fork has them at once, which saves seconds of
CPU time for each stack. The server (multiprocessing's) holds no module of `app` or `sandbox`, and no prometheus_client,
which looks at its environment when it is imported: those are imported by each program for itself.
"""

import atexit
import ctypes
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryDirectory

_LIBRARIES = [
    "alembic.command",
    "authlib.integrations.flask_client",
    "cachetools",
    "flask_oidc",
    "gunicorn.app.wsgiapp",
    "gunicorn.workers.gthread",
    "joserfc.jwt",
    "multipart",
    "psycopg",
    "pydantic",
    "requests_toolbelt",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "structlog",
    "tenacity",
]
_PR_SET_PDEATHSIG = 1
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(_LIBRARIES)


class ForkedProgram:
    """A running `python -m MODULE ARGUMENTS`, with the methods of subprocess.Popen that `Child` uses.

    It has a session of its own. What it writes goes to the end of `log_path`, and its errors to `errors_path` if given.
    """

    def __init__(
        self,
        command: Sequence[str],
        log_path: Path,
        *,
        directory: Path,
        environment: Mapping[str, str],
        limits: Mapping[str, int],
        orphan_signal: str,
        errors_path: Path | None = None,
    ) -> None:
        """Start the module that `command` begins with. `orphan_signal` is sent to it when this process dies."""
        number = signal.Signals[f"SIG{orphan_signal}"]
        outputs = (str(log_path), str(errors_path or log_path))
        arguments = (list(command), outputs, str(directory), dict(environment), dict(limits), number)
        # A daemon: whatever a test leaves running ends with this process.
        self._process = _server.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired(self._process.name, timeout or 0.0)
        return self._process.exitcode


def run_module(command: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> CompletedProcess[str]:
    """Run `python -m COMMAND` to its end, as subprocess.run does. Raises TimeoutExpired after a minute."""
    with TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        program = ForkedProgram(
            command,
            output,
            directory=directory,
            environment=environment,
            limits={},
            orphan_signal="KILL",
            errors_path=errors,
        )
        returncode = program.wait(60)
        return CompletedProcess(command, returncode, output.read_text("utf-8"), errors.read_text("utf-8"))


def _run(
    command: list[str],
    outputs: tuple[str, str],
    directory: str,
    environment: dict[str, str],
    limits: dict[str, int],
    orphan_signal: int,
) -> None:
    """In the fork: be as a process that `subprocess.Popen` has started, and then the program."""
    os.setsid()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # The server dies with the test process, and the signal comes when the server dies.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, orphan_signal)
    for descriptor, path in enumerate(outputs, start=1):
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(log, descriptor)
        os.close(log)
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    sys.argv = list(command)
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        # The server's forks skip these; coverage writes what it has measured in one.
        atexit._run_exitfuncs()
