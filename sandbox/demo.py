"""`python -m sandbox.demo` (`make run`): the gateway and its sandbox on one machine, until Ctrl-C.

Both are child processes, started as an operator would start them. The demo starts nothing unless all four ports are
free, and leaves nothing running, whatever ends it. It is not a process manager: when one child dies, it stops the other
and says why.
"""

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.data_directory import create_once
from sandbox.settings import ACCOUNTS, SERVICES, Address, Settings, URLs

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
SHOWN_LOG_LINES: Final = 30
_POLL_SECONDS: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Plan:
    """What to start, and where."""

    directory: Path
    gateway: Address
    sandbox: Settings
    gateway_command: tuple[str, ...]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Plan":
        """Return the default plan. `PORT` moves the gateway; raises ValueError if it is not a port."""
        gateway = Address.parse(f"localhost:{environment.get('PORT') or 8000}")
        directory = Path("var/demo").resolve()
        sandbox = Settings(data=directory / "sandbox", gateways=(gateway.url,))
        command = ("-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app", "--bind", f"127.0.0.1:{gateway.port}")
        return cls(directory, gateway, sandbox, (sys.executable, *command))

    @property
    def addresses(self) -> dict[str, Address]:
        return {"gateway": self.gateway} | {service: self.sandbox.address_of(service) for service in SERVICES}

    @property
    def urls(self) -> URLs:
        return URLs(*(self.sandbox.address_of(service).url for service in SERVICES))

    @property
    def sandbox_command(self) -> tuple[str, ...]:
        options = [f"--{service}={self.sandbox.address_of(service)}" for service in SERVICES]
        options += [f"--data={self.sandbox.data}", f"--gateway={self.gateway.url}"]
        options += [f"--job-seconds={self.sandbox.job_seconds}"]
        return (sys.executable, "-m", "sandbox", *options)

    def gateway_environment(self) -> dict[str, str]:
        secret_key = create_once(self.directory / "secret-key", lambda: secrets.token_urlsafe(48).encode())
        return self.urls.gateway_environment(self.gateway.url) | {
            "VISIONA_SECRET_KEY": secret_key.decode(),
            "VISIONA_LOG_FORMAT": "console",
            "VISIONA_DATABASE_URL": f"sqlite:///{self.directory}/visiona.db",
            "VISIONA_STORAGE_URL": f"file://{self.directory}/models",
        }


class DemoError(Exception):
    """The demo cannot go on; the text is for the terminal."""


class Child:
    """A child process with its own process group and log file."""

    def __init__(self, name: str, command: tuple[str, ...], environment: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own commands
                command,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own group: Ctrl-C reaches only the demo, which then stops its children in order.
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - this process has one thread while it starts children
            )

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def last_log_lines(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-SHOWN_LOG_LINES:])

    def ask_to_end(self) -> None:
        self._signal(signal.SIGTERM)

    def ensure_ended(self, deadline: float, impatient: threading.Event) -> None:
        """Wait until the deadline or a second signal, then kill the whole group."""
        while self.exit_code is None and time.monotonic() < deadline and not impatient.is_set():
            time.sleep(_POLL_SECONDS / 4)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        # Signal the group even if its leader has ended: the group exists as long as one member lives.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class Demo:
    """Starts the children, waits, and stops them. Signals only set events; `run` does all the work."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._over = threading.Event()
        self._impatient = threading.Event()
        self._children: list[Child] = []

    def run(self) -> int:
        """Run until a signal (return 0) or until something fails (return 1)."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._on_signal())
        try:
            ensure_ports_are_free(self._plan.addresses)
            self._start()
            if self._wait_until_ready():
                _say(instructions(self._plan))
                self._watch()
        except DemoError as error:
            _say(f"demo: {error}")
            return 1
        finally:
            self._end()
        return 0

    def _on_signal(self) -> None:
        if self._over.is_set():
            self._impatient.set()
        self._over.set()

    def _start(self) -> None:
        directory = self._plan.directory
        directory.mkdir(parents=True, exist_ok=True)
        environment = self._plan.gateway_environment()
        _say("Starting the sandbox and the gateway …")
        self._children.append(Child("sandbox", self._plan.sandbox_command, {}, directory / "sandbox.log"))
        self._children.append(Child("gateway", self._plan.gateway_command, environment, directory / "gateway.log"))

    def _wait_until_ready(self) -> bool:
        """Return whether all servers respond; False if a signal came first. Raises DemoError."""
        waiting = {"gateway": f"{self._plan.gateway.url}/readyz"}
        waiting |= {service: f"{self._plan.urls.of(service)}/" for service in SERVICES}
        deadline = time.monotonic() + START_SECONDS
        while waiting:
            waiting = {name: url for name, url in waiting.items() if not _answers(url)}
            self._ensure_children_live()
            if waiting and time.monotonic() > deadline:
                logs = "\n".join(f"  {child.name}:\n{child.last_log_lines()}" for child in self._children)
                raise DemoError(f"{', '.join(waiting)} did not respond within {START_SECONDS:.0f} seconds\n{logs}")
            if self._over.wait(_POLL_SECONDS if waiting else 0):
                return False
        return True

    def _watch(self) -> None:
        while not self._over.wait(_POLL_SECONDS):
            self._ensure_children_live()

    def _ensure_children_live(self) -> None:
        for child in self._children:
            if child.exit_code is not None and not self._over.is_set():
                raise DemoError(f"the {child.name} ended with exit code {child.exit_code}\n{child.last_log_lines()}")

    def _end(self) -> None:
        # The gateway first: its last requests need the sandbox.
        deadline = time.monotonic() + STOP_SECONDS
        for child in reversed(self._children):
            child.ask_to_end()
            child.ensure_ended(deadline, self._impatient)


