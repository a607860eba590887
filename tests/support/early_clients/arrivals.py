"""Send refused uploads with each kind of client, and count the responses that arrive."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.early_clients.refusals import Refusal
from tests.support.early_clients.uploads import Outcome, UploadClient
from tests.support.early_clients.with_chromium import ChromiumClient
from tests.support.early_clients.with_curl import CurlClient
from tests.support.early_clients.with_node import NodeClient
from tests.support.early_clients.with_requests import RequestsClient
from tests.support.stack import Stack

CLIENTS = ("curl", "requests", "fetch", "chromium")


@contextmanager
def upload_client(kind: str, directory: Path) -> Iterator[UploadClient]:
    """A client of this kind."""
    client: UploadClient
    directory.mkdir(parents=True, exist_ok=True)
    match kind:
        case "curl":
            client = CurlClient(directory)
        case "requests":
            client = RequestsClient()
        case "fetch":
            client = NodeClient(directory / "node.log")
        case _:
            client = ChromiumClient()
    try:
        yield client
    finally:
        client.close()


def can_send(client: UploadClient, refusal: Refusal) -> bool:
    """Return whether this kind of client can send this upload."""
    if refusal.upload.is_chunked and not client.can_chunk:
        return False
    return client.can_be_cross_site or not refusal.is_cross_site


class Arrivals:
    """How many responses were expected by one kind of client, how many arrived, and what came instead of the others."""

    def __init__(self, stack: Stack, client: UploadClient) -> None:
        self._stack = stack
        self._client = client
        self.sent = 0
        self.arrived = 0
        self.seconds = 0.0
        self.lost: Counter[tuple[str, Outcome]] = Counter()

    def add(self, refusal: Refusal, times: int) -> None:
        """Send an upload that is refused, so many times. Its response and that of the next request must arrive."""
        with refusal.arrange(self._stack):
            self._send(refusal, times)

    def _send(self, refusal: Refusal, times: int) -> None:
        user = refusal.upload.user
        cookie = self._stack.signed_in(user).cookie_header if user else ""
        begun = time.monotonic()
        outcomes = self._client.send(self._stack.url, cookie, refusal.upload, times)
        self.seconds += time.monotonic() - begun
        assert len(outcomes) == times
        self.sent += times
        for outcome in outcomes:
            if (outcome.status, outcome.code, outcome.next_status, outcome.error) == (
                refusal.status,
                refusal.code,
                refusal.next_status,
                "",
            ):
                self.arrived += 1
            else:
                self.lost[refusal.name, outcome] += 1

    def report(self) -> str:
        lines = [f"{self.arrived} of {self.sent} arrived, {1000 * self.seconds / max(self.sent, 1):.0f} ms each"]
        lines += [f"    {count} x {name}: {outcome}" for (name, outcome), count in self.lost.items()]
        return "\n".join(lines)
