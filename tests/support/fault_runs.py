"""Run cells of the fault matrix concurrently, and check what they leave behind."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import requests

from app.clients.retry import MATRIX, Call
from app.errors import catalogue
from sandbox.settings import CONVERTER, MEMBER_CENTER, SERVICES
from tests.support.aftermath import Aftermath
from tests.support.clients import RawConnection
from tests.support.fault_cells import REPLAYED, RETRY_AFTER, WAYS, Cell, Expected, Stage, expected
from tests.support.multipart_bodies import model_upload
from tests.support.processes import sockets_of, wait_until
from tests.support.scaled_gateway import DEFAULT_TRY_SECONDS, DEFAULT_WAIT_FACTOR
from tests.support.scaled_stack import ScaledStack, remove_fault

SIDE_BY_SIDE = 8
#: Slots for transfers: as many as cells run at once, so that a single lost one soon makes others fail.
SLOTS = SIDE_BY_SIDE
DEADLINE_SECONDS = 6.0
#: For everything but waiting, on a slow machine.
SLACK_SECONDS = 5.0
_PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "i18n_key", "retryable", "blame", "request_id"}

ENVIRONMENT = {
    "VISIONA_REQUEST_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
    "VISIONA_UPLOAD_SLOTS": str(SLOTS),
    # The check of the slots pauses until all are taken. Other tests cover clients that send too slowly.
    "VISIONA_UPLOAD_MIN_BYTES_PER_SECOND": "0",
}


@dataclass
class Outcome:
    """The outcome of one cell."""

    cell: Cell
    stage: Stage
    response: requests.Response | None = None
    seconds: float = 0.0
    tries: int = 0
    #: A sentence about each thing that was wrong afterwards.
    aftermath: list[str] = field(default_factory=list)
    error: BaseException | None = None

    def verify(self, wanted: Expected, *, limit_seconds: float) -> None:
        """Raise AssertionError unless the cell ended as wanted, in time, and left nothing behind."""
        if self.error is not None:
            raise self.error
        response = self.response
        assert response is not None
        code = None if response.status_code < 400 else response.json()["code"]
        found = Expected(response.status_code, code, self.tries)
        if (code, wanted.code) == ("idp_unavailable", "idp_misconfigured") and self.cell.call not in REPLAYED:
            # Whether its token came from the cache depends on the cells before it.
            wanted = replace(wanted, status=503, code=code)
        assert found == wanted, f"{found} instead of {wanted}"
        assert self.seconds < limit_seconds, f"it took {self.seconds:.1f} s of {limit_seconds:.1f}"
        if code is not None:
            verify_problem(response, self.stage.request_id)
        if code == "converter_busy":
            assert response.headers["Retry-After"] == RETRY_AFTER
        if code == "idp_unavailable":
            is_mcs_word = (self.cell.fault.status or 0) in {429, *range(500, 600)}
            assert response.headers["Retry-After"] == (RETRY_AFTER if is_mcs_word else "5")
        assert not self.aftermath, "; ".join(self.aftermath)


def verify_problem(response: requests.Response, request_id: str) -> None:
    """Raise AssertionError unless the response is a problem document (RFC 9457) of the catalog."""
    assert response.headers["Content-Type"] == "application/problem+json"
    document = response.json()
    entry = catalogue()[document["code"]]
    assert document.keys() >= _PROBLEM_MEMBERS
    assert (document["status"], document["i18n_key"]) == (response.status_code, entry.i18n_key)
    assert (document["retryable"], document["blame"]) == (entry.retryable, entry.blame.value)
    assert document["request_id"] == request_id == response.headers["X-Request-ID"]
    assert document["title"] in entry.title.values()


def limit_seconds(cell: Cell) -> float:
    """Return how long a cell may take: the timeouts of its tries, at most the deadline, and some time for the rest."""
    tries = expected(cell).tries
    waiting = tries * DEFAULT_TRY_SECONDS if cell.fault.is_slow else 0.0
    waiting += sum(MATRIX[cell.call].waits_seconds) * DEFAULT_WAIT_FACTOR
    return min(waiting, DEADLINE_SECONDS) + SLACK_SECONDS


def play_all(stack: ScaledStack, cells: Iterable[Cell], *, side_by_side: int = SIDE_BY_SIDE) -> dict[Cell, Outcome]:
    """Run the cells, each with a user of its own, and count the tries at the sandbox."""
    with ThreadPoolExecutor(side_by_side) as pool:
        outcomes = dict(pool.map(lambda numbered: _play(stack, *numbered), enumerate(cells)))
    tries = tries_at_the_sandbox(stack)
    for cell, outcome in outcomes.items():
        outcome.tries = tries[WAYS[cell.call].name, outcome.stage.request_id]
    return outcomes


def _play(stack: ScaledStack, number: int, cell: Cell) -> tuple[Cell, Outcome]:
    outcome = Outcome(cell, set_up(stack, cell, number))
    try:
        address = stack.add_fault(WAYS[cell.call].service, rule_of(cell, outcome.stage))
        try:
            ask(outcome)
        finally:
            remove_fault(address)
        outcome.aftermath = look_after(cell, outcome.stage)
    except Exception as error:
        outcome.error = error
    return cell, outcome


def play_behind_doors(stack: ScaledStack, cells: Iterable[Cell]) -> dict[Cell, Outcome]:
    """Play cells in which the upstream cannot even be reached, one after another: a shut door affects all."""
    outcomes = {}
    for number, cell in enumerate(cells):
        way = WAYS[cell.call]
        outcome = outcomes[cell] = Outcome(cell, set_up(stack, cell, number))
        rule = {"call": way.call_before or way.name, "when": "after", "headers": {"Connection": "close"}}
        address = stack.add_fault(way.service, rule)
        try:
            stack.doors[way.service].admit(way.before, nameless=cell.fault.name == "dns_failure")
            ask(outcome)
        finally:
            stack.doors[way.service].open()
            remove_fault(address)
        outcome.tries = tries_in_the_log(stack, cell.call, outcome.stage.request_id)
        outcome.aftermath = look_after(cell, outcome.stage)
    return outcomes


def set_up(stack: ScaledStack, cell: Cell, number: int) -> Stage:
    """Return a new user with the job that the call needs."""
    name = f"{cell}-{number}".replace(".", "-")
    stage = Stage(stack, stack.person(f"u-{name}"), f"u-{name}", f"r-{name}")
    if cell.fault.is_early:
        # More than the buffers of all sockets on the way hold, so that it can't be whole before the response.
        return replace(stage, model_bytes=20_000_000)
    if WAYS[cell.call].needs == "nothing":
        return stage
    job_id = stack.upload(stage.client)
    if WAYS[cell.call].needs == "completed":
        stack.sandbox.complete(job_id)
    return Stage(stack, stage.client, stage.user_id, stage.request_id, job_id)


def rule_of(cell: Cell, stage: Stage) -> dict[str, Any]:
    """Return the cell's fault as a rule for the sandbox, limited to this user where the call names the user."""
    rule = {"call": WAYS[cell.call].name, **cell.fault.rule_for(stage)}
    return {**rule, "grant": "client_credentials"} if cell.call is Call.TOKEN else {**rule, "user": stage.user_id}


