"""Client and sink: two small C programs, compiled at first use. They are in C so that neither is the bottleneck."""

import select
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.measures import MeasuringError

_SOURCES = Path(__file__).parent / "native"
#: Longer than any measurement takes.
_SECONDS = 150


@dataclass(frozen=True)
class Sent:
    """One upload or download as the client saw it. `received_bytes` is the sink's count."""

    status: int
    seconds: float
    response_bytes: int
    received_bytes: int


@dataclass(frozen=True)
class Polled:
    """The result of a load of small requests; latencies in milliseconds."""

    count: int
    refused: int
    seconds: float
    p50: float
    p99: float
    slowest: float


class SlowUploads:
    """One client process with many slow uploads; a context manager that kills it at the end of the block."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_until_sending(self) -> None:
        """Wait until all uploads have begun."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _SECONDS)
        if not readable or self._process.stdout.readline().strip() != "sending":
            raise MeasuringError("the slow uploads have not begun")

    def finish(self) -> list[Sent]:
        """Send the rest at full speed, and return the result of each upload."""
        self._process.send_signal(signal.SIGUSR1)
        try:
            output, errors = self._process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise MeasuringError(f"the slow uploads did not end within {_SECONDS} s") from None
        if self._process.returncode:
            raise MeasuringError(f"the client of the slow uploads failed: {errors.strip()}")
        *each, _whole = output.splitlines()
        return [_sent(line) for line in each]


class Programs:
    """The compiled programs in a directory."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise MeasuringError("there is no C compiler (cc) for the client and the sink")
        self.sink, self.client = (directory / name for name in ("sink", "client"))
        for program in (self.sink, self.client):
            source = _SOURCES / f"{program.name}.c"
            command = [compiler, "-O2", "-pthread", "-o", str(program), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            if done.returncode:
                raise MeasuringError(f"{source.name} could not be compiled:\n{done.stderr}")

    def send_command(self, port: int, body: "BodyFiles", heads: Sequence[Path], *, chunk_bytes: int = 0) -> list[str]:
        """Return the command line that sends `body` once per head, all at once."""
        numbers = [str(body.filled_bytes), str(body.tail), str(chunk_bytes)]
        return [str(self.client), "send", str(port), str(body.prefix), str(body.block), *numbers, *map(str, heads)]

    def send(
        self, port: int, body: "BodyFiles", heads: Sequence[Path], *, chunk_bytes: int = 0
    ) -> tuple[list[Sent], float]:
        """Send, and return the result of each and the seconds for all together."""
        *each, whole = _run(self.send_command(port, body, heads, chunk_bytes=chunk_bytes)).splitlines()
        return [_sent(line) for line in each], float(whole)

    def slow_uploads(
        self, port: int, body: "BodyFiles", heads: Sequence[Path], *, bytes_per_second: int, ramp_seconds: float
    ) -> SlowUploads:
        """Start to send `body` once per head; the uploads begin evenly over `ramp_seconds`."""
        numbers = [str(body.filled_bytes), str(body.tail), str(bytes_per_second), str(ramp_seconds)]
        return SlowUploads(
            [str(self.client), "slow", str(port), str(body.prefix), str(body.block), *numbers, *map(str, heads)]
        )

    def poll(self, port: int, *requests: Path, threads: int, pause_microseconds: int, seconds: float) -> Polled:
        """Repeat the requests in turn, on one persistent connection per thread."""
        numbers = [str(port), str(threads), str(pause_microseconds), str(seconds)]
        count, refused, lasted, p50, p99, slowest = _run(
            [str(self.client), "poll", *numbers, *map(str, requests)]
        ).split()
        return Polled(int(count), int(refused), float(lasted), float(p50), float(p99), float(slowest))


@dataclass(frozen=True)
class BodyFiles:
    """A request body as files for the client: the prefix, a number of bytes of the repeated block, the tail."""

    prefix: Path
    block: Path
    filled_bytes: int
    tail: Path
    content_type: str

    @property
    def bytes(self) -> int:
        """Return the size of the whole body."""
        return self.prefix.stat().st_size + self.filled_bytes + self.tail.stat().st_size


def _sent(line: str) -> Sent:
    status, seconds, response_bytes, received_bytes = line.split()
    return Sent(int(status), float(seconds), int(response_bytes), int(received_bytes))


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise MeasuringError(f"the client did not end within {_SECONDS} s") from None
    if done.returncode:
        raise MeasuringError(f"the client failed: {done.stderr.strip()}")
    return done.stdout
