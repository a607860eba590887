"""Eight uploads at once, their memory, and the memory of large bodies compared with small ones.

.venv/bin/python -m benchmarks.many_uploads [--smoke]
"""

from collections.abc import Callable, Sequence

from benchmarks.measures import MEBIBYTE, Report, Rounds, Scale
from benchmarks.native_programs import BodyFiles
from benchmarks.running import run_alone
from benchmarks.world import Gateway, World, forget_peak, peak_bytes, resident_bytes, settle

UPLOADS = 8
_PEOPLE = tuple(f"u-many-{number}" for number in range(UPLOADS))


def measure(world: World, scale: Scale) -> Report:
    """Measure the total speed compared with nginx, and the growth of the worker that grew most."""
    report = Report(f"{UPLOADS} uploads of {scale.one_of_many_bytes >> 20} MiB at once")
    body = world.body(scale.one_of_many_bytes)
    gateway = fresh_gateway(world, "many") if scale.is_full else world.gateway()
    idle = {pid: resident_bytes(pid) for pid in gateway.worker_pids()}
    for pid in idle:
        forget_peak(pid)

    def through_nginx(port: int) -> float:
        return world.upload(port, body, [world.head(port, body)] * UPLOADS)

    rounds = Rounds()
    rounds.run(
        {
            "nginx, default buffer": lambda: {"MB/s": through_nginx(world.nginx.default_port)},
            "nginx, 256k buffer": lambda: {"MB/s": through_nginx(world.nginx.large_port)},
            "gateway": lambda: {"MB/s": world.send_to(gateway, body, *_PEOPLE)},
        },
        rounds=scale.rounds,
    )
    rounds.tell(report)
    speed = rounds.median("gateway", "MB/s")
    report.add("uploads_8_vs_nginx_default", speed / rounds.median("nginx, default buffer", "MB/s"), at_least=1.7)
    report.add("uploads_8_vs_nginx_256k", speed / rounds.median("nginx, 256k buffer", "MB/s"))
    grown = max(peak_bytes(pid) - size for pid, size in idle.items()) / MEBIBYTE
    report.note("gateway", "MiB idle", max(idle.values()) / MEBIBYTE)
    report.add("uploads_8_worker_growth_mib", grown, at_most=32, unit="MiB", is_compared=False)
    if scale.is_full:
        _compare_sizes(world, report)
    return report


def _compare_sizes(world: World, report: Report) -> None:
    """Compare small and large bodies, with a fresh gateway each: a worker does not return its memory."""
    small, large = world.body(100 * MEBIBYTE), world.body(4096 * MEBIBYTE)
    # The same number of bytes for both: a heap needs a few GB of traffic to reach its size.
    of_small = _growth(world, small, uploads=80)
    of_large = _growth(world, large, uploads=2)
    report.note("80 bodies of 100 MiB", "MiB growth", of_small)
    report.note("2 bodies of 4 GiB", "MiB growth", of_large)
    # A difference of one chunk is chance.
    report.add("memory_4gib_minus_100mib", of_large - of_small, at_most=1.0, unit="MiB", is_compared=False)


def _growth(world: World, body: BodyFiles, *, uploads: int) -> float:
    gateway = fresh_gateway(world, "many")

    def send() -> None:
        for _ in range(uploads):
            world.send_to(gateway, body, "u-many-0")

    return growth_mib(gateway.worker_pids(), send)


def growth_mib(pids: Sequence[int], work: Callable[[], None]) -> float:
    """Return the largest growth of a process during `work`, at its peak."""
    idle = {pid: resident_bytes(pid) for pid in pids}
    for pid in pids:
        forget_peak(pid)
    work()
    return max(peak_bytes(pid) - size for pid, size in idle.items()) / MEBIBYTE


def fresh_gateway(world: World, name: str) -> Gateway:
    """Start a gateway and send it small requests, so that everything that loads at first use is loaded."""
    world.end_gateway(name)
    gateway = world.gateway(name)
    tiny = world.body(1_000)
    for _ in range(4):
        world.send_to(gateway, tiny, *_PEOPLE)
    settle()
    return gateway


if __name__ == "__main__":
    run_alone(measure)
