"""An S3 server of the tests' own: moto's, as a process on a free port of 127.0.0.1, with everything in its memory.

    with S3Server(tmp_path / "s3.log") as s3:
        bucket = s3.create_bucket()
        Stack(directory, environment={**s3.environment, "VISIONA_STORAGE_URL": f"s3://{bucket}/models"})

It speaks real HTTP and XML with boto3, but checks no signatures. The fixtures are `s3_server` and `s3_bucket`
(tests/conftest.py).
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import requests
from botocore.config import Config

from tests.support.processes import Child, Server, free_port

_REGION = "us-east-1"
#: moto is a large program, and other tests may keep the machine busy.
_START_SECONDS = 60.0


class S3Server(Server):
    """A running S3 server; freezing it is the way to make it hang. Stopping it forgets all buckets."""

    def __init__(self, log_path: Path, *, max_keys: int = 1000) -> None:
        """Start it, and wait until it answers. A page of a listing has `max_keys` entries at most."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        environment = {**_without_aws(), "MOTO_S3_DEFAULT_MAX_KEYS": str(max_keys)}
        # KILL: it has nothing to save, and a frozen one would not heed another signal.
        self._server = Child("s3", command, log_path, environment=environment, orphan_signal="KILL")
        self._client: Any = None
        try:
            self._server.wait_until_ready(self._answers, seconds=_START_SECONDS)
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3 finds the server, in a gateway's process or in ours."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            # The developer's own profiles stay out of it.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def client(self) -> Any:
        """A boto3 client of the tests' own, to arrange things and to look at them."""
        if self._client is None:
            self._client = boto3.client(
                "s3",
                endpoint_url=self.url,
                region_name=_REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1}),
            )
        return self._client

    def create_bucket(self) -> str:
        """Create an empty bucket; returns its name."""
        name = f"test-{uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return name

    def freeze(self) -> None:
        os.kill(self._server.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._server.pid, signal.SIGCONT)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._server.kill()

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/moto-api/data.json", timeout=5).status_code == 200
        except requests.RequestException:
            return False


def _without_aws() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
