"""How fast polls are answered while four large uploads go on, beside nginx's static files while it proxies the same.

The same load is the same bytes a second: what nginx with its defaults can pass on. As fast as each of them goes, they
do not have the same load, for the gateway then moves three times as much; that is measured too, without a target, and
once more with a second gateway that takes the uploads (docs/deployment.md).

.venv/bin/python -m benchmarks.polls_under_load [--smoke]
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.measures import MeasuringError, Report, Rounds, Scale
from benchmarks.native_programs import BodyFiles
from benchmarks.running import run_alone
from benchmarks.world import Gateway, World, settle
from tests.support.processes import wait_until

UPLOADS = 4
POLLERS = 4
PAUSE_MICROSECONDS = 5_000
#: Of each upload, where both have the same load.
BYTES_PER_SECOND = 100_000_000
#: Never sent to the end: the clients are ended when enough polls are answered.
_ENDLESS_BYTES = 1 << 38


def measure(world: World, scale: Scale) -> Report:
    """Latencies of polls of one job (coalesced: one upstream call a second), in milliseconds."""
    gateway = world.gateway()
    shared = {"VISIONA_DATABASE_URL": f"sqlite:///{gateway.stack.database_path}"}
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

    def of_nginx(rate: int = 0) -> dict[str, float]:
        with uploading(world, world.nginx.default_port, body, past_nginx, rate):
            return ask(world.nginx.static_port, static)

    def of_gateway(rate: int = 0, taker: Gateway = gateway) -> dict[str, float]:
        # New heads each time: an upload that was cut off a moment ago may still hold its user's lease.
        heads = [
            world.head(taker.port, body, cookie=taker.person(f"u-load-{number}").cookie_header)
            for number in range(UPLOADS)
        ]
        with uploading(world, taker.port, body, heads, rate):
            answers = ask(gateway.port, poll)
        wait_until(lambda: _leases_are_free(taker), "the uploads have ended", seconds=20)
        return answers

    rounds = Rounds()
    ways = {
        "nginx, a static file": partial(of_nginx, BYTES_PER_SECOND),
        "gateway, a poll": partial(of_gateway, BYTES_PER_SECOND),
        "nginx, at full speed": of_nginx,
        "gateway, at full speed": of_gateway,
    }
    if scale.is_full:
        ways["gateway, uploads apart, at full speed"] = partial(of_gateway, taker=apart)
    rounds.run(ways, rounds=3, warm_up=False)
    rounds.tell(report := Report(f"Polls during {UPLOADS} uploads"))
    p99 = {name: rounds.median(name, "ms p99") for name in ways}
    report.add(
        "poll_p99_during_4_uploads_vs_nginx_static", p99["gateway, a poll"] / p99["nginx, a static file"], at_most=1.0
    )
    report.add("poll_p99_at_full_speed_vs_nginx_static", p99["gateway, at full speed"] / p99["nginx, at full speed"])
    if scale.is_full:
        of_apart = p99["gateway, uploads apart, at full speed"]
        report.add("poll_p99_uploads_apart_vs_nginx_static", of_apart / p99["nginx, at full speed"])
    return report


def job_of(world: World, gateway: Gateway, name: str) -> tuple[str, str]:
    """Start a job; the path of its poll, and its owner's Cookie header."""
    person = gateway.person(name)
    body = world.body(1_000)
    message = body.prefix.read_bytes() + world.block.read_bytes()[:1_000] + body.tail.read_bytes()
    response = person.post("/api/conversion/init", data=message, headers={"Content-Type": body.content_type})
    if response.status_code != 201:
        raise MeasuringError(f"the job to be polled was answered by {response.status_code}")
    return f"/api/conversion/{json.loads(response.content)['job_id']}", person.cookie_header


@contextmanager
def uploading(world: World, port: int, body: BodyFiles, heads: list[Path], rate: int) -> Iterator[None]:
    """Have uploads go on for the length of the block, at `rate` bytes a second (0: at full speed) each.

    Raises MeasuringError if they have not.
    """
    command = world.programs.send_command(port, body, heads)
    environment = {**os.environ, "BENCH_SEND_RATE": str(rate)}
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        settle()
        yield
        if client.poll() is not None:
            raise MeasuringError("the uploads ended while polls were measured")
    finally:
        client.kill()
        client.wait()


def _leases_are_free(gateway: Gateway) -> bool:
    """Would each of those who uploaded be let in again?"""
    form = {"model_id": "1", "version": "v1", "platform": "720", "filename": "model.onnx", "size": "1000"}
    return all(
        gateway.person(f"u-load-{number}").post("/api/conversion/check", data=form).status_code == 200
        for number in range(UPLOADS)
    )


if __name__ == "__main__":
    run_alone(measure)
