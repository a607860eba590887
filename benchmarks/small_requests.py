"""Polls at full speed, compared with a route that does nothing; and the cost of a cached service token.

.venv/bin/python -m benchmarks.small_requests [--smoke]
"""

import sys
import threading
import time
import timeit
from collections.abc import Sequence
from pathlib import Path

from app.clients.tokens import IssuedToken, ServiceTokens
from app.domain.call import CallContext, Deadline
from benchmarks.measures import Report, Rounds, Scale
from benchmarks.polls_under_load import job_of
from benchmarks.running import run_alone
from benchmarks.world import World, cpu_seconds
from tests.support.processes import free_port

CLIENTS = 8
_CALLS, _RUNS = 5_000, 90


def measure(world: World, scale: Scale) -> Report:
    """Measure requests per second of eight clients on persistent connections, and microseconds per cached token."""
    gateway = world.gateway()
    path, cookie = job_of(world, gateway, "u-poller")
    sample = world.directory / "job.json"
    sample.write_bytes(gateway.person("u-poller").get(path).content)
    poll = world.request(gateway.port, "GET", path, cookie)
    bare_port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "benchmarks/bare_gunicorn.py", "benchmarks.bare_route:app"]
    command += ["--bind", f"127.0.0.1:{bare_port}"]
    environment = {**gateway.stack.environment(), "BENCH_ANSWER": str(sample)}
    bare_server = world.start("bare-route", command, bare_port, environment=environment)
    bare = world.request(bare_port, "GET", "/job")

    def ask(port: int, request: Path, pids: Sequence[int]) -> dict[str, float]:
        before = cpu_seconds(pids)
        polled = world.poll(
            port,
            request,
            threads=CLIENTS,
            pause_microseconds=0,
            seconds=scale.poll_seconds,
        )
        used = cpu_seconds(pids) - before
        return {
            "requests/s": polled.count / polled.seconds,
            "ms p99": polled.p99,
            # Other load on the machine changes the speed, but hardly the CPU time.
            "CPU ms/request": used / polled.count * 1e3,
        }

    rounds = Rounds()
    rounds.run(
        {
            "bare Flask route": lambda: ask(bare_port, bare, [bare_server.pid, *bare_server.worker_pids()]),
            "gateway, polls": lambda: ask(gateway.port, poll, gateway.pids()),
        },
        # Chance decides how eight connections are spread over two workers, and this matters most.
        rounds=2 * scale.rounds + 1 if scale.is_full else scale.rounds,
    )
    rounds.tell(report := Report(f"Polls of one job by {CLIENTS} clients"))
    ratio = rounds.median("gateway, polls", "requests/s") / rounds.median("bare Flask route", "requests/s")
    report.add("polls_vs_bare_flask", ratio, at_least=0.45)
    cpu = rounds.median("gateway, polls", "CPU ms/request") / rounds.median("bare Flask route", "CPU ms/request")
    report.add("polls_cpu_vs_bare_flask", cpu)
    report.add("cached_token_microseconds", cached_token_microseconds(), at_most=3, unit="µs", is_compared=False)
    return report


def cached_token_microseconds() -> float:
    """Return the microseconds of one `service_token` from the cache: the best of many runs.

    A cached token needs no other process, so whatever makes a run slower is other load (see `timeit.Timer.repeat`).
    """

    def fetch(_scope: str, _context: CallContext) -> IssuedToken:
        return IssuedToken("a token", time.monotonic(), 3_600)

    tokens = ServiceTokens(fetch, wait=threading.Event.wait)
    context = CallContext(Deadline(60, time.monotonic), {})
    tokens.service_token("a scope", context)
    runs = timeit.repeat(lambda: tokens.service_token("a scope", context), number=_CALLS, repeat=_RUNS)
    return min(runs) / _CALLS * 1e6


if __name__ == "__main__":
    run_alone(measure)
