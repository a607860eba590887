"""The processes of a benchmark, on loopback: client, sink, nginx, and gateways as delivered.

    with World() as world:
        gateway = world.gateway("plain")
        world.send_to(gateway, world.body(1 << 30), "somebody")

Each is a process of its own. All processes end with the world.
"""

import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from app.config import ROOT
from benchmarks.measures import MEBIBYTE, MEGABYTE, MeasuringError
from benchmarks.native_programs import BodyFiles, Polled, Programs, Sent
from benchmarks.nginx_proxy import NginxProxy
from tests.support.clients import Client
from tests.support.processes import Child, free_port, memory_peaks
from tests.support.scaled_stack import ScaledStack

WORKERS = 2
BLOCK_BYTES = 4 * MEBIBYTE
#: Without its leading dashes.
BOUNDARY = "visiona-bench-4f9c21d07a"
_TICKS = os.sysconf("SC_CLK_TCK")


class Gateway:
    """The gateway with its own gunicorn.conf.py, the sandbox's Member Center, and the sink as its converter."""

    def __init__(
        self, directory: Path, sink_port: int, environment: Mapping[str, str], application: str, workers: int
    ) -> None:
        upstream = f"http://127.0.0.1:{sink_port}"
        self.stack = ScaledStack(
            directory,
            environment={
                "VISIONA_CONVERTER_BASE_URL": upstream,
                "VISIONA_FAA_BASE_URL": upstream,
                "VISIONA_MAX_UPLOAD_BYTES": str(1 << 40),
                **environment,
            },
            application=application,
            workers=workers,
        )
        self.port = self.stack.port
        self._people: dict[str, Client] = {}

    def person(self, name: str) -> Client:
        """Return a signed-in user; the same user for the same name."""
        if name not in self._people:
            self._people[name] = self.stack.person(name)
        return self._people[name]

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers."""
        return self.stack.worker_pids()

    def pids(self) -> list[int]:
        """The master and its workers."""
        assert self.stack.gateway is not None
        return [self.stack.gateway.pid, *self.worker_pids()]

    def close(self) -> None:
        """Kill it: a normal stop would wait for requests of clients that were cut off."""
        self.stack.kill_gateway()
        self.stack.sandbox.close()
        for person in self._people.values():
            person.close()


class World:
    """All processes of a run; a context manager. For one thread."""

    def __init__(self) -> None:
        # In the project, because /tmp may be in memory and files must be on a disk here.
        (ROOT / "var").mkdir(exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "var"))
        self._gateways: dict[str, Gateway] = {}
        self._children: list[Child] = []
        self._nginx: NginxProxy | None = None
        self._sinks: dict[str, int] = {}
        self._files = 0
        try:
            self.programs = Programs(self.directory)
            self.block = self._write(secrets.token_bytes(BLOCK_BYTES))
            self.nothing = self._write(b"")
            self.sink_port = self.sink("running")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything, and remove all files."""
        for gateway in self._gateways.values():
            gateway.close()
        if self._nginx is not None:
            self._nginx.close()
        for child in self._children:
            child.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    # Processes

    def sink(self, status: str, file_bytes: int = 0) -> int:
        """Return the port of a sink whose jobs have this status and whose files have this size."""
        name = f"{status}-{file_bytes}"
        if name not in self._sinks:
            port = free_port()
            command = [str(self.programs.sink), str(port), status, str(self.block), str(file_bytes)]
            self.start(f"sink-{name}", command, port)
            self._sinks[name] = port
        return self._sinks[name]

    def start(
        self, name: str, command: Sequence[str], port: int, *, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start a process that listens on `port`, and wait until it does. It ends with the world."""
        child = Child(name, command, self.directory / f"{name}.log", environment=environment)
        self._children.append(child)
        child.wait_until_ready(lambda: _accepts(port))
        return child

    @property
    def nginx(self) -> NginxProxy:
        """Return nginx, started at first use."""
        if self._nginx is None:
            self._nginx = NginxProxy(self.directory, self.sink_port)
        return self._nginx

    def gateway(
        self,
        name: str = "plain",
        environment: Mapping[str, str] | None = None,
        *,
        sink_port: int | None = None,
        application: str = "wsgi:app",
        workers: int = WORKERS,
    ) -> Gateway:
        """Return the gateway of that name, started at first use."""
        if name not in self._gateways:
            directory = self.directory / f"gateway-{name}"
            port = sink_port or self.sink_port
            self._gateways[name] = Gateway(directory, port, environment or {}, application, workers)
        return self._gateways[name]

    def end_gateway(self, name: str) -> None:
        """Stop the gateway of that name, if there is one. The next use starts a fresh one on another port."""
        gateway = self._gateways.pop(name, None)
        if gateway is not None:
            gateway.close()
            shutil.rmtree(gateway.stack.directory, ignore_errors=True)

    # Requests

    def body(
        self, model_bytes: int, *, block: bytes | None = None, boundary: str = BOUNDARY, before: bytes = b""
    ) -> BodyFiles:
        """Return a multipart body with one model: random, or `block` repeated; `before` are parts before it."""
        fields = {"model_id": "1001", "version": "v1", "platform": "720"}
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="model"; filename="model.onnx"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        filling = self.block
        if block is not None:
            # Whole repetitions only, up to a block of the usual size.
            filling = self._write(block * max(1, BLOCK_BYTES // len(block)))
        return BodyFiles(
            self._write("".join(parts).encode() + before + head.encode()),
            filling,
            model_bytes,
            self._write(f"\r\n--{boundary}--\r\n".encode()),
            f"multipart/form-data; boundary={boundary}",
        )

    def head(self, port: int, body: BodyFiles, *, cookie: str = "", is_chunked: bool = False) -> Path:
        """Write the head of an upload to `port`; return its file."""
        framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {body.bytes}"
        return self.request(port, "POST", "/api/conversion/init", cookie, f"Content-Type: {body.content_type}", framing)

    def request(self, port: int, method: str, path: str, cookie: str = "", *headers: str) -> Path:
        """Write the head of a request to `port`; return its file."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: localhost:{port}", "Accept: */*", *headers]
        if cookie:
            lines.append(f"Cookie: {cookie}")
        return self._write("\r\n".join([*lines, "", ""]).encode())

    def upload(self, port: int, body: BodyFiles, heads: Sequence[Path], *, chunk_bytes: int = 0) -> float:
        """Send the body once per head, all at once, and check that each arrived whole; return MB/s for all together."""
        sent, seconds = self.programs.send(port, body, heads, chunk_bytes=chunk_bytes)
        for one in sent:
            _require_whole(one, body)
        return body.bytes * len(sent) / MEGABYTE / seconds

    def send_to(self, gateway: Gateway, body: BodyFiles, *names: str, chunk_bytes: int = 0) -> float:
        """Upload to the gateway as these users; with a chunked body if `chunk_bytes` is given."""
        heads = [
            self.head(gateway.port, body, cookie=gateway.person(name).cookie_header, is_chunked=chunk_bytes > 0)
            for name in names
        ]
        return self.upload(gateway.port, body, heads, chunk_bytes=chunk_bytes)

    def fetch(self, port: int, request: Path) -> Sent:
        """Send a request without a body and read the whole response."""
        none = BodyFiles(self.nothing, self.nothing, 0, self.nothing, "")
        (sent,), _ = self.programs.send(port, none, [request])
        return sent

    def poll(self, port: int, *requests: Path, threads: int, pause_microseconds: int, seconds: float) -> Polled:
        """Repeat these requests in turn; raise MeasuringError on any status but 200."""
        polled = self.programs.poll(
            port, *requests, threads=threads, pause_microseconds=pause_microseconds, seconds=seconds
        )
        if polled.refused:
            raise MeasuringError(f"{polled.refused} of {polled.count} polls were not answered by 200")
        return polled

    def _write(self, content: bytes) -> Path:
        self._files += 1
        path = self.directory / f"file-{self._files}"
        path.write_bytes(content)
        return path


