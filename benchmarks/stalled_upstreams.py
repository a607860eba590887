"""How fast are polls while other callers hang on a stalled upstream? Figures for docs/reliability.md.

    .venv/bin/python -m benchmarks.stalled_upstreams

Starts a gateway as delivered (two workers, real timeouts) and a sandbox on loopback, and stops both within a minute.
Prints a table and writes var/stalled_upstreams.json.
"""

import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path

from app.config import ROOT, Settings
from sandbox.settings import CONVERTER, FILE_ACCESS, MEMBER_CENTER
from tests.support.clients import Client, RawConnection
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack

WORKERS = 2
POLLERS = 4
WINDOW_SECONDS = 4.0
PAUSE_SECONDS = 0.02
SETTLING_SECONDS = 1.5
STALL_SECONDS = 3_600
FEW, MANY = 30, 100
#: The longest wait for a response; a response that has not arrived by then counts with this time.
PATIENCE_SECONDS = 8.0


@dataclass(frozen=True)
class Figures:
    """Latencies of one kind of request while an upstream hangs, in milliseconds."""

    scene: str
    request: str
    hanging: int
    count: int
    unanswered: int
    #: Responses with the stalled upstream's "unavailable" (docs/adr/0008).
    refused: int
    p50_ms: float
    p99_ms: float
    slowest_ms: float


#: Seconds and status.
Answered = tuple[float, int]


@dataclass(frozen=True)
class Owner:
    """A signed-in user with a job."""

    client: Client
    job_id: str


def main() -> None:
    """Measure every scenario, print the table, write the JSON."""
    started = time.monotonic()
    figures: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {"VISIONA_DRAIN_SECONDS": "0"}
        stack = ScaledStack(Path(folder), environment=environment, application="wsgi:app", workers=WORKERS)
        try:
            watchers, callers = _owners(stack, "watcher", POLLERS), _owners(stack, "caller", MANY)
            for caller in callers:
                stack.sandbox.complete(caller.job_id)
            promote, poll, download = (
                ("POST", "/api/conversion/{}/promote-to-models"),
                ("GET", "/api/conversion/{}"),
                ("GET", "/api/conversion/{}/download"),
            )
            scenes: list[tuple[str, str, str, tuple[str, str], int]] = [
                ("nothing is wrong", "", "", poll, 0),
                ("FAA stalls, callers promote", FILE_ACCESS, "get_file", promote, FEW),
                ("MC stalls, callers download", MEMBER_CENTER, "download_tokens", download, FEW),
                ("converter stalls, callers poll", CONVERTER, "get_job", poll, FEW),
                ("converter stalls, callers poll", CONVERTER, "get_job", poll, MANY),
            ]
            for name, service, call, ask, count in scenes:
                with _hanging(stack, callers[:count], service, call, ask) as hanging:
                    figures += _measure(name, hanging, watchers)
        finally:
            # A normal stop would wait for the requests that still hang.
            stack.kill_gateway()
            stack.sandbox.close()
    _print(figures)
    report = {
        "cores": os.cpu_count(),
        "workers": WORKERS,
        "threads_a_worker": Settings.model_fields["worker_threads"].default,
        "seconds": round(time.monotonic() - started, 1),
        "figures": [asdict(row) for row in figures],
    }
    path = ROOT / "var" / "stalled_upstreams.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\n{report['seconds']} s in all; written to {path.relative_to(ROOT)}")


def _owners(stack: ScaledStack, kind: str, count: int) -> list[Owner]:
    def make(number: int) -> Owner:
        client = stack.person(f"u-{kind}-{number}")
        return Owner(client, stack.upload(client))

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(make, range(count)))


