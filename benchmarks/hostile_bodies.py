"""Bodies that are slow to parse, compared with a random one of the same size.

.venv/bin/python -m benchmarks.hostile_bodies [--smoke]
"""

from collections.abc import Callable

from benchmarks.many_uploads import fresh_gateway
from benchmarks.measures import MEBIBYTE, Report, Rounds, Scale
from benchmarks.native_programs import BodyFiles
from benchmarks.running import run_alone
from benchmarks.world import BOUNDARY, World, forget_peak, peak_bytes

#: VISIONA_MAX_PARTS, without the parts that every body has.
TINY_PARTS = 1_990
_MOST_GROWTH_MIB = 32


def measure(world: World, scale: Scale) -> Report:
    """Measure the speed of each kind of body, and the memory beyond that of a random body."""
    size = scale.hostile_bytes
    # Near boundaries: one without its last character, one without its dashes.
    blocks = {
        "all CR LF": b"\r\n",
        "half boundaries": f"\r\n--{BOUNDARY[:-1]}".encode(),
        "boundary without dashes": BOUNDARY.encode(),
        "boundary after one dash": f"\r\n-{BOUNDARY}".encode(),
    }
    tiny = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="ref_images"; filename="{number}.png"\r\n'
        "Content-Type: image/png\r\n\r\nx\r\n".encode()
        for number in range(TINY_PARTS)
    )
    bodies: dict[str, BodyFiles] = {"random": world.body(size)}
    bodies |= {name: world.body(size, block=block) for name, block in blocks.items()}
    bodies["2000 tiny parts first"] = world.body(size, before=tiny)
    bodies["2000 tiny parts alone"] = world.body(1, before=tiny)
    gateway = fresh_gateway(world, "hostile") if scale.is_full else world.gateway()
    peaks: dict[str, int] = {}

    def way(name: str, body: BodyFiles) -> Callable[[], dict[str, float]]:
        def send() -> dict[str, float]:
            for pid in gateway.worker_pids():
                forget_peak(pid)
            speed = world.send_to(gateway, body, "u-hostile")
            peaks[name] = max([peaks.get(name, 0), *(peak_bytes(pid) for pid in gateway.worker_pids())])
            return {"MB/s": speed}

        return send

    rounds = Rounds()
    rounds.run({name: way(name, body) for name, body in bodies.items()}, rounds=3 if scale.is_full else 2)
    rounds.tell(report := Report(f"Hostile bodies of {size >> 20} MiB"))
    usual = rounds.median("random", "MB/s")
    for name in bodies:
        if name not in {"random", "2000 tiny parts alone"}:
            key = "hostile_" + name.lower().replace(" ", "_")
            report.add(key, rounds.median(name, "MB/s") / usual, at_least=0.3)
    alone = bodies["2000 tiny parts alone"]
    seconds = alone.bytes / 1e6 / rounds.median("2000 tiny parts alone", "MB/s")
    report.note("2000 tiny parts alone", "parts/s", TINY_PARTS / seconds)
    grown = (max(peaks.values()) - peaks["random"]) / MEBIBYTE
    report.add("hostile_memory_over_random_mib", grown, at_most=_MOST_GROWTH_MIB, unit="MiB", is_compared=False)
    return report


if __name__ == "__main__":
    run_alone(measure)