def ask(outcome: Outcome) -> None:
    """Make the gateway make the call."""
    started = time.monotonic()
    outcome.response = WAYS[outcome.cell.call].ask(outcome.stage)
    # urllib3 closes a pool once nothing refers to it, and every response does.
    outcome.response.raw = None
    outcome.seconds = time.monotonic() - started


def look_after(cell: Cell, stage: Stage) -> list[str]:
    """Check that everything works at once after the fault. Return a sentence about each thing that does not."""
    found = []
    after = Stage(stage.stack, stage.client, stage.user_id, stage.request_id + "-after", stage.job_id)
    client, way, is_success = stage.client, WAYS[cell.call], expected(cell).code is None
    if cell.call in {Call.PROMOTE, Call.GET_FILE}:
        models = client.get("/api/models").json()["models"]
        if len(models) != int(is_success):
            found.append(f"{len(models)} models in the library after the fault")
    if cell.call is Call.TOKEN:
        # A token that claimed to live forever is cached until it is refused.
        stage.stack.add_fault(CONVERTER, {"call": "list_jobs", "user": stage.user_id, "status": 401, "times": 1})
    if not (cell.call is Call.CREATE_JOB and is_success):
        again = way.ask(after)
        if again.status_code not in {way.success, 200}:
            found.append(f"the same again: {again.status_code} {again.text[:200]}")
    upload = after.upload()
    code = None if upload.status_code == 201 else upload.json()["code"]
    if code not in {None, "active_job_conflict"}:
        found.append(f"an upload afterwards: {upload.status_code} {code}")
    active = client.get("/api/conversion/active")
    if active.status_code != 200 or active.json()["active_job"] is None:
        found.append(f"the job that runs now is not seen: {active.status_code} {active.text[:200]}")
    return found


