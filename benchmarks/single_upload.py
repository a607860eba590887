"""One upload at a time: directly, through nginx, and through the gateway in several ways.

.venv/bin/python -m benchmarks.single_upload [--smoke]
"""

from collections.abc import Callable, Mapping

from benchmarks.measures import Report, Rounds, Scale
from benchmarks.running import run_alone
from benchmarks.tls_sink import tls_gateway
from benchmarks.world import Gateway, World, with_cpu_time

#: The chunks of a client that sends chunked: the size that curl and Node use.
CHUNK_BYTES = 64 * 1024

Way = Callable[[], Mapping[str, float]]


def measure(world: World, scale: Scale) -> Report:
    """Send one model each way, in turns; measure MB/s and the CPU time between client and sink."""
    body = world.body(scale.upload_bytes)
    plain = world.gateway()

    def past(port: int) -> float:
        return world.upload(port, body, [world.head(port, body)])

    def by_nginx(port: int) -> Way:
        return lambda: with_cpu_time(world.nginx.pids(), lambda: past(port), body.bytes)

    ways: dict[str, Way] = {
        "direct": lambda: {"MB/s": past(world.sink_port)},
        "nginx, default buffer": by_nginx(world.nginx.default_port),
        "nginx, 256k buffer": by_nginx(world.nginx.large_port),
        "gateway": lambda: with_cpu_time(plain.pids(), lambda: world.send_to(plain, body, "u-one"), body.bytes),
    }
    rounds = Rounds()
    rounds.run(ways, rounds=scale.rounds)
    report = Report(f"One upload of {scale.upload_bytes >> 20} MiB")
    rounds.tell(report)
    speed = {name: rounds.median(name, "MB/s") for name in ways}
    report.add("upload_vs_nginx_default", speed["gateway"] / speed["nginx, default buffer"], at_least=2.0)
    report.add("upload_vs_nginx_256k", speed["gateway"] / speed["nginx, 256k buffer"], at_least=0.8)
    report.add("upload_vs_direct", speed["gateway"] / speed["direct"])
    cpu = rounds.median("gateway", "CPU s/GB")
    report.add("upload_cpu_seconds_per_gb", cpu, at_most=0.6, unit="CPU s/GB", is_compared=False)
    report.add("upload_cpu_vs_nginx_default", cpu / max(rounds.median("nginx, default buffer", "CPU s/GB"), 0.001))
    if scale.is_full:
        _add_other_ways(world, scale, report)
    return report


def _add_other_ways(world: World, scale: Scale, report: Report) -> None:
    """Measure what a chunked request body, hashing, and an HTTPS upstream cost."""
    body = world.body(scale.upload_bytes // 2)
    plain, encrypting = world.gateway(), tls_gateway(world)
    hashing = world.gateway("digest", {"VISIONA_UPLOAD_DIGEST": "sha256"})

    def through(gateway: Gateway, chunk_bytes: int = 0) -> Way:
        return lambda: with_cpu_time(
            gateway.pids(), lambda: world.send_to(gateway, body, "u-one", chunk_bytes=chunk_bytes), body.bytes
        )

    ways = {
        "gateway, half as much": through(plain),
        "gateway, chunked inbound": through(plain, CHUNK_BYTES),
        "gateway, SHA-256": through(hashing),
        "gateway, HTTPS upstream": through(encrypting),
    }
    rounds = Rounds()
    rounds.run(ways, rounds=3)
    rounds.tell(report)
    usual = rounds.median("gateway, half as much", "MB/s")
    report.add("upload_chunked_vs_plain", rounds.median("gateway, chunked inbound", "MB/s") / usual)
    report.add("upload_sha256_vs_plain", rounds.median("gateway, SHA-256", "MB/s") / usual)
    cpu = {name: rounds.median(name, "CPU s/GB") for name in ways}
    report.add("upload_sha256_cpu_vs_plain", cpu["gateway, SHA-256"] / max(cpu["gateway, half as much"], 0.001))
    report.add("upload_https_upstream_vs_plain", rounds.median("gateway, HTTPS upstream", "MB/s") / usual)


if __name__ == "__main__":
    run_alone(measure)
