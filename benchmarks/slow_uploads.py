"""Hundreds of slow uploads at once, in the gateway and in nginx, and what else is answered meanwhile.

A client sends 20 KB/s, as over a slow home connection, in pieces every 100 ms. While all uploads are in progress, the
part measures the CPU time and memory they take, polls, a fast upload, promotes and library downloads. Then the clients
send the rest, and each upload must have arrived whole. The gateway has its default settings.

.venv/bin/python -m benchmarks.slow_uploads [--smoke]
"""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.measures import MEBIBYTE, MEGABYTE, MeasuringError, Report, Scale
from benchmarks.native_programs import BodyFiles
from benchmarks.polls_under_load import start_job
from benchmarks.running import run_alone
from benchmarks.world import (
    Gateway,
    World,
    busy_seconds,
    context_switches,
    cpu_seconds,
    forget_peak,
    peak_bytes,
    resident_bytes,
    settle,
)

BYTES_PER_SECOND = 20_000
#: What an upload would take at that rate; the measurements must be done before.
_UPLOAD_SECONDS = 90
_STARTS_PER_SECOND = 50
#: Connections that poll, as nginx's idle connections to the gateway do. Each job is polled every two seconds, as its
#: Retry-After asks for. So the cache of a second never helps.
_POLLERS = 8
_POLL_EVERY_SECONDS = 2.0
_FAST_UPLOADS = 5
_RESULTS = 3
_RESULT_BYTES = 16 * MEBIBYTE


@dataclass(frozen=True)
class Load:
    """A number of slow uploads, the workers of the gateway, and the number of jobs that are polled meanwhile."""

    uploads: int
    workers: int
    jobs: int
    #: How many jobs are polled when there are no uploads, for benchmarks/simulate_fleet.py; 0 to leave that out.
    jobs_alone: int = 0


# An upload of a large model at this rate takes several times as long as its conversion.
FULL_LOADS = (Load(500, 2, 100, jobs_alone=400), Load(1_000, 4, 100))
SMOKE_LOADS = (Load(40, 2, 40),)


@dataclass(frozen=True)
class Server:
    """What accepts the uploads: the gateway, or nginx alone. Polls may have a port of their own."""

    port: int
    pids: Sequence[int]
    heads: Sequence[Path]
    poll_port: int
    polls: Sequence[Path]
    #: Makes a fast upload and returns its MB/s.
    upload_fast: Callable[[], float]
    #: Other requests, each answered during the uploads; returns what it measured.
    ask_others: Callable[[], dict[str, float]]


def measure(world: World, scale: Scale) -> Report:
    """Measure each load in the gateway and in nginx."""
    report = Report(f"Many uploads at {BYTES_PER_SECOND // 1_000} KB/s")
    for load in FULL_LOADS if scale.is_full else SMOKE_LOADS:
        _compare(world, scale, load, report)
    return report


