"""Child processes of tests: each has a process group and a log file, and ends with the tests.

A child ends even if the test process is killed: the kernel then sends it a signal (`setpriv --pdeathsig`).
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar

from tests.support.forking import ForkedProgram

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 10.0
SHOWN_LOG_CHARACTERS = 6_000
# Below the ports that Linux gives to outgoing connections, so that none of those takes one between choice and use.
_FIRST_PORT, _LAST_PORT = 12_000, 32_000


def wait_until(condition: Callable[[], T | None], what: str, *, seconds: float = 30.0, every: float = 0.02) -> T:
    """Call `condition` until it returns something true, and return that. Raise AssertionError at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what} (last: {found!r})")
        time.sleep(every)


def free_port() -> int:
    """Return an unused port of 127.0.0.1. Not by `random`: pytest-randomly gives all workers one seed."""
    while True:
        port = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def dead_url() -> str:
    """Return a base URL at which every connection is refused."""
    return f"http://localhost:{free_port()}"


def as_user(user: str | None) -> list[str]:
    """Return what to put before a command to run it as another account."""
    if user is None:
        return []
    entry = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


def log_end(log_path: Path) -> str:
    """Return the last lines of a log."""
    return log_path.read_text(encoding="utf-8", errors="replace")[-SHOWN_LOG_CHARACTERS:]


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children; none if it has ended."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [int(child) for child in text.split()]
    return []


class Child:
    """One child process, started at once. Its log is appended to, so that it survives restarts."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        *,
        environment: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
        orphan_signal: str = "TERM",
        user: str | None = None,
    ) -> None:
        """Start `command`. `limits` are prlimit's (`{"fsize": 4096}`); the environment, if given, replaces ours.

        `user` is the account that the child runs as; only root may name one.
        """
        self.name = name
        self.log_path = log_path
        prefix: list[str] = as_user(user)
        if setpriv := shutil.which("setpriv"):
            # Last: changing the account would clear the signal.
            prefix += [setpriv, "--pdeathsig", orphan_signal]
        if limits:
            prefix += ["prlimit", *(f"--{limit}={value}" for limit, value in limits.items())]
        with log_path.open("ab") as log:
            self._process: subprocess.Popen[bytes] | ForkedProgram = subprocess.Popen(
                [*prefix, *command],
                cwd=ROOT,
                env=dict(os.environ if environment is None else environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def wait_until_ready(self, is_ready: Callable[[], T | None], *, seconds: float = 60.0) -> T:
        """Wait for a condition. Fail with the end of the log if the child ends first, or at the deadline."""

        def ready_or_dead() -> T | None:
            if self.exit_code is not None:
                raise AssertionError(f"{self.name} ended with {self.exit_code}:\n{self.log_end()}")
            return is_ready()

        try:
            return wait_until(ready_or_dead, f"{self.name} is ready", seconds=seconds)
        except AssertionError as error:
            error.add_note(self.log_end())
            raise

    def log_end(self) -> str:
        return log_end(self.log_path)

    def stop(self, *, seconds: float = STOP_SECONDS, workers_tell_stacks: bool = False) -> int | None:
        """End it by SIGTERM and, at the deadline, by SIGKILL. Return its exit code.

        With `workers_tell_stacks`, its children get SIGRTMIN before they are killed, and write their threads' stacks to
        the log.
        """
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            if workers_tell_stacks:
                for pid in self.worker_pids():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGRTMIN)
                # Nothing tells when they have written; it is a hanging worker, and the test has failed.
                time.sleep(0.5)
        return self.kill()

    def wait(self, seconds: float) -> int | None:
        """Wait until it has ended by itself, and kill it at the deadline. Return its exit code."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.kill()

    def kill(self) -> int | None:
        """Kill the whole group at once, as a crash of the machine would."""
        self._signal(signal.SIGKILL)
        return self._process.wait()

    def worker_pids(self) -> list[int]:
        """Return the pids of its own children, such as gunicorn's workers."""
        return children_of(self.pid)

    def _signal(self, number: int) -> None:
        # The group outlives its leader as long as a member lives. Its number is ours until the leader is waited for
        # and the last member is gone.
        with suppress(PermissionError):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                # Ended, or a fork that has made no group yet.
                if self.exit_code is None:
                    os.kill(self.pid, number)


class PythonChild(Child):
    """A Python module that runs as a fork of a process with its libraries, which starts much faster."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        *,
        environment: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
        orphan_signal: str = "TERM",
    ) -> None:
        """Start `python -m COMMAND`; the rest is as with `Child`."""
        self.name = name
        self.log_path = log_path
        self._process = ForkedProgram(
            command,
            log_path,
            directory=ROOT,
            environment=os.environ if environment is None else environment,
            limits=limits or {},
            orphan_signal=orphan_signal,
        )


class Server(ABC):
    """A server of the tests' own, which can be made to hang."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def freeze(self) -> None:
        """Stop its processes (SIGSTOP): connections stay, the kernel accepts new ones, and nothing is answered."""

    @abstractmethod
    def thaw(self) -> None:
        """Let its processes continue."""

    @abstractmethod
    def close(self) -> None:
        """End it."""

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server for the time of the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()


def memory_peaks(pid: int) -> dict[str, int]:
    """Return the largest resident (`VmHWM`) and virtual (`VmPeak`) sizes of a process so far, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmHWM", "VmPeak")}


def sockets_of(pid: int) -> list[tuple[str, tuple[int, int]]]:
    """Return a process's TCP sockets over IPv4: the inode of each, and its (own port, peer's port)."""
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            held.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:])
    return [(row[9], (_port(row[1]), _port(row[2]))) for row in rows if row[9] in held]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