def with_cpu_time(pids: Sequence[int], measure: Callable[[], float], sent_bytes: int) -> dict[str, float]:
    """Return the result of `measure` (MB/s), and the CPU seconds per GB of these processes."""
    before = cpu_seconds(pids)
    speed = measure()
    used = cpu_seconds(pids) - before
    return {"MB/s": speed, "CPU s/GB": used / (sent_bytes / 1e9)}


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return user and system time of these processes, all threads, in seconds (in ticks of 10 ms)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def busy_seconds() -> float:
    """Return the time that the machine's cores have worked, for all processes, in seconds."""
    fields = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]]
    idle, waiting = fields[3:5]
    # The last two fields are for guests, and are a part of the first two.
    return (sum(fields[:8]) - idle - waiting) / _TICKS


def context_switches(pids: Sequence[int]) -> int:
    """Return how often the threads of these processes have been switched away from, of those that live."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                lines = (task / "status").read_text(encoding="ascii", errors="replace").splitlines()
                total += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return total


def resident_bytes(pid: int) -> int:
    """Return the resident size of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def forget_peak(pid: int) -> None:
    """Reset the kernel's record of a process's largest resident size."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peak_bytes(pid: int) -> int:
    """Return a process's largest resident size since the last reset."""
    return memory_peaks(pid)["VmHWM"]


def settle() -> None:
    """Wait a moment for threads that are still completing the last request."""
    time.sleep(0.2)


def _require_whole(sent: Sent, body: BodyFiles) -> None:
    if sent.status not in {200, 201}:
        raise MeasuringError(f"an upload was answered by {sent.status}")
    # The gateway's message may be a little longer or shorter than the client's, but the model must be complete.
    if sent.received_bytes < body.filled_bytes:
        raise MeasuringError(f"{sent.received_bytes} of {body.bytes} bytes of an upload arrived")


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