def _compare(world: World, scale: Scale, load: Load, report: Report) -> None:
    slow = world.body(BYTES_PER_SECOND * _UPLOAD_SECONDS)
    fast = world.body(scale.upload_bytes // 4)
    nginx = _measure(world, scale, load, slow, _nginx(world, load, slow, fast))
    name = f"slow-{load.uploads}"
    try:
        gateway = _gateway(world, load, name, slow, fast)
        ours = _measure(world, scale, load, slow, gateway)
        if load.jobs_alone:
            ours |= _poll(world, scale, gateway, gateway.polls[: load.jobs], "polls alone")
            ours |= _poll(world, scale, gateway, gateway.polls, "many polls alone")
    finally:
        world.end_gateway(name)
    for server, measured in (("nginx", nginx), ("gateway", ours)):
        for unit, value in measured.items():
            report.note(f"{server}, {load.uploads} slow uploads", unit, value)
    prefix = f"slow_{load.uploads}"
    report.add(f"{prefix}_accepted", ours["accepted"], at_least=1, unit="of all", is_compared=False)
    report.add(f"{prefix}_poll_p99", ours["ms p99 of polls"], at_most=30, unit="ms", is_compared=False)
    report.add(f"{prefix}_mb_per_upload", ours["MB per upload"], at_most=0.3, unit="MB", is_compared=False)
    ratio = "fast upload, of its speed alone"
    report.add(f"{prefix}_fast_upload_vs_alone", ours[ratio], at_least=0.7)
    report.add(f"{prefix}_fast_upload_vs_alone_nginx", nginx[ratio])
    cpu = "CPU ms/s per upload"
    if scale.is_full:  # a short run of nginx uses less CPU time than the kernel's clock can tell
        report.add(f"{prefix}_cpu_vs_nginx", ours[cpu] / nginx[cpu])


def _nginx(world: World, load: Load, slow: BodyFiles, fast: BodyFiles) -> Server:
    nginx = world.nginx
    (nginx.files / "slow.json").write_bytes(b'{"job_id":"bench"}' * 30)
    return Server(
        nginx.default_port,
        nginx.pids(),
        [world.head(nginx.default_port, slow)] * load.uploads,
        nginx.static_port,
        [world.request(nginx.static_port, "GET", "/slow.json")] * load.jobs,
        lambda: world.upload(nginx.default_port, fast, [world.head(nginx.default_port, fast)]),
        dict,
    )


def _gateway(world: World, load: Load, name: str, slow: BodyFiles, fast: BodyFiles) -> Server:
    sink_port = world.sink("running,completed", _RESULT_BYTES)
    upstream = f"http://127.0.0.1:{sink_port}"
    environment = {"VISIONA_CONVERTER_BASE_URL": upstream, "VISIONA_FAA_BASE_URL": upstream}
    gateway = world.gateway(name, environment, sink_port=sink_port, workers=load.workers)
    running, completed = [], {}
    with ThreadPoolExecutor(4) as threads:
        users = [f"u-job-{number}" for number in range(max(load.jobs, load.jobs_alone))]
        for user, job in zip(users, threads.map(partial(start_job, world, gateway), users), strict=True):
            path = f"/api/conversion/{job['job_id']}"
            if job["status"] == "running":
                running.append(world.request(gateway.port, "GET", path, gateway.person(user).cookie_header))
            elif len(completed) < _RESULTS:
                completed[user] = path
    # Everything that loads at first use must be loaded.
    tiny = world.body(1_000)
    for _ in range(4):
        world.send_to(gateway, tiny, *(f"u-warm-{number}" for number in range(8)))
    settle()
    return Server(
        gateway.port,
        gateway.worker_pids(),
        [
            world.head(gateway.port, slow, cookie=gateway.person(f"u-slow-{number}").cookie_header)
            for number in range(load.uploads)
        ],
        gateway.port,
        running,
        lambda: world.send_to(gateway, fast, "u-fast"),
        lambda: _store_and_download(gateway, completed),
    )


def _measure(world: World, scale: Scale, load: Load, slow: BodyFiles, server: Server) -> dict[str, float]:
    """Return everything that was measured, by unit."""
    before = [server.upload_fast() for _ in range(2)]
    settle()
    idle = {pid: resident_bytes(pid) for pid in server.pids}
    for pid in idle:
        forget_peak(pid)
    started = time.monotonic()
    with world.programs.slow_uploads(
        server.port,
        slow,
        server.heads,
        bytes_per_second=BYTES_PER_SECOND,
        ramp_seconds=load.uploads / _STARTS_PER_SECOND,
    ) as uploads:
        uploads.wait_until_sending()
        used, busy, began = cpu_seconds(server.pids), busy_seconds(), time.monotonic()
        time.sleep(scale.window_seconds if scale.is_full else 0.5)
        seconds = time.monotonic() - began
        upload_cpu, all_cpu = (cpu_seconds(server.pids) - used) / seconds, (busy_seconds() - busy) / seconds
        grown = sum(peak_bytes(pid) - size for pid, size in idle.items())
        polled = _poll(world, scale, server, server.polls[: load.jobs], "polls", upload_cpu)
        meanwhile = [server.upload_fast() for _ in range(_FAST_UPLOADS if scale.is_full else 2)]
        others = server.ask_others()
        if time.monotonic() - started > _UPLOAD_SECONDS:
            raise MeasuringError(f"the measurements took longer than {_UPLOAD_SECONDS} s, so slow uploads had ended")
        sent = uploads.finish()
    accepted = sum(one.status == 201 and one.received_bytes >= slow.filled_bytes for one in sent)
    if accepted < load.uploads:
        print(f"slow uploads by status: {dict(Counter(one.status for one in sent))}", file=sys.stderr)
    settle()
    alone = statistics.median([*before, *(server.upload_fast() for _ in range(2))])
    return {
        "accepted": accepted / load.uploads,
        "CPU ms/s per upload": upload_cpu * 1e3 / load.uploads,
        "CPU ms/s per upload, others": (all_cpu - upload_cpu) * 1e3 / load.uploads,
        "MB per upload": grown / MEGABYTE / load.uploads,
        "fast upload, MB/s alone": alone,
        "fast upload, MB/s": statistics.median(meanwhile),
        "fast upload, of its speed alone": statistics.median(meanwhile) / alone,
        **polled,
        **others,
    }


def _poll(
    world: World, scale: Scale, server: Server, polls: Sequence[Path], name: str, other_cpu: float = 0
) -> dict[str, float]:
    """Poll these jobs. `other_cpu` is the CPU time per second that the server uses for something else."""
    used, busy, switched = cpu_seconds(server.pids), busy_seconds(), context_switches(server.pids)
    polled = world.poll(
        server.poll_port,
        *polls,
        threads=_POLLERS,
        pause_microseconds=int(_POLL_EVERY_SECONDS * _POLLERS / len(polls) * 1e6),
        seconds=3 * scale.window_seconds if scale.is_full else 1,
    )
    used = cpu_seconds(server.pids) - used
    return {
        f"{name}/s": polled.count / polled.seconds,
        f"CPU ms per request, {name}": (used - other_cpu * polled.seconds) / polled.count * 1e3,
        f"cores busy, {name}": (busy_seconds() - busy) / polled.seconds,
        f"context switches per request, {name}": (context_switches(server.pids) - switched) / polled.count,
        f"ms p50 of {name}": polled.p50,
        f"ms p99 of {name}": polled.p99,
    }


def _store_and_download(gateway: Gateway, completed: dict[str, str]) -> dict[str, float]:
    """Promote these jobs and download their results, one by one; return the median seconds of both."""
    promotes, downloads = [], []
    for user, path in completed.items():
        person = gateway.person(user)
        started = time.perf_counter()
        promoted = person.post(f"{path}/promote-to-models", timeout=60)
        promotes.append(time.perf_counter() - started)
        if promoted.status_code != 201:
            raise MeasuringError(f"a promote during slow uploads was answered by {promoted.status_code}")
        started = time.perf_counter()
        file = person.get(f"/api/models/{promoted.json()['id']}/file", timeout=60)
        downloads.append(time.perf_counter() - started)
        if file.status_code != 200 or len(file.content) != _RESULT_BYTES:
            raise MeasuringError(f"a library download during slow uploads was answered by {file.status_code}")
    return {"s per promote": statistics.median(promotes), "s per library download": statistics.median(downloads)}


if __name__ == "__main__":
    run_alone(measure)
