"""The tests of early responses, for one way to reach the gateway. Each way has a file, so that they run in parallel.

class TestDirect(EarlyAnswers):
    nginx = None
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sandbox.fault_rules import EARLY_ENDINGS
from tests.support.early_clients.arrivals import CLIENTS, Arrivals, can_send, upload_client
from tests.support.early_clients.refusals import CONVERTERS, ENVIRONMENT, OWN, Refusal
from tests.support.early_clients.uploads import UploadClient
from tests.support.early_clients.with_chromium import ChromiumClient
from tests.support.processes import sockets_of, wait_until
from tests.support.stack import Stack

#: Of each refusal and kind of client in the whole suite; three ways of reaching the gateway make over a hundred a kind.
FEW = 2
MANY = int(os.environ.get("VISIONA_TEST_ARRIVALS", "100"))


class EarlyResponses:
    """All responses that are sent while a client sends 40 MB arrive, and nothing is left behind."""

    #: Options of tests.support.nginx.Nginx; None goes past it.
    nginx: ClassVar[Mapping[str, Any] | None]

    @pytest.fixture(scope="class")
    @classmethod
    def directory(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("early")

    @pytest.fixture(scope="class")
    @classmethod
    def shared_stack(cls, directory: Path) -> Iterator[Stack]:
        with Stack(directory / "stack", environment=ENVIRONMENT, workers=1, nginx=cls.nginx) as stack:
            yield stack

    @pytest.fixture
    def stack(self, shared_stack: Stack) -> Iterator[Stack]:
        yield shared_stack
        shared_stack.reset()

    @pytest.fixture(scope="class")
    @classmethod
    def clients(cls, directory: Path) -> Iterator[dict[str, UploadClient]]:
        """One of each kind; a browser takes its time to start."""
        with ExitStack() as opened:
            yield {kind: opened.enter_context(upload_client(kind, directory / kind)) for kind in CLIENTS}

    @pytest.mark.parametrize("kind", CLIENTS)
    def test_the_gateways_own_responses_arrive(self, stack: Stack, clients: dict[str, UploadClient], kind: str) -> None:
        arrivals = Arrivals(stack, clients[kind])
        for refusal in OWN:
            if can_send(clients[kind], refusal):
                arrivals.add(refusal, FEW)
        assert not arrivals.lost, arrivals.report()
        _assert_nothing_is_left(stack)

    @pytest.mark.parametrize("kind", CLIENTS)
    def test_the_converters_responses_arrive_however_they_end(
        self, stack: Stack, clients: dict[str, UploadClient], kind: str
    ) -> None:
        arrivals = Arrivals(stack, clients[kind])
        # Each ending and each status more than once, but not each with each.
        for refusal in CONVERTERS[CLIENTS.index(kind) :: 3]:
            arrivals.add(refusal, 1)
        assert not arrivals.lost, arrivals.report()
        _assert_nothing_is_left(stack)

    @pytest.mark.parametrize("times", [FEW, pytest.param(MANY, marks=pytest.mark.soak)])
    def test_a_page_of_another_site_is_refused(
        self, stack: Stack, clients: dict[str, UploadClient], times: int
    ) -> None:
        chromium = clients["chromium"]
        assert isinstance(chromium, ChromiumClient)
        # The same host on another port: the cookie is sent, so the request is refused for its origin only.
        elsewhere = f"{stack.sandbox.urls.converter}/"
        cookie = stack.signed_in("alice").cookie_header
        statuses = chromium.statuses_from_elsewhere(elsewhere, stack.url, cookie, times)
        assert statuses == [403] * times, statuses
        _assert_nothing_is_left(stack)

    @pytest.mark.soak
    @pytest.mark.timeout(1800)
    @pytest.mark.parametrize("kind", CLIENTS)
    def test_all_of_a_hundred_arrive(self, stack: Stack, clients: dict[str, UploadClient], kind: str) -> None:
        groups: dict[str, Sequence[Refusal]] = {"the gateway's own": OWN}
        for ending in EARLY_ENDINGS:
            groups[f"the converter's, then {ending}"] = [one for one in CONVERTERS if f" {ending}," in one.name]
        reports, lost = [], 0
        for group, refusals in groups.items():
            arrivals = Arrivals(stack, clients[kind])
            sendable = [refusal for refusal in refusals if can_send(clients[kind], refusal)]
            for refusal, times in zip(sendable, _shares(MANY, len(sendable)), strict=True):
                arrivals.add(refusal, times)
            reports.append(f"{type(self).__name__}, {kind}, {group}: {arrivals.report()}")
            print(f"\n{reports[-1]}", flush=True)
            lost += arrivals.sent - arrivals.arrived
        assert not lost, "\n".join(reports)
        _assert_nothing_is_left(stack)


def _shares(total: int, count: int) -> list[int]:
    """Split a number into so many parts, as equal as possible."""
    return [total // count + (number < total % count) for number in range(count)]


def _assert_nothing_is_left(stack: Stack) -> None:
    """Check that no slot, no lease and no connection to the converter is left, except idle ones for polls."""
    stack.sandbox.clear_faults()
    # There are two slots, so one that was lost shows with the second upload at the latest.
    for name in ("alice", "bob", "alice", "bob"):
        stack.sandbox.complete(stack.upload(stack.signed_in(name)))
    converter_port = int(stack.sandbox.urls.converter.rpartition(":")[2])

    def connections() -> int:
        return sum((peer == converter_port) for pid in stack.worker_pids() for _, (_, peer) in sockets_of(pid))

    # One idle connection for each thread that polled at the same time as others: two here.
    wait_until(lambda: connections() <= 2, "the uploads' connections to the converter are closed")
