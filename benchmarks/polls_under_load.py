"""How fast polls are during four large uploads at full speed, compared with nginx's static files.

nginx serves its file while it proxies four uploads of the same kind; the gateway moves more bytes per second meanwhile.
The full run measures again with a second gateway for the uploads (docs/deployment.md).

.venv/bin/python -m benchmarks.polls_under_load [--smoke]
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measures import MeasuringError, Report, Rounds, Scale
from benchmarks.native_programs import BodyFiles
from benchmarks.running import run_alone
from benchmarks.world import Gateway, World, settle
from tests.support.processes import wait_until

UPLOADS = 4
POLLERS = 4
PAUSE_MICROSECONDS = 5_000
#: The target for the median of a poll during the uploads.
MOST_MEDIAN_MILLISECONDS = 12
#: Never sent to the end: the clients are stopped after enough polls.
_ENDLESS_BYTES = 1 << 38


def measure(world: World, scale: Scale) -> Report:
    """Measure latencies of polls of one job (single flight: one upstream call per second), in milliseconds."""
    gateway = world.gateway()
    shared = {
        "VISIONA_DATABASE_URL": f"sqlite:///{gateway.stack.database_path}",
        "VISIONA_STORAGE_URL": gateway.stack.storage_path.as_uri(),
    }
    apart = world.gateway("uploads", shared) if scale.is_full else gateway
    path, watcher = job_of(world, gateway, "u-watcher")
    poll = world.request(gateway.port, "GET", path, watcher)
    sample = gateway.person("u-watcher").get(path).content
    (world.nginx.files / "job.json").write_bytes(sample)
    static = world.request(world.nginx.static_port, "GET", "/job.json")
    body = world.body(_ENDLESS_BYTES)
    past_nginx = [world.head(world.nginx.default_port, body)] * UPLOADS

    def ask(port: int, request: Path) -> dict[str, float]:
        polled = world.poll(
            port, request, threads=POLLERS, pause_microseconds=PAUSE_MICROSECONDS, seconds=scale.window_seconds
        )
        return {"ms p50": polled.p50, "ms p99": polled.p99, "ms most": polled.slowest, "polls": polled.count}

    def of_nginx() -> dict[str, float]:
        with uploading(world, world.nginx.default_port, body, past_nginx):
            return ask(world.nginx.static_port, static)

    def of_gateway(taker: Gateway = gateway) -> dict[str, float]:
        # New heads each time: an upload that was just cut off may still hold its user's lease.
        heads = [
            world.head(taker.port, body, cookie=taker.person(f"u-load-{number}").cookie_header)
            for number in range(UPLOADS)
        ]
        with uploading(world, taker.port, body, heads):
            responses = ask(gateway.port, poll)
        wait_until(lambda: _leases_are_free(taker), "the uploads have ended", seconds=20)
        return responses

    rounds = Rounds()
    ways = {"nginx, a static file": of_nginx, "gateway, a poll": of_gateway}
    if scale.is_full:
        ways["gateway, a poll, uploads apart"] = partial(of_gateway, apart)
    rounds.run(ways, rounds=3, warm_up=False)
    rounds.tell(report := Report(f"Polls during {UPLOADS} uploads at full speed"))
    median = rounds.median("gateway, a poll", "ms p50")
    report.add("poll_median_during_4_uploads", median, at_most=MOST_MEDIAN_MILLISECONDS, unit="ms", is_compared=False)
    report.add("poll_median_vs_nginx_static", median / rounds.median("nginx, a static file", "ms p50"))
    if scale.is_full:
        report.add(
            "poll_median_uploads_apart_vs_together", rounds.median("gateway, a poll, uploads apart", "ms p50") / median
        )
    return report


def job_of(world: World, gateway: Gateway, name: str) -> tuple[str, str]:
    """Start a job; return the path of its poll and its owner's Cookie header."""
    return f"/api/conversion/{start_job(world, gateway, name)['job_id']}", gateway.person(name).cookie_header


def start_job(world: World, gateway: Gateway, name: str) -> dict[str, Any]:
    """Start a job with a small upload; return the gateway's response."""
    person = gateway.person(name)
    body = world.body(1_000)
    message = body.prefix.read_bytes() + world.block.read_bytes()[:1_000] + body.tail.read_bytes()
    response = person.post("/api/conversion/init", data=message, headers={"Content-Type": body.content_type})
    if response.status_code != 201:
        raise MeasuringError(f"the job to be polled was answered by {response.status_code}")
    return dict(json.loads(response.content))


@contextmanager
def uploading(world: World, port: int, body: BodyFiles, heads: list[Path]) -> Iterator[None]:
    """Run uploads during the block. Raises MeasuringError if one ends earlier."""
    command = world.programs.send_command(port, body, heads)
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        settle()
        yield
        if client.poll() is not None:
            raise MeasuringError("the uploads ended while polls were measured")
    finally:
        client.kill()
        client.wait()


def _leases_are_free(gateway: Gateway) -> bool:
    """Return whether each of the uploading users could upload again."""
    form = {"model_id": "1", "version": "v1", "platform": "720", "filename": "model.onnx", "size": "1000"}
    return all(
        gateway.person(f"u-load-{number}").post("/api/conversion/check", data=form).status_code == 200
        for number in range(UPLOADS)
    )


if __name__ == "__main__":
    run_alone(measure)