@contextmanager
def _hanging(
    stack: ScaledStack, callers: Sequence[Owner], service: str, call: str, ask: tuple[str, str]
) -> Iterator[int]:
    """Let the callers hang on a stalled service; yield how many of them hang."""
    if not callers:
        yield 0
        return
    for number in range(len(callers)):
        stack.sandbox.fault(service, call=call, user=f"u-caller-{number}", stall_seconds=STALL_SECONDS)
    before = len(stack.sandbox.calls(service, call))
    connections: list[RawConnection] = []
    method, path = ask
    for caller in callers:
        connection = stack.connect()
        connections.append(connection)
        connection.send_head(
            method, path.format(caller.job_id), {"Cookie": caller.client.cookie_header, "Content-Length": "0"}
        )

    def hanging() -> int:
        return len(stack.sandbox.calls(service, call)) - before

    try:
        # Fewer than callers if all transfer slots or threads are in use.
        yield _settled(hanging)
    finally:
        for connection in connections:
            connection.close()
        # The hanging calls are cut off; their retries succeed.
        stack.sandbox.stop(service)
        stack.sandbox.start(service)
        wait_until(lambda: _is_quick(stack), "the gateway has threads again", seconds=15)


def _settled(count: Callable[[], int]) -> int:
    """Return the count once it has not changed for a while, so that no late arrivals are measured."""
    seen, since = count(), time.monotonic()
    while time.monotonic() - since < SETTLING_SECONDS or not seen:
        time.sleep(0.05)
        if (now := count()) != seen:
            seen, since = now, time.monotonic()
    return seen


def _is_quick(stack: ScaledStack) -> bool:
    started = time.monotonic()
    with stack.connect() as connection:
        connection.send_head("GET", "/healthz").read_response()
    return time.monotonic() - started < 0.05


def _measure(scene: str, hanging: int, watchers: Sequence[Owner]) -> list[Figures]:
    """Poll the watchers' jobs, and send requests that need no upstream, at the same time."""
    asked: dict[str, list[Answered | None]] = {"poll": [], "/api/models": [], "/healthz": []}
    guard, ends_at = threading.Lock(), time.monotonic() + WINDOW_SECONDS

    def keep_asking(kind: str, ask: Callable[[], int]) -> None:
        while time.monotonic() < ends_at:
            started = time.perf_counter()
            answered: Answered | None
            try:
                status = ask()
                answered = (time.perf_counter() - started, status)
            except OSError:
                answered = None
            with guard:
                asked[kind].append(answered)
            time.sleep(PAUSE_SECONDS)

    def getting(client: Client, path: str) -> Callable[[], int]:
        return lambda: client.get(path, timeout=PATIENCE_SECONDS).status_code

    work = [("poll", getting(owner.client, f"/api/conversion/{owner.job_id}")) for owner in watchers]
    first = watchers[0].client
    work += [("/api/models", getting(first.clone(), "/api/models")), ("/healthz", getting(first.clone(), "/healthz"))]
    threads = [threading.Thread(target=keep_asking, args=what) for what in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [_figures(scene, kind, hanging, responses) for kind, responses in asked.items()]


def _figures(scene: str, request: str, hanging: int, responses: Sequence[Answered | None]) -> Figures:
    taken = sorted((PATIENCE_SECONDS if one is None else one[0]) * 1_000 for one in responses)
    p99 = statistics.quantiles(taken, n=100)[98] if len(taken) > 1 else taken[0]
    unanswered = sum(one is None for one in responses)
    refused = sum(one is not None and one[1] != HTTPStatus.OK for one in responses)
    return Figures(
        scene,
        request,
        hanging,
        len(taken),
        unanswered,
        refused,
        round(statistics.median(taken), 1),
        round(min(p99, taken[-1]), 1),
        round(taken[-1], 1),
    )


def _print(figures: Sequence[Figures]) -> None:
    header = f"{'scene':34}{'hanging':>8}  {'request':12}{'count':>6}{'lost':>6}{'refused':>9}"
    print(header + f"{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for row in figures:
        print(
            f"{row.scene:34}{row.hanging:>8}  {row.request:12}{row.count:>6}{row.unanswered:>6}{row.refused:>9}"
            f"{row.p50_ms:>9.1f}{row.p99_ms:>9.1f}{row.slowest_ms:>9.1f}"
        )


if __name__ == "__main__":
    main()
