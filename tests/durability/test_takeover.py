"""`systemctl reload`: new code starts beside the old one and takes over its port. No request fails."""

import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mixed_load import MixedLoad
from tests.support.processes import Child, children_of, wait_until
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(120)

GUNICORN = Path(sys.executable).parent / "gunicorn"
UPLOAD_SECONDS = 3.0


class Systemd:
    """What systemd knows of a service that notifies it: the pid of its main process."""

    def __init__(self) -> None:
        name = f"visiona-test-{secrets.token_hex(8)}"
        self.address = f"@{name}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{name}")
        self.socket.settimeout(60)

    def next_main_pid(self) -> int:
        while True:
            lines = self.socket.recv(4096).decode().splitlines()
            if pids := [line.removeprefix("MAINPID=") for line in lines if line.startswith("MAINPID=")]:
                return int(pids[0])


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    found = Systemd()
    yield found
    found.socket.close()


def test_a_reload_by_usr2_replaces_the_master_and_fails_no_request(tmp_path: Path, systemd: Systemd) -> None:
    environment = {"NOTIFY_SOCKET": systemd.address, "VISIONA_DRAIN_SECONDS": "1"}
    with Stack(tmp_path, environment=environment, nginx={}, start_gateway=False, job_seconds=0.4) as stack:
        command = [str(GUNICORN), "-c", "gunicorn.conf.py", "wsgi:app", "--bind", f"127.0.0.1:{stack.port}"]
        old = Child("gateway", command, stack.log_path, environment=stack.environment(), orphan_signal="QUIT")
        try:
            old.wait_until_ready(lambda: stack._is_ready(stack.direct_url))
            people = [stack.signed_in("alice"), stack.signed_in("bob")]
            with MixedLoad(stack, people, upload_seconds=UPLOAD_SECONDS) as load:
                wait_until(lambda: load.succeeded["promote"], "the load is under way")
                os.kill(old.pid, signal.SIGUSR2)
                new = systemd.next_main_pid()
                before = load.succeeded["promote"]
                wait_until(lambda: old.exit_code is not None, "the old master has ended", seconds=60)
                wait_until(lambda: load.succeeded["promote"] > before + 2, "users go on")
            assert not load.failures, load.failures
            assert old.exit_code == 0
            assert new != old.pid
            assert len(children_of(new)) == 2
        finally:
            old.kill()
