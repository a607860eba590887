"""How many statements requests cost PostgreSQL, as its own log shows them: the figures of docs/operations.md.

A transaction costs two more round trips, for its beginning and its end. What does not belong to one request is counted
apart: each process reads the feed of logouts at most once a second, and as often whether an upload has to end while it
has uploads; a transfer of more than 5 s renews its lease; and each process reads the library id at most once a minute.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.support.clients import Client, RawConnection, RawResponse
from tests.support.fleet import Spread, ask, upload
from tests.support.models import model_with
from tests.support.multipart_bodies import model_upload
from tests.support.postgresql import PostgreSQL
from tests.support.processes import wait_until
from tests.support.s3_server import S3Server
from tests.support.scaled_stack import ScaledStack
from tests.support.stores import ServerStores

#: Statements per request, at most.
POLL, UPLOAD, PROMOTE, HISTORY = 0.1, 6, 6, 3
#: How long and how many polls at least, however slow the machine is.
POLL_SECONDS, POLLS = 3.0, 50

APART = {
    "the feed": "SELECT anon_1.now, revoked_sessions.sid",
    "looks": "WHERE leases.is_end_requested",
    "renewals": "UPDATE leases",
    "pairing": "FROM library",
}


@dataclass
class Load:
    """Two workers, a connection to each, and what arrives at their database."""

    stack: ScaledStack
    postgresql: PostgreSQL
    connections: list[RawConnection] = field(default_factory=list)

    def arrived(self) -> list[str]:
        """Return everything but the beginnings and the ends of transactions."""
        statements = self.postgresql.statements_of(self.stack.stores.environment["VISIONA_DATABASE_URL"])
        return [one for one in statements if not one.startswith(("BEGIN", "COMMIT", "ROLLBACK"))]

    def during(self, action: Callable[[], object]) -> tuple[list[str], list[str]]:
        """Return the statements of an action, and those that are counted apart."""
        before = len(self.arrived())
        action()
        new = self.arrived()[before:]
        apart = [one for one in new if any(text in one for text in APART.values())]
        return [one for one in new if one not in apart], apart

    def settle(self) -> None:
        """Wait until the sweeps at the start of the workers have ended."""
        seen = [-1]

        def is_quiet() -> bool:
            seen.append(len(self.arrived()))
            return seen[-1] == seen[-2]

        wait_until(is_quiet, "no statements arrive without a request", seconds=30, every=1)

    def person(self, user_id: str) -> Client:
        """Return a client whose session both workers know."""
        person = self.stack.person(user_id)
        for connection in self.connections * 2:
            assert ask(connection, person, "GET", "/api/me").status == 200
        return person

    def upload(self, connection: RawConnection, person: Client) -> str:
        answer = upload(connection, person, model_upload(model_with("Einsum"), "net.onnx"))
        assert answer.status == 201, answer.body
        return str(answer.json()["job_id"])

    def complete(self, connection: RawConnection, person: Client, job_id: str) -> None:
        """Complete a job, and poll it over this connection until the worker shows that."""
        self.stack.sandbox.complete(job_id)

        def is_completed() -> bool:
            return bool(ask(connection, person, "GET", f"/api/conversion/{job_id}").json()["status"] == "completed")

        wait_until(is_completed, "the worker shows the completed job", seconds=20)

    def promote(self, connection: RawConnection, person: Client, job_id: str) -> None:
        answer = ask(connection, person, "POST", f"/api/conversion/{job_id}/promote-to-models")
        assert answer.status == 201, answer.body


@pytest.fixture(scope="module")
def load(postgresql: PostgreSQL, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    stores = ServerStores(postgresql, s3_server)
    postgresql.log_statements(stores.environment["VISIONA_DATABASE_URL"])
    directory = tmp_path_factory.mktemp("load")
    with (
        ScaledStack(
            directory,
            application="wsgi:app",
            workers=2,
            stores=stores,
            # A quota costs promotes no more statements.
            environment={"VISIONA_LIBRARY_BYTES_PER_USER": "1000000"},
        ) as stack,
        Spread(stack, each=1) as all_,
    ):
        load = Load(stack, postgresql, all_.all)
        load.settle()
        yield load


def test_polls_cost_nothing_but_the_feed_which_each_process_reads_once_a_second(load: Load) -> None:
    people = [load.person(f"poller-{number}") for number in range(8)]
    paths = {person: f"/api/conversion/{load.upload(load.connections[0], person)}" for person in people}

    def poll() -> list[RawResponse]:
        return [ask(one, person, "GET", paths[person]) for one in load.connections for person in people]

    poll()
    answers: list[RawResponse] = []
    started = time.monotonic()

    def poll_for_a_while() -> None:
        while time.monotonic() - started < POLL_SECONDS or len(answers) < POLLS:
            answers.extend(poll())

    statements, feed = load.during(poll_for_a_while)
    seconds = time.monotonic() - started
    assert {answer.status for answer in answers} == {200}
    assert len(statements) <= POLL * len(answers), statements
    assert 2 <= len(feed) <= len(load.connections) * (seconds + 1), feed


@pytest.mark.parametrize("worker", [0, 1])
def test_an_upload_costs_four_statements_and_one_more_a_minute(load: Load, worker: int) -> None:
    """The lease, the pending row, the job of the row, and the lease again; and how long such jobs usually take."""
    person = load.person(f"uploader-{worker}")
    all_statements, _ = load.during(lambda: load.upload(load.connections[worker], person))
    statements = [one for one in all_statements if not one.startswith("SELECT jobs.created_at")]
    assert len(all_statements) - len(statements) <= 1
    assert [" ".join(one.replace("FROM", "INTO").split()[:3]) for one in statements] == [
        "INSERT INTO leases",
        "INSERT INTO jobs",
        "UPDATE jobs SET",
        "DELETE INTO leases",
    ]
    assert len(all_statements) <= UPLOAD


def test_a_promote_costs_five_statements_and_six_in_a_process_that_did_not_know_the_job(load: Load) -> None:
    person = load.person("promoter")
    costs = []
    for promoting in (0, 1, 0, 1):  # the first of each process reads the library id
        job_id = load.upload(load.connections[0], person)
        load.complete(load.connections[0], person, job_id)
        statements, _ = load.during(
            lambda promoting=promoting, job_id=job_id: load.promote(load.connections[promoting], person, job_id)  # type: ignore[misc]
        )
        costs.append(len(statements))
    assert costs == [5, 6, 5, 6]
    assert max(costs) <= PROMOTE


def test_a_page_of_the_history_costs_two_statements_also_with_filters(load: Load) -> None:
    person = load.person("historian")
    for _ in range(3):
        load.complete(load.connections[0], person, load.upload(load.connections[0], person))
    load.upload(load.connections[0], person)
    for connection in load.connections:
        for query in ("", "?q=net", "?status=completed&platform=720"):
            path = f"/api/conversion/jobs{query}"
            for _ in range(2):
                ask(connection, person, "GET", path)
            statements, _ = load.during(lambda: ask(connection, person, "GET", path))  # noqa: B023
            assert len(statements) == 2, statements
            assert len(statements) <= HISTORY
