"""`make cluster`'s program: a user's journey through it, a gateway that crashes, and an end that leaves nothing."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sandbox.children import responds
from tests.support.clients import Client
from tests.support.models import expected_bytes
from tests.support.processes import Child, children_of, free_port, wait_until

PROGRAM = """
import sys
from sandbox.cluster import Ports, run
nginx, first, second, member_center, converter, file_access, s3, postgresql = map(int, sys.argv[1:])
sys.exit(run(Ports(nginx, (first, second), (member_center, converter, file_access), s3, postgresql)))
"""
END_SECONDS = 20.0

pytestmark = pytest.mark.timeout(180)


class ClusterProcess:
    """The cluster on free ports."""

    def __init__(self, directory: Path) -> None:
        self.ports = [free_port() for _ in range(8)]
        command = [sys.executable, "-c", PROGRAM, *map(str, self.ports)]
        self.child = Child("cluster", command, directory / "cluster.log")
        try:
            self.child.wait_until_ready(lambda: "Ctrl-C ends everything" in self.output(), seconds=120)
        except BaseException:
            self.stop()
            raise
        self.url = f"http://localhost:{self.ports[0]}"
        self.converter = f"http://localhost:{self.ports[4]}"
        [folder] = re.findall(r"^Logs and data: (.+)$", self.output(), re.MULTILINE)
        self.folder = Path(folder)

    def output(self) -> str:
        return self.child.log_path.read_text(encoding="utf-8")

    def stop(self) -> None:
        # SIGKILL would leave the folder.
        self.child.stop(seconds=END_SECONDS)

    def gateway_pid(self, number: int) -> int:
        return int((self.folder / f"gateway-{number}.pid").read_text(encoding="ascii"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcess]:
    cluster = ClusterProcess(tmp_path)
    yield cluster
    cluster.stop()


def descendants(pid: int) -> list[int]:
    """Return the pids of a process's children, of their children, and so on."""
    children = children_of(pid)
    return children + [one for child in children for one in descendants(child)]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_cluster_survives_a_crash_of_a_gateway_and_leaves_nothing_behind(cluster: ClusterProcess) -> None:
    """Sign in, upload, lose a gateway, promote and download; then SIGINT ends all processes and removes the data."""
    alice = Client(cluster.url).sign_in("alice")
    fields = {"model_id": "32769", "version": "0001", "platform": "720"}
    content = os.urandom(100_000)
    upload = alice.post("/api/conversion/init", data=fields, files={"model": ("model.onnx", content)})
    assert upload.status_code == 201, upload.text
    path = f"/api/conversion/{upload.json()['job_id']}"

    os.kill(cluster.gateway_pid(1), signal.SIGKILL)
    assert [alice.get(path).status_code for _ in range(10)] == [200] * 10
    job = f"{cluster.converter}/_sandbox/jobs/{upload.json()['job_id']}"
    assert requests.patch(job, json={"status": "completed"}, timeout=30).status_code == 200
    wait_until(lambda: alice.get(path).json()["status"] == "completed", "the job is completed")
    wait_until(lambda: "gateway-1 has started again" in cluster.output(), "the gateway starts again")
    wait_until(
        lambda: responds(f"http://localhost:{cluster.ports[1]}/readyz"), "the gateway is ready again", seconds=60
    )
    assert alice.post(f"{path}/promote-to-models").status_code == 201
    assert alice.get(f"{path}/download", allow_redirects=True).content == expected_bytes(content)

    pids = descendants(cluster.child.pid)
    assert len(pids) > 8
    os.kill(cluster.child.pid, signal.SIGINT)
    assert cluster.child.wait(END_SECONDS) == 0, cluster.output()
    wait_until(lambda: not any(map(lives, pids)), "all processes have ended", seconds=5)
    assert not cluster.folder.exists()
