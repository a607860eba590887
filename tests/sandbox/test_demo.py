"""`make run`'s program, with a stub in the gateway's place: it starts all or nothing and leaves nothing running."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import ROOT, free_port, wait_until

STUB = """
import http.server, os, signal, subprocess, sys
if "--dies" in sys.argv:
    print("the stub is sorry")
    sys.exit(7)
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["VISIONA_OIDC_ISSUER"].encode()
        self.send_response(200 if self.path == "/readyz" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {helper.pid}")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Ready).serve_forever()
"""

SCRIPT = """
import sys
from pathlib import Path
from sandbox import children, demo
from sandbox.settings import Address, Settings
children.STOP_SECONDS = 2.0
directory, stub, *words = sys.argv[1:]
ports = [int(word) for word in words[:4]]
addresses = [Address("localhost", port) for port in ports]
settings = Settings(*addresses[1:], data=Path(directory) / "sandbox", gateways=(addresses[0].url,))
command = (sys.executable, stub, f"{directory}/pids", str(ports[0]), *words[4:])
sys.exit(demo.Demo(demo.Plan(Path(directory), addresses[0], settings, command)).run())
"""


class DemoProcess:
    """The demo on four free ports, in a directory of its own."""

    def __init__(self, directory: Path, *options: str, ports: list[int] | None = None) -> None:
        self.directory = directory
        self.ports = ports or _free_ports()
        stub = directory / "stub.py"
        directory.mkdir(exist_ok=True)
        stub.write_text(textwrap.dedent(STUB), encoding="utf-8")
        words = [str(port) for port in self.ports]
        command = [sys.executable, "-c", SCRIPT, str(directory), str(stub), *words, *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_until_running(self) -> str:
        assert self.process.stdout is not None
        said = ""
        while "Ctrl-C stops the gateway and the sandbox." not in said:
            line = self.process.stdout.readline()
            assert line, said
            said += line
        return said

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output

    def assert_nothing_is_left(self) -> None:
        pids = [int(pid) for pid in (self.directory / "pids").read_text(encoding="utf-8").split()]
        wait_until(lambda: not any(_lives(pid) for pid in pids), "all processes have ended")
        wait_until(lambda: not any(_listens(port) for port in self.ports), "nobody listens")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _run(stack: ExitStack, directory: Path, *options: str, ports: list[int] | None = None) -> DemoProcess:
    demo = DemoProcess(directory, *options, ports=ports)
    stack.callback(demo.process.kill)
    return demo


def _free_ports() -> list[int]:
    return [free_port() for _ in range(4)]


def _lives(pid: int) -> bool:
    try:
        # A process whose parent has not collected it yet has ended all the same.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_everything(stack: ExitStack, tmp_path: Path, number: int) -> None:
    demo = _run(stack, tmp_path)
    said = demo.wait_until_running()
    assert f"http://localhost:{demo.ports[0]}" in said
    assert "alice / alice, bob / bob" in said
    os.kill(demo.process.pid, number)
    code, _ = demo.end()
    assert code == 0
    demo.assert_nothing_is_left()


def test_child_that_does_not_listen_is_killed(stack: ExitStack, tmp_path: Path) -> None:
    demo = _run(stack, tmp_path, "--stubborn")
    demo.wait_until_running()
    demo.process.send_signal(signal.SIGTERM)
    assert demo.end()[0] == 0
    demo.assert_nothing_is_left()


def test_killed_demo_takes_its_children_along(stack: ExitStack, tmp_path: Path) -> None:
    demo = _run(stack, tmp_path)
    demo.wait_until_running()
    helper = int((tmp_path / "pids").read_text(encoding="utf-8").split()[1])
    demo.process.kill()
    demo.end()
    wait_until(lambda: not any(_listens(port) for port in demo.ports), "nobody listens")
    # Grandchildren are the gateway's own business when nobody is left to kill its group.
    os.kill(helper, signal.SIGKILL)


def test_second_demo_names_the_taken_port_and_starts_nothing(stack: ExitStack, tmp_path: Path) -> None:
    first = _run(stack, tmp_path / "first")
    first.wait_until_running()
    ports = [first.ports[0], *_free_ports()[1:]]
    second = _run(stack, tmp_path / "second", ports=ports)
    code, said = second.end()
    assert code == 1
    assert f"port {ports[0]} (gateway) is taken" in said
    assert not (tmp_path / "second" / "pids").exists()
    first.process.send_signal(signal.SIGINT)
    assert first.end()[0] == 0


def test_death_of_a_child_ends_the_rest_and_shows_its_last_words(stack: ExitStack, tmp_path: Path) -> None:
    demo = _run(stack, tmp_path, "--dies")
    code, said = demo.end()
    assert code == 1
    assert "the gateway ended with exit code 7" in said
    assert "the stub is sorry" in said
    assert not any(_listens(port) for port in demo.ports)


def test_secret_key_is_made_once_and_private(stack: ExitStack, tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        demo = _run(stack, tmp_path)
        demo.wait_until_running()
        keys.append((tmp_path / "secret-key").read_text(encoding="utf-8"))
        demo.process.send_signal(signal.SIGINT)
        assert demo.end()[0] == 0
    assert keys[0] == keys[1]
    assert len(keys[0]) >= 43
    assert (tmp_path / "secret-key").stat().st_mode & 0o777 == 0o600
