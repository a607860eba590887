"""A user's share of long transfers holds for all workers of a host, and is free again when a worker dies."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from sandbox.settings import FILE_ACCESS
from tests.support.clients import Client, RawConnection, RawResponse
from tests.support.fleet import Spread, ask
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.processes import wait_until
from tests.support.scaled_stack import ScaledStack

pytestmark = pytest.mark.timeout(90)

#: More than the kernel holds for a client that does not read.
MUCH = 24 * 1024 * 1024


def promote_path(job_id: str) -> str:
    return f"/api/conversion/{job_id}/promote-to-models"


def kept_file(stack: ScaledStack, client: Client) -> str:
    """The address of a large file in the user's library."""
    return f"/api/models/{stack.kept_model(client, LazyBytes(MUCH, seed=3))['id']}/file"


def begin_download(connection: RawConnection, client: Client, path: str) -> None:
    """Begin a download, and do not read on."""
    connection.send_head("GET", path, {"Cookie": client.cookie_header})
    assert connection.socket.recv(12) == b"HTTP/1.1 200"


def assert_refused(response: RawResponse) -> None:
    assert (response.status, response.json()["code"]) == (429, "too_many_requests")
    assert int(response.header("Retry-After") or 0) > 0


def test_a_user_has_two_library_downloads_across_both_workers(stack: ScaledStack) -> None:
    """One in each worker; the third is refused in both. Other users, and this one's other requests, go on."""
    reader, other = stack.person("reads"), stack.person("reads too")
    path, other_path = kept_file(stack, reader), kept_file(stack, other)
    with Spread(stack, each=3) as spread:
        first, second, third, fourth, fifth, sixth = spread.all
        for connection in (first, second):
            begin_download(connection, reader, path)
        for connection in (third, fourth):
            assert_refused(ask(connection, reader, "GET", path))
            assert ask(connection, reader, "HEAD", path).status == 200
        for connection in (fifth, sixth):
            begin_download(connection, other, other_path)
        assert stack.upload(reader)
        # The one that is ended gives its share back.
        first.close()
        wait_until(lambda: ask(third, reader, "GET", path).status == 200, "the share is free again")


def test_the_shares_of_a_killed_worker_are_free_at_once(stack: ScaledStack) -> None:
    reader = stack.person("reads in a worker that is killed")
    path = kept_file(stack, reader)
    with Spread(stack, each=2) as spread:
        victim, survivor = spread.by_worker
        for connection in spread.by_worker[victim]:
            begin_download(connection, reader, path)
        there, here = spread.by_worker[survivor]
        assert_refused(ask(there, reader, "GET", path))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in stack.worker_pids(), "the worker is gone")
        for connection in (there, here):
            begin_download(connection, reader, path)
    wait_until(lambda: len(stack.worker_pids()) == 2, "the worker is replaced")


def test_a_user_has_two_pulls_across_both_workers(stack: ScaledStack) -> None:
    """The third promote is refused with Retry-After, and succeeds later."""
    promoter = stack.person("promotes")
    job_ids = [stack.completed_job(promoter, LazyBytes(300_000, seed=seed)) for seed in range(3)]
    stack.sandbox.fault(FILE_ACCESS, call="get_file", when="after", drip={"bytes": 30_000, "interval_seconds": 0.3})
    with ThreadPoolExecutor(2) as threads, Spread(stack, each=2) as spread:
        one, another, third, fourth = spread.all
        promotes = [
            threads.submit(ask, connection, promoter, "POST", promote_path(job_id))
            for connection, job_id in zip((one, another), job_ids, strict=False)
        ]
        wait_until(lambda: len(stack.sandbox.calls(FILE_ACCESS)) == 2, "both pull")
        for connection in (third, fourth):
            assert_refused(ask(connection, promoter, "POST", promote_path(job_ids[2])))
        assert [promote.result().status for promote in promotes] == [201, 201]
        stack.sandbox.clear_faults()
        assert ask(third, promoter, "POST", promote_path(job_ids[2])).status == 201


def test_unread_downloads_of_one_user_do_not_stop_uploads_of_others(stack: ScaledStack) -> None:
    """One user opens as many downloads as there are slots in all workers."""
    hoarder, uploader = stack.person("hoards"), stack.person("uploads")
    path = kept_file(stack, hoarder)
    slots = 48
    connections = [stack.connect() for _ in range(slots + 2)]
    try:
        for connection in connections:
            connection.send_head("GET", path, {"Cookie": hoarder.cookie_header})
        statuses = sorted(int(connection.socket.recv(12)[9:]) for connection in connections)
        assert statuses == [200] * 2 + [429] * slots
        responses: list[requests.Response] = []
        for _ in range(10):
            responses.append(stack.send(uploader, model_upload()))
            if responses[-1].status_code == 201:
                stack.sandbox.complete(responses[-1].json()["job_id"])
        assert [response.status_code for response in responses] == [201] * 10
    finally:
        for connection in connections:
            connection.close()
