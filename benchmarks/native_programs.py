"""Client and sink: two small C programs, compiled at first use. They are in C so that neither is the bottleneck."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measures import MeasuringError

_SOURCES = Path(__file__).parent / "native"
#: Longer than any measurement takes.
_SECONDS = 150


@dataclass(frozen=True)
class Sent:
    """One upload or download as the client saw it. `received_bytes` is the sink's count."""

    status: int
    seconds: float
    answer_bytes: int
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

    def poll(self, port: int, request: Path, *, threads: int, pause_microseconds: int, seconds: float) -> Polled:
        """Repeat one request on one persistent connection per thread."""
        numbers = [str(port), str(threads), str(pause_microseconds), str(seconds)]
        count, refused, lasted, p50, p99, slowest = _run([str(self.client), "poll", *numbers, str(request)]).split()
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
    status, seconds, answer_bytes, received_bytes = line.split()
    return Sent(int(status), float(seconds), int(answer_bytes), int(received_bytes))


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise MeasuringError(f"the client did not end within {_SECONDS} s") from None
    if done.returncode:
        raise MeasuringError(f"the client failed: {done.stderr.strip()}")
    return done.stdout
