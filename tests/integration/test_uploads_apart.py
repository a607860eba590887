"""A second gateway for uploads only, as in docs/deployment.md: nginx distributes the requests."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.multipart_bodies import model_upload
from tests.support.processes import Child, free_port
from tests.support.stack import Stack


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[tuple[Stack, Path]]:
    """The two gateways behind nginx, and the log of the one for uploads."""
    port, log = free_port(), tmp_path / "uploads.log"
    with Stack(tmp_path / "stack", nginx={"uploads_port": port}) as stack:
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "-c",
            "gunicorn.conf.py",
            "--bind",
            f"127.0.0.1:{port}",
            "wsgi:app",
        ]
        uploads = Child("uploads", command, log, environment=stack.environment())
        try:
            uploads.wait_until_ready(lambda: _is_healthy(port))
            yield stack, log
        finally:
            uploads.stop(seconds=45)


def test_one_gateway_gets_the_uploads_and_the_other_all_else(apart: tuple[Stack, Path]) -> None:
    stack, log = apart
    alice, bob = stack.signed_in("alice"), stack.signed_in("bob")
    job_id = stack.upload(alice, b"a model" * 1_000)

    assert alice.get(f"/api/conversion/{job_id}").json()["filename"] == "model.onnx"
    assert bob.get(f"/api/conversion/{job_id}").status_code == 404
    assert alice.get("/api/conversion/active").json()["active_job"]["job_id"] == job_id
    refused = stack.send(alice, model_upload(b"another"))
    assert (refused.status_code, refused.json()["active_job"]["job_id"]) == (409, job_id)

    stack.sandbox.complete(job_id)
    stack.wait_for_status(alice, job_id, "completed")
    model = alice.promote(job_id).json()
    assert model["source_job_id"] == job_id
    assert alice.get(f"/api/models/{model['id']}/file").status_code == 200
    assert _routes(log) == {"/api/conversion/init"}
    assert "/api/conversion/init" not in _routes(stack.log_path)


def _is_healthy(port: int) -> bool:
    try:
        return requests.get(f"http://localhost:{port}/healthz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def _routes(log: Path) -> set[str]:
    """Return the routes of the requests in a gateway's log."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    return {line["route"] for line in lines if line.get("event") == "request"}
