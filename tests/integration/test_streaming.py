"""Bytes pass through the gateway: a body larger than its memory and disk limits arrives complete."""

from collections.abc import Iterator

import pytest

from tests.support.clients import Client
from tests.support.multipart_bodies import LazyBytes, model_upload, sha256_of
from tests.support.processes import memory_peaks
from tests.support.stack import Stack

MEGABYTE = 1024 * 1024
UPLOAD_BYTES = 300 * MEGABYTE
#: The database, its log, and the gateway's own log must fit into this; 1/75 of the upload does.
FILE_LIMIT = 4 * MEGABYTE
#: A worker that has served a little has about 330 MB of addresses (thread stacks, arenas), so 300 MB more do not fit.
ADDRESS_LIMIT = 560 * MEGABYTE
#: How much more memory a worker may use for the upload than it has used for small requests.
GROWTH_LIMIT = 48 * MEGABYTE


@pytest.fixture(scope="module")
def small_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    limits = {"fsize": FILE_LIMIT, "as": ADDRESS_LIMIT}
    with Stack(tmp_path_factory.mktemp("small"), limits=limits) as stack:
        yield stack


@pytest.fixture
def stack(small_stack: Stack) -> Stack:
    small_stack.reset()
    return small_stack


@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_upload_of_300_mb_passes_a_gateway_that_could_not_hold_it(stack: Stack, alice: Client, framing: str) -> None:
    """With files limited to 4 MiB and memory to less than the body, it arrives complete, and memory use stays flat."""
    stack.completed_job(alice)
    peaks_before = {pid: memory_peaks(pid)["VmHWM"] for pid in stack.worker_pids()}
    model = LazyBytes(UPLOAD_BYTES, seed=3)
    body = model_upload(model)

    response = alice.post(
        "/api/conversion/init",
        data=body if framing == "counted" else body.chunked(),
        headers=body.headers,
        timeout=120,
    )

    assert response.status_code == 201, response.text
    assert response.json()["size"] == UPLOAD_BYTES
    part = next(part for part in stack.sandbox.last_upload()["parts"] if part["name"] == "model")
    assert (part["size"], part["sha256"]) == (UPLOAD_BYTES, sha256_of(model))
    growth = {pid: memory_peaks(pid)["VmHWM"] - peak for pid, peak in peaks_before.items()}
    assert max(growth.values()) < GROWTH_LIMIT, growth
    assert stack.worker_pids() == list(peaks_before), "a worker was replaced"
    assert list((stack.directory / "tmp").iterdir()) == []


def test_the_limits_of_this_file_hold_in_the_workers(stack: Stack) -> None:
    with stack.connect() as connection:
        assert connection.send_head("GET", "/healthz").read_response().status == 200
        worker = stack.worker_of(connection)
    with open(f"/proc/{worker}/limits", encoding="ascii") as lines:  # noqa: PTH123 - procfs
        limits = {line[:26].strip(): line[26:].split()[0] for line in lines}
    assert limits["Max file size"] == str(FILE_LIMIT)
    assert limits["Max address space"] == str(ADDRESS_LIMIT)
