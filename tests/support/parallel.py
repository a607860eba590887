"""Run one piece of work in many threads that start together."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from app.errors import GatewayError


def in_parallel(count: int, work: Callable[[int], object]) -> list[object]:
    """Start `count` threads together. Return what they return, or the GatewayErrors that they raise."""
    together = threading.Barrier(count)

    def run(number: int) -> object:
        together.wait(60)
        try:
            return work(number)
        except GatewayError as failure:
            return failure

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
