"""Everything that takes part in a benchmark, as processes on loopback: client, sink, nginx, and gateways as delivered.

    with World() as world:
        gateway = world.gateway("plain")
        world.send_to(gateway, world.body(1 << 30), "somebody")

Nothing is in the client's or the sink's process but the client or the sink. What is started here ends with it.
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
#: Without its leading dashes. Bodies contain it, whole and in parts, so it is one that nobody makes by chance.
BOUNDARY = "visiona-bench-4f9c21d07a"
_TICKS = os.sysconf("SC_CLK_TCK")


class Gateway:
    """The gateway under its own gunicorn.conf.py, with the sandbox's Member Center and the sink as its converter."""

    def __init__(self, directory: Path, sink_port: int, environment: Mapping[str, str], application: str) -> None:
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
            workers=WORKERS,
        )
        self.port = self.stack.port
        self._people: dict[str, Client] = {}

    def person(self, name: str) -> Client:
        """Somebody who is signed in; the same person for the same name."""
        if name not in self._people:
            self._people[name] = self.stack.person(name)
        return self._people[name]

    def worker_pids(self) -> list[int]:
        """The workers."""
        return self.stack.worker_pids()

    def pids(self) -> list[int]:
        """The master and its workers."""
        assert self.stack.gateway is not None
        return [self.stack.gateway.pid, *self.worker_pids()]

    def close(self) -> None:
        """End it. Clients that were cut off may have left requests that it would wait for."""
        self.stack.kill_gateway()
        self.stack.sandbox.close()
        for person in self._people.values():
            person.close()


class World:
    """All processes of a run; a context manager. For one thread."""

    def __init__(self) -> None:
        # Beside the project and not in /tmp, which may be memory: files are to be on a disk here.
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
        """End everything, and remove what it has written."""
        for gateway in self._gateways.values():
            gateway.close()
        if self._nginx is not None:
            self._nginx.close()
        for child in self._children:
            child.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    # Who takes part

    def sink(self, status: str, file_bytes: int = 0) -> int:
        """The port of a sink whose jobs have this status and whose files have this size."""
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
        """Start a process that listens on `port`, and wait until it does; it ends with the world."""
        child = Child(name, command, self.directory / f"{name}.log", environment=environment)
        self._children.append(child)
        child.wait_until_ready(lambda: _accepts(port))
        return child

    @property
    def nginx(self) -> NginxProxy:
        """The yardstick, started at its first use."""
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
    ) -> Gateway:
        """The gateway of that name, started at its first use."""
        if name not in self._gateways:
            directory = self.directory / f"gateway-{name}"
            self._gateways[name] = Gateway(directory, sink_port or self.sink_port, environment or {}, application)
        return self._gateways[name]

    def end_gateway(self, name: str) -> None:
        """End the gateway of that name, if there is one, so that the next use starts a fresh one elsewhere."""
        gateway = self._gateways.pop(name, None)
        if gateway is not None:
            gateway.close()
            shutil.rmtree(gateway.stack.directory, ignore_errors=True)

    # What is sent

    def body(
        self, model_bytes: int, *, block: bytes | None = None, boundary: str = BOUNDARY, before: bytes = b""
    ) -> BodyFiles:
        """A multipart body with one model: random, or `block` over and over; `before` are whole parts before it."""
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
            # Whole repetitions only, as many as make a block of the usual size.
            filling = self._write(block * max(1, BLOCK_BYTES // len(block)))
        return BodyFiles(
            self._write("".join(parts).encode() + before + head.encode()),
            filling,
            model_bytes,
            self._write(f"\r\n--{boundary}--\r\n".encode()),
            f"multipart/form-data; boundary={boundary}",
        )

    def head(self, port: int, body: BodyFiles, *, cookie: str = "", is_chunked: bool = False) -> Path:
        """The head of an upload, for whoever listens on `port`."""
        framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {body.bytes}"
        return self.request(port, "POST", "/api/conversion/init", cookie, f"Content-Type: {body.content_type}", framing)

    def request(self, port: int, method: str, path: str, cookie: str = "", *headers: str) -> Path:
        """The head of any request, for whoever listens on `port`."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: localhost:{port}", "Accept: */*", *headers]
        if cookie:
            lines.append(f"Cookie: {cookie}")
        return self._write("\r\n".join([*lines, "", ""]).encode())

    def upload(self, port: int, body: BodyFiles, heads: Sequence[Path], *, chunk_bytes: int = 0) -> float:
        """Send the body once for each head, all at once; returns MB/s for all together, checked to be whole."""
        sent, seconds = self.programs.send(port, body, heads, chunk_bytes=chunk_bytes)
        for one in sent:
            _require_whole(one, body)
        return body.bytes * len(sent) / MEGABYTE / seconds

    def send_to(self, gateway: Gateway, body: BodyFiles, *names: str, chunk_bytes: int = 0) -> float:
        """`upload` to the gateway by these people; a chunked body where `chunk_bytes` is given."""
        heads = [
            self.head(gateway.port, body, cookie=gateway.person(name).cookie_header, is_chunked=chunk_bytes > 0)
            for name in names
        ]
        return self.upload(gateway.port, body, heads, chunk_bytes=chunk_bytes)

    def fetch(self, port: int, request: Path) -> Sent:
        """Send a request without a body and read its whole answer."""
        none = BodyFiles(self.nothing, self.nothing, 0, self.nothing, "")
        (sent,), _ = self.programs.send(port, none, [request])
        return sent

    def poll(self, port: int, request: Path, *, threads: int, pause_microseconds: int, seconds: float) -> Polled:
        """Ask again and again; MeasuringError where anything but 200 comes."""
        polled = self.programs.poll(
            port, request, threads=threads, pause_microseconds=pause_microseconds, seconds=seconds
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
    """What `measure` gives (MB/s), and the CPU seconds that these processes used meanwhile, a GB."""
    before = cpu_seconds(pids)
    speed = measure()
    used = cpu_seconds(pids) - before
    return {"MB/s": speed, "CPU s/GB": used / (sent_bytes / 1e9)}


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of these processes, all threads, in seconds (by the clock's ticks of 10 ms)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def resident_bytes(pid: int) -> int:
    """What of a process is in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def forget_peak(pid: int) -> None:
    """Have the kernel count a process's largest resident size from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peak_bytes(pid: int) -> int:
    """A process's largest resident size since it was last forgotten."""
    return memory_peaks(pid)["VmHWM"]


def settle() -> None:
    """Leave a moment to threads that still finish what the last request began."""
    time.sleep(0.2)


def _require_whole(sent: Sent, body: BodyFiles) -> None:
    if sent.status not in {200, 201}:
        raise MeasuringError(f"an upload was answered by {sent.status}")
    # The gateway's own message may be a little longer or shorter than the client's; the model is all there.
    if sent.received_bytes < body.filled_bytes:
        raise MeasuringError(f"{sent.received_bytes} of {body.bytes} bytes of an upload arrived")


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
