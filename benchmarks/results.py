"""Storing a result, compared with curl, sha256sum and sync; and serving it, compared with nginx.

.venv/bin/python -m benchmarks.results [--smoke]
"""

import hashlib
import os
import shlex
import subprocess
import time
from pathlib import Path

from benchmarks.measures import MEGABYTE, MeasuringError, Report, Rounds, Scale
from benchmarks.running import run_alone
from benchmarks.world import BLOCK_BYTES, Gateway, World

_SECONDS = 120


def measure(world: World, scale: Scale) -> Report:
    """Measure both ways of storing, on the same file system and from the same sink, in MB/s."""
    size = scale.result_bytes
    sink_port = world.sink("completed", size)
    upstream = f"http://127.0.0.1:{sink_port}"
    gateway = world.gateway(
        "results", {"VISIONA_CONVERTER_BASE_URL": upstream, "VISIONA_FAA_BASE_URL": upstream}, sink_port=sink_port
    )
    person = gateway.person("u-results")
    expected = hashlib.sha256(world.block.read_bytes() * (size // BLOCK_BYTES)).hexdigest()
    target = world.directory / "by-hand.nef"

    def by_hand() -> dict[str, float]:
        os.sync()
        name = shlex.quote(str(target))
        script = (
            f"curl -sS --noproxy '*' -o {name} {upstream}/files/bench/result.nef && sha256sum {name} && sync {name}"
        )
        started = time.perf_counter()
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=_SECONDS)
        seconds = time.perf_counter() - started
        if done.returncode or expected not in done.stdout:
            raise MeasuringError(f"curl and sha256sum failed: {done.stderr.strip()}")
        target.unlink()
        return {"MB/s": size / MEGABYTE / seconds}

    def promote() -> dict[str, float]:
        job_id = _new_job(world, gateway)
        os.sync()
        started = time.perf_counter()
        response = person.post(f"/api/conversion/{job_id}/promote-to-models", timeout=_SECONDS)
        seconds = time.perf_counter() - started
        if response.status_code != 201 or response.json()["sha256"] != expected:
            raise MeasuringError(f"promote was answered by {response.status_code}")
        if person.delete(f"/api/models/{response.json()['id']}").status_code != 204:
            raise MeasuringError("the promoted model could not be deleted")
        return {"MB/s": size / MEGABYTE / seconds}

    rounds = Rounds()
    rounds.run({"curl, sha256sum, sync": by_hand, "gateway, promote": promote}, rounds=scale.rounds)
    rounds.tell(report := Report(f"A result of {size >> 20} MiB"))
    ratio = rounds.median("gateway, promote", "MB/s") / rounds.median("curl, sha256sum, sync", "MB/s")
    report.add("promote_vs_curl_sha256sum_sync", ratio, at_least=0.7)
    if scale.is_full:
        _measure_downloads(world, gateway, size, report)
    return report


def _measure_downloads(world: World, gateway: Gateway, size: int, report: Report) -> None:
    """Compare a file of the library with nginx's static file of the same bytes."""
    person = gateway.person("u-results")
    promoted = person.post(f"/api/conversion/{_new_job(world, gateway)}/promote-to-models", timeout=_SECONDS)
    if promoted.status_code != 201:
        raise MeasuringError(f"promote was answered by {promoted.status_code}")
    path = f"/api/models/{promoted.json()['id']}/file"
    ours = world.request(gateway.port, "GET", path, person.cookie_header)
    (world.nginx.files / "result.nef").write_bytes(world.block.read_bytes() * (size // BLOCK_BYTES))
    theirs = world.request(world.nginx.static_port, "GET", "/result.nef")

    def fetch(port: int, request: Path) -> dict[str, float]:
        fetched = world.fetch(port, request)
        if fetched.status != 200 or fetched.response_bytes != size:
            raise MeasuringError(f"a download brought {fetched.status} and {fetched.response_bytes} bytes")
        return {"MB/s": size / MEGABYTE / fetched.seconds}

    rounds = Rounds()
    rounds.run(
        {
            "nginx, static file": lambda: fetch(world.nginx.static_port, theirs),
            "gateway, library file": lambda: fetch(gateway.port, ours),
        },
        rounds=3,
    )
    rounds.tell(report)
    ratio = rounds.median("gateway, library file", "MB/s") / rounds.median("nginx, static file", "MB/s")
    report.add("library_file_vs_nginx_static", ratio)


def _new_job(world: World, gateway: Gateway) -> str:
    """Start a job, which the sink completes at once; return its id."""
    body = world.body(1_000)
    message = body.prefix.read_bytes() + world.block.read_bytes()[:1_000] + body.tail.read_bytes()
    headers = {"Content-Type": body.content_type}
    response = gateway.person("u-results").post("/api/conversion/init", data=message, headers=headers)
    if response.status_code != 201:
        raise MeasuringError(f"a job was answered by {response.status_code}")
    return str(response.json()["job_id"])


if __name__ == "__main__":
    run_alone(measure)
