"""Do something many times at the same moment, over connections that are already open."""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

from tests.support.clients import Client, RawConnection, RawResponse
from tests.support.multipart_bodies import Multipart
from tests.support.processes import wait_until
from tests.support.stack import Stack

T = TypeVar("T")


def all_at_once(actions: Sequence[Callable[[], T]], *, seconds: float = 60.0) -> list[T]:
    """Run all actions at once, each in a thread. Return their results in order; raise what the first raised."""
    together = threading.Barrier(len(actions))

    def run(action: Callable[[], T]) -> T:
        together.wait(timeout=seconds)
        return action()

    with ThreadPoolExecutor(len(actions)) as threads:
        return [future.result(timeout=seconds) for future in [threads.submit(run, action) for action in actions]]


class Spread:
    """Kept-alive connections, equally many to each worker, so that a test knows which process serves a request."""

    def __init__(self, stack: Stack, *, each: int) -> None:
        self._open = ExitStack()
        turns = zip(*(replica.worker_pids() for replica in stack.replicas), strict=True)
        self.by_worker: dict[int, list[RawConnection]] = {pid: [] for turn in turns for pid in turn}

        replicas = itertools.cycle(stack.replicas)

        def is_full() -> bool:
            connection = stack.connect(next(replicas))
            connection.send_head("GET", "/healthz").read_response()
            here = self.by_worker.get(stack.worker_of(connection) or 0)
            if here is None or len(here) == each:
                connection.close()
            else:
                here.append(self._open.enter_context(connection))
            return all(len(connections) == each for connections in self.by_worker.values())

        try:
            wait_until(is_full, f"{each} connections to every worker", seconds=30, every=0)
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> "Spread":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def all(self) -> list[RawConnection]:
        """Return all connections, the workers in turn. The first two are at different replicas, if there are any."""
        return [connection for turn in zip(*self.by_worker.values(), strict=True) for connection in turn]


def ask(connection: RawConnection, client: Client, method: str, path: str) -> RawResponse:
    """Send one request without a body over a kept-alive connection."""
    headers = {"Cookie": client.cookie_header}
    if method not in {"GET", "HEAD"}:
        headers["Content-Length"] = "0"
    return connection.send_head(method, path, headers).read_response(method)


def upload(connection: RawConnection, client: Client, body: Multipart) -> RawResponse:
    """Send one upload over a kept-alive connection."""
    headers = {"Cookie": client.cookie_header, **body.headers, "Content-Length": str(len(body))}
    return connection.send_head("POST", "/api/conversion/init", headers).send(body.as_bytes()).read_response()