def tries_at_the_sandbox(stack: ScaledStack) -> Counter[tuple[str, str]]:
    """Return how often each call was made in each request, by request id."""
    return Counter(
        (call["call"], call["headers"].get("X-Request-Id", ""))
        for service in SERVICES
        for call in stack.sandbox.calls(service)
    )


def tries_in_the_log(stack: ScaledStack, call: Call, request_id: str) -> int:
    """Return how often the gateway says it tried a call; the sandbox does not see connections that fail."""
    retries = 0
    for line in stack.log_path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        here = (entry.get("event"), entry.get("call"), entry.get("request_id"))
        retries += here == ("upstream.retry", call.value, request_id)
    return retries + 1


# What is left behind.


def verify_nothing_is_left(stack: ScaledStack) -> None:
    """Raise AssertionError if cells have left threads, sockets, slots, leases, files or models behind."""
    for client in stack._opened:
        client.close()
    wait_until(lambda: not running_calls(stack), "no call to an upstream is still under way")
    _verify_slots(stack)
    aftermath = Aftermath(stack)
    wait_until(lambda: not aftermath.leases(), "no lease is held")
    assert not aftermath.models_without_file()
    assert not aftermath.files_without_model()
    assert not aftermath.temporaries()
    assert not list((stack.directory / "tmp").iterdir())
    wait_until(lambda: not client_sockets(stack), "no connection of a client is open")
    (worker,) = stack.worker_pids()
    # Idle pooled connections are no leak as long as they are no more than there were callers.
    peers = Counter(peer for _, (_, peer) in sockets_of(worker) if peer in _upstream_ports(stack))
    assert all(count <= SIDE_BY_SIDE + SLOTS for count in peers.values()), peers
    status = Path(f"/proc/{worker}/status").read_text(encoding="ascii")
    threads = int(next(line for line in status.splitlines() if line.startswith("Threads:")).split()[1])
    # Threads are made for the most requests at once; one that is left with a request would add to them.
    assert threads <= 5 * SIDE_BY_SIDE
    assert not _open_files_below(worker, stack.storage_path)
    assert not _open_files_below(worker, stack.directory / "tmp")


def running_calls(stack: ScaledStack) -> list[str]:
    """Return the calls that an upstream is still handling."""
    return [
        call["call"]
        for service in SERVICES
        for call in stack.sandbox.calls(service)
        if call["duration_seconds"] is None
    ]


def client_sockets(stack: ScaledStack) -> list[Any]:
    """Return the workers' connections to clients."""
    return [
        socket
        for pid in stack.worker_pids()
        for socket in sockets_of(pid)
        if socket[1][0] == stack.port and socket[1][1]
    ]


def _verify_slots(stack: ScaledStack) -> None:
    """Check that as many uploads as there are slots begin at once, and one more does not."""
    stack.sandbox.fault(CONVERTER, call="create_job", status=422, read_body=True)
    body = model_upload(b"x" * 1_000).as_bytes()
    boundary = body[2 : body.index(b"\r\n")].decode()
    before = len(stack.sandbox.calls(CONVERTER, "create_job"))
    connections: list[RawConnection] = []
    try:
        for number in range(SLOTS + 1):
            person = stack.person(f"u-slot-{number}")
            headers = {
                "Cookie": person.cookie_header,
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(len(body)),
            }
            connection = stack.connect()
            connections.append(connection)
            connection.send_head("POST", "/api/conversion/init", headers).send(body[:300])
            if number < SLOTS:
                wanted = before + number + 1
                wait_until(
                    lambda wanted=wanted: len(stack.sandbox.calls(CONVERTER, "create_job")) == wanted,
                    f"upload {number + 1} of {SLOTS} has a slot",
                )
        assert connections[-1].read_response("POST").json()["code"] == "upload_capacity"
        for connection in connections[:-1]:
            connection.send(body[300:])
            assert connection.read_response("POST").json()["code"] == "converter_rejected"
    finally:
        for connection in connections:
            connection.close()
        stack.sandbox.clear_faults()


def _upstream_ports(stack: ScaledStack) -> set[int]:
    urls = [stack.sandbox.urls.of(service) for service in (MEMBER_CENTER, *SERVICES)]
    return {int(url.rpartition(":")[2]) for url in urls} | {door.port for door in stack.doors.values()}


def _open_files_below(pid: int, folder: Path) -> list[str]:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith(f"{folder}/"):
            found.append(target)
    return found