def ensure_ports_are_free(addresses: Mapping[str, Address]) -> None:
    """Raise DemoError with every port that another process listens on."""
    taken = [f"port {address.port} ({name}) is taken" for name, address in addresses.items() if not _is_free(address)]
    if taken:
        raise DemoError(f"{', '.join(taken)}; nothing was started")


def instructions(plan: Plan) -> str:
    """Return the text for the terminal: addresses, accounts, and commands to try."""
    accounts = ", ".join(f"{account.username} / {account.password}" for account in ACCOUNTS)
    services = "\n".join(f"  {service:<14} {plan.urls.of(service)}" for service in SERVICES)
    return f"""
The gateway        {plan.gateway.url}
Accounts           {accounts}

Sandbox (stand-ins for the three services):
{services}
Logs: {plan.directory}/gateway.log, sandbox.log

To try it by hand:

  BASE={plan.gateway.url}
  LOGIN=$(curl -sSL -c jar -b jar -o /dev/null -w '%{{url_effective}}' "$BASE/auth/login")
  curl -sSL -c jar -b jar -o /dev/null -d username=alice -d password=alice "$LOGIN"
  curl -sS -b jar "$BASE/api/me"
  head -c 1000000 /dev/urandom > model.onnx
  curl -sS -b jar -F model_id=32769 -F version=0001 -F platform=720 -F model=@model.onnx \\
       "$BASE/api/conversion/init" | tee job.json
  JOB=$(python3 -c 'import json; print(json.load(open("job.json"))["job_id"])')
  curl -sS -b jar "$BASE/api/conversion/$JOB"          # repeat until it is completed or failed
  curl -sS -b jar -X POST "$BASE/api/conversion/$JOB/promote-to-models"
  curl -sSL --fail -b jar -o model.nef "$BASE/api/conversion/$JOB/download"

Ctrl-C stops both.
"""


def main() -> int:
    try:
        plan = Plan.from_environment(os.environ)
    except ValueError as error:
        _say(f"demo: PORT: {error}")
        return 1
    return Demo(plan).run()


def _say(text: str) -> None:
    # A closed terminal must not stop the demo from stopping its children.
    with suppress(OSError):
        print(text, flush=True)


def _is_free(address: Address) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without this option, recently closed connections would make the port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError:
            return False
    return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _die_with(parent: int) -> Callable[[], None] | None:
    """Ask Linux to end this child when the demo ends, even by SIGKILL. Runs in the child before its program."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before it could be watched
            os._exit(1)

    return prepare


if __name__ == "__main__":
    sys.exit(main())
