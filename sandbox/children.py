"""Child processes of `make run` and `make cluster`: start them in order, wait, watch them, and leave nothing running.

It is not a process manager: when one child ends, all end, except for children that users may kill to try it.
"""

import ctypes
import os
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.settings import Address

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
RESTART_SECONDS: Final = 5.0
SHOWN_LOG_LINES: Final = 30
_POLL_SECONDS: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1


class ChildError(Exception):
    """The children cannot go on; the text is for the terminal."""


class _InterruptedError(Exception):
    """A signal came while the children started."""


@dataclass(frozen=True)
class Program:
    """What a child executes. `restarts`: start it again after a while when it ends."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    restarts: bool = False


class Child:
    """A child process with its own process group and log file."""

    def __init__(self, program: Program, log_path: Path) -> None:
        self.program = program
        self.log_path = log_path
        self._ended_at: float | None = None
        log_path.unlink(missing_ok=True)
        self._start()

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def last_log_lines(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-SHOWN_LOG_LINES:])

    def restart_if_due(self) -> None:
        """Start a child again, RESTART_SECONDS after its end was noticed."""
        if self._ended_at is None:
            self._ended_at = time.monotonic()
            say(f"{self.program.name} has ended ({self.exit_code}); it starts again in {RESTART_SECONDS:.0f} s")
        elif time.monotonic() > self._ended_at + RESTART_SECONDS:
            # Members of its group that have outlived it would occupy its port.
            self._signal(signal.SIGKILL)
            self._start()
            say(f"{self.program.name} has started again")

    def ask_to_end(self) -> None:
        self._signal(self.program.stop_signal)

    def ensure_ended(self, deadline: float, impatient: threading.Event) -> None:
        """Wait until the deadline or a second signal, then kill the whole group."""
        while self.exit_code is None and time.monotonic() < deadline and not impatient.is_set():
            time.sleep(_POLL_SECONDS / 4)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _start(self) -> None:
        self._ended_at = None
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own commands
                self.program.command,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own group: Ctrl-C reaches only the parent, which then stops its children in order.
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - this process has one thread while it starts children
            )

    def _signal(self, number: int) -> None:
        # Signal the group even if its leader has ended: the group exists as long as one member lives.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class Children:
    """Starts the children, watches and stops them. Signals only set events; `run` does all the work."""

    def __init__(self, name: str, directory: Path) -> None:
        """`name` begins each line about a failure; the logs are in `directory`."""
        self._name = name
        self._directory = directory
        self._over = threading.Event()
        self._impatient = threading.Event()
        self._groups: list[list[Child]] = []

    def run(self, start: Callable[[], str]) -> int:
        """Run until a signal (return 0) or until something fails (return 1).

        `start` calls `start` and `wait_until_ready`, and returns what the terminal shows then. It may raise ChildError.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._on_signal())
        try:
            say(start())
            while not self._over.wait(_POLL_SECONDS):
                self._ensure_children_live()
        except _InterruptedError:
            pass
        except ChildError as error:
            say(f"{self._name}: {error}")
            return 1
        finally:
            self._end()
        return 0

    def start(self, *programs: Program) -> None:
        """Start children that will also be stopped together, before those that were started earlier."""
        self._groups.append([])
        for program in programs:
            self._groups[-1].append(Child(program, self._directory / f"{program.name}.log"))

    @property
    def _children(self) -> list[Child]:
        return [child for group in self._groups for child in group]

    def wait_until_ready(self, checks: Mapping[str, Callable[[], bool]]) -> None:
        """Wait until every check returns true. Raises ChildError if a child ends, or after START_SECONDS."""
        waiting = dict(checks)
        deadline = time.monotonic() + START_SECONDS
        while waiting:
            waiting = {name: is_ready for name, is_ready in waiting.items() if not is_ready()}
            self._ensure_children_live()
            if waiting and time.monotonic() > deadline:
                logs = "\n".join(f"  {child.program.name}:\n{child.last_log_lines()}" for child in self._children)
                raise ChildError(f"{', '.join(waiting)} did not respond within {START_SECONDS:.0f} seconds\n{logs}")
            if self._over.wait(_POLL_SECONDS if waiting else 0):
                raise _InterruptedError

    def _on_signal(self) -> None:
        if self._over.is_set():
            self._impatient.set()
        self._over.set()

    def _ensure_children_live(self) -> None:
        for child in self._children:
            if child.exit_code is None or self._over.is_set():
                continue
            if not child.program.restarts:
                logs = child.last_log_lines()
                raise ChildError(f"the {child.program.name} ended with exit code {child.exit_code}\n{logs}")
            child.restart_if_due()

    def _end(self) -> None:
        # The last group first: its last requests need those before it. Each has its own time, or a slow gateway would
        # leave none to its database.
        for group in reversed(self._groups):
            deadline = time.monotonic() + STOP_SECONDS
            for child in group:
                child.ask_to_end()
            for child in group:
                child.ensure_ended(deadline, self._impatient)


def ensure_ports_are_free(addresses: Mapping[str, Address]) -> None:
    """Raise ChildError with every port that another process listens on."""
    taken = [f"port {address.port} ({name}) is taken" for name, address in addresses.items() if not _is_free(address)]
    if taken:
        raise ChildError(f"{', '.join(taken)}; nothing was started")


def responds(url: str) -> bool:
    """Return whether a GET of the URL responds with 200."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def say(text: str) -> None:
    # A closed terminal must not stop the parent from stopping its children.
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


def _die_with(parent: int) -> Callable[[], None] | None:
    """Ask Linux to end this child when the parent ends, even by SIGKILL. Runs in the child before its program."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before it could be watched
            os._exit(1)

    return prepare
