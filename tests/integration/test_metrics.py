"""`/metrics` of a real gateway with two workers: the sum of both, also after one was killed, and not public."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from app.api.models import PIECE_BYTES
from tests.support.clients import Client, RawConnection
from tests.support.counts import Counts
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.processes import ROOT, wait_until
from tests.support.sandbox_processes import CONVERTER
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(90)

#: Of two workers with default settings.
SLOTS = {"upload": 512, "pull": 32, "library_download": 64}
PROBED = {"route": "/healthz", "method": "GET", "status": "200", "code": "none"}


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    counts = directory / "counts"
    counts.mkdir()
    with Stack(directory, nginx={}, environment={"VISIONA_METRICS_DIR": str(counts)}) as stack:
        yield stack
    assert list(counts.iterdir()) == [], "the master has left its directory"


@pytest.fixture
def stack(own_stack: Stack) -> Stack:
    own_stack.reset()
    return own_stack


def scrape(stack: Stack) -> Counts:
    response = requests.get(f"{stack.direct_url}/metrics", timeout=10)
    assert response.status_code == 200, response.text
    return Counts.of(response.text)


def slots_by_kind(counts: Counts) -> dict[str, float]:
    return {kind: counts.sum("visiona_transfer_slots", kind=kind) for kind in SLOTS}


def ask_each(stack: Stack, times: int) -> None:
    for connection in stack.connect_to_all_workers().values():
        with connection:
            for _ in range(times):
                assert connection.send_head("GET", "/healthz").read_response().status == 200


def grown(stack: Stack, name: str, **labels: str) -> Callable[[], float]:
    """Return a function that tells by how much a sum over all workers has grown since this call."""
    before = scrape(stack).sum(name, **labels)
    return lambda: scrape(stack).sum(name, **labels) - before


def test_each_worker_returns_the_sum_of_both(stack: Stack) -> None:
    connections = stack.connect_to_all_workers()
    assert len(connections) == 2
    before = scrape(stack).sum("visiona_requests_total", **PROBED)
    for count, connection in zip((3, 4), connections.values(), strict=True):
        for _ in range(count):
            connection.send_head("GET", "/healthz").read_response()
    for connection in connections.values():
        with connection:
            told = Counts.of(connection.send_head("GET", "/metrics").read_response().body.decode())
            assert told.sum("visiona_requests_total", **PROBED) == before + 7
            assert told.sum("visiona_workers") == 2
            assert told.sum("visiona_worker_threads") == 672
            assert slots_by_kind(told) == SLOTS


def test_nothing_is_lost_or_counted_twice_when_a_worker_is_killed(stack: Stack) -> None:
    """SIGKILL: its counters stay, its gauges go, and the worker that replaces it continues its files."""
    ask_each(stack, 5)
    before, before_files = scrape(stack), count_files(stack)
    victim, _ = stack.worker_pids()
    os.kill(victim, signal.SIGKILL)

    wait_until(
        lambda: (
            len(pids := stack.worker_pids()) == 2 and victim not in pids and scrape(stack).sum("visiona_workers") == 2
        ),
        "two workers again",
    )

    after = scrape(stack)
    assert after.sum("visiona_requests_total", **PROBED) == before.sum("visiona_requests_total", **PROBED)
    assert after.sum("visiona_request_seconds_count", route="/healthz") == before.sum(
        "visiona_request_seconds_count", route="/healthz"
    )
    assert after.sum("visiona_worker_starts_total") == before.sum("visiona_worker_starts_total") + 1
    assert slots_by_kind(after) == SLOTS
    assert count_files(stack) == before_files


def count_files(stack: Stack) -> set[str]:
    [directory] = (stack.directory / "counts").iterdir()
    return {path.name for path in directory.glob("*.db")}


def test_a_reload_keeps_all_counts_and_the_second_one_makes_no_more_files(stack: Stack) -> None:
    """HUP replaces both workers: the new ones have other numbers, and those after them the first ones again."""
    ask_each(stack, 2)
    before = scrape(stack)
    gateway = stack.gateway
    assert gateway is not None

    def reload() -> None:
        old = set(stack.worker_pids())
        os.kill(gateway.pid, signal.SIGHUP)
        wait_until(
            lambda: (
                len(pids := set(stack.worker_pids())) == 2
                and not pids & old
                and scrape(stack).sum("visiona_workers") == 2
            ),
            "two new workers",
            seconds=30,
        )

    reload()
    files = count_files(stack)
    reload()

    after = scrape(stack)
    assert after.sum("visiona_requests_total", **PROBED) == before.sum("visiona_requests_total", **PROBED)
    assert after.sum("visiona_worker_starts_total") == before.sum("visiona_worker_starts_total") + 4
    assert after.sum("visiona_worker_threads") == 672
    assert {name.rpartition("_")[2] for name in files | count_files(stack)} <= {f"{n}.db" for n in range(1, 5)}
    assert {name for name in count_files(stack) if not name.startswith("gauge")} == {
        name for name in files if not name.startswith("gauge")
    }


def test_a_conversion_is_counted_at_every_step(stack: Stack) -> None:
    alice, before = stack.signed_in("alice"), scrape(stack)
    model = model_upload(LazyBytes(9_000_000)).field("user_id", "u-bob-1")
    assert stack.send(alice, model).status_code == 201
    job_id = alice.get("/api/conversion/active").json()["active_job"]["job_id"]
    stack.sandbox.complete(job_id)
    stack.wait_for_status(alice, job_id, "completed")
    kept = alice.promote(job_id).json()
    assert alice.promote(job_id).status_code == 200
    assert len(alice.get(f"/api/models/{kept['id']}/file").content) == kept["size"]
    assert alice.get(f"/api/conversion/{job_id}/download").status_code == 302

    def has_grown(name: str, **labels: str) -> float:
        return scrape(stack).sum(name, **labels) - before.sum(name, **labels)

    wait_until(lambda: has_grown("visiona_transfers_total", kind="library_download", outcome="completed") == 1, "read")
    for kind, size in (("upload", len(model)), ("pull", kept["size"]), ("library_download", kept["size"])):
        assert has_grown("visiona_transfers_total", kind=kind, outcome="completed") == 1, kind
        assert has_grown("visiona_transfer_bytes_total", kind=kind) == size, kind
        assert has_grown("visiona_transfer_seconds_count", kind=kind) == 1, kind
    assert scrape(stack).sum("visiona_transfers_in_flight") == 0
    assert has_grown("visiona_dropped_identities_total") == 1
    assert has_grown("visiona_promotes_total", outcome="new") == 1
    assert has_grown("visiona_promotes_total", outcome="existing") == 1
    assert has_grown("visiona_download_tokens_total", event="obtained") == 1
    assert has_grown("visiona_leases_total", lease="upload", event="taken") == 1
    assert has_grown("visiona_upstream_tries_total", upstream="converter", call="converter.create_job") == 1
    assert has_grown("visiona_upstream_tries_total", upstream="faa") == 1
    assert has_grown("visiona_upstream_try_seconds_count", call="converter.promote") >= 1
    assert has_grown("visiona_failures_total") == 0


def test_an_upstreams_failures_are_counted_by_try_and_by_call(stack: Stack) -> None:
    """A call whose tries all get 503: three failures, two retries, one failed call, one 502 blamed on the upstream."""
    alice = stack.signed_in("alice")
    job_id = stack.upload(alice)
    call = {"upstream": "converter", "call": "converter.get_job"}
    failures = grown(stack, "visiona_upstream_failures_total", kind="server_error", **call)
    retries = grown(stack, "visiona_upstream_retries_total", **call)
    given_up = grown(stack, "visiona_upstream_given_up_total", kind="server_error", **call)
    answered = grown(stack, "visiona_failures_total", code="converter_unavailable", blame="upstream")
    stack.sandbox.fault(CONVERTER, call="get_job", status=503, times=3)
    assert alice.get(f"/api/conversion/{job_id}").status_code == 502
    assert (failures(), retries(), given_up(), answered()) == (3, 2, 1, 1)


def test_an_upload_in_progress_is_in_flight_and_one_that_breaks_off_is_aborted(stack: Stack) -> None:
    alice = stack.signed_in("alice")
    aborted = grown(stack, "visiona_transfers_total", kind="upload", outcome="aborted", reason="client_gone")
    with RawConnection(stack.direct_url) as connection:
        host = stack.url.removeprefix("http://")
        headers = {"Host": host, "Cookie": alice.cookie_header, "Content-Type": "multipart/form-data; boundary=b"}
        connection.send_head("POST", "/api/conversion/init", {**headers, "Content-Length": "1000000"})
        connection.send(b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n' + b"m" * 300_000)
        wait_until(lambda: scrape(stack).sum("visiona_transfers_in_flight", kind="upload") == 1, "it is in flight")
        assert scrape(stack).sum("visiona_worker_requests") >= 2  # the upload and the scrape
        connection.reset()
    wait_until(lambda: aborted() == 1, "it is counted as aborted")
    assert scrape(stack).sum("visiona_transfers_in_flight") == 0


def test_a_download_whose_client_disconnects_is_aborted(stack: Stack) -> None:
    alice = stack.signed_in("alice")
    job_id = stack.completed_job(alice, LazyBytes(8_000_000))
    stack.wait_for_status(alice, job_id, "completed")
    kept = alice.promote(job_id).json()
    assert kept["size"] > 20 * PIECE_BYTES
    aborted = grown(stack, "visiona_transfers_total", kind="library_download", outcome="aborted", reason="client_gone")
    with RawConnection(stack.direct_url) as connection:
        headers = {"Host": stack.url.removeprefix("http://"), "Cookie": alice.cookie_header}
        connection.send_head("GET", f"/api/models/{kept['id']}/file", headers)
        assert connection.socket.recv(1_000)
        connection.reset()
    wait_until(lambda: aborted() == 1, "it is counted as aborted", seconds=40)


def series(counts: Counts) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {(sample.name, frozenset(sample.labels.items())) for sample in counts.samples}


def test_random_paths_and_methods_make_no_new_labels(stack: Stack) -> None:
    alice = stack.signed_in("alice")

    def invent(numbers: range) -> None:
        for number in numbers:
            alice.request(f"BREW{number}", f"/teapot-{number}")
            alice.get(f"/api/conversion/invented-{number}")
            alice.get(f"/api/models/{number}/file", headers={"X-Request-ID": f"invented-{number}"})
            alice.get(f"/console/static/{number}", params={f"invented-{number}": "1"})

    invent(range(3))
    scrape(stack)  # counts itself, for the next one to see
    before = series(scrape(stack))
    invent(range(3, 28))
    text = requests.get(f"{stack.direct_url}/metrics", timeout=10).text
    assert "invented" not in text
    assert "teapot" not in text
    assert "BREW" not in text
    # The other worker may meet some of them for the first time; the series are the same.
    assert series(Counts.of(text)) == before


def test_metrics_contain_no_secret_and_no_id(stack: Stack) -> None:
    alice = stack.signed_in("alice")
    job_id = stack.completed_job(alice)
    stack.wait_for_status(alice, job_id, "completed")
    kept = alice.promote(job_id).json()
    token = alice.get(f"/api/conversion/{job_id}/download").headers["Location"].rpartition("=")[2]
    text = requests.get(f"{stack.direct_url}/metrics", timeout=10).text
    for secret in {*stack.sandbox.issued_secrets(), token, alice.cookie_header, job_id, kept["id"], "u-alice-7f3a"}:
        assert secret not in text
    assert not re.search(r"https?://", text)


def test_the_shipped_nginx_does_not_serve_metrics(stack: Stack) -> None:
    """nginx serves it for no method and no spelling of the path; scrapers use the gateway's own port."""
    assert requests.get(f"{stack.direct_url}/metrics", timeout=10).status_code == 200
    world = Client(stack.url)
    for path in ("/metrics", "/metrics?x=1", "/%6detrics", "/./metrics", "//metrics", "/metrics/", "/x/../metrics"):
        prepared = world.prepare_request(requests.Request("GET", f"{stack.url}/"))
        prepared.url = f"{stack.url}{path}"
        response = world.send(prepared, allow_redirects=False, timeout=10)
        assert response.status_code == 404, path
        assert "visiona_" not in response.text
    assert world.request("POST", "/metrics").status_code == 404
    world.close()


def test_scrapes_are_not_logged(stack: Stack) -> None:
    size = stack.log_path.stat().st_size
    scrape(stack)
    with stack.log_path.open(encoding="utf-8") as log:
        log.seek(size)
        assert "/metrics" not in log.read()


def test_an_unusable_metrics_directory_is_reported_at_start(stack: Stack) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "--check-config", "wsgi:app"],
        cwd=ROOT,
        env=stack.environment({"VISIONA_METRICS_DIR": str(stack.directory / "absent")}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr == "VISIONA_METRICS_DIR is not a folder in which files can be written: No such file or directory\n"
    )


def test_only_the_gateway_can_read_the_metrics_directory(stack: Stack) -> None:
    [directory] = Path(stack.directory / "counts").iterdir()
    assert directory.stat().st_mode & 0o077 == 0
