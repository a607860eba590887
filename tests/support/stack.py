"""The gateway and its sandbox as real processes, for tests over real sockets.

    with Stack(tmp_path) as stack:
        alice = stack.signed_in("alice")
        job = stack.upload(alice, b"a model")

Closing a stack searches all its logs for everything that was secret in its run, and fails if anything is found.
"""

import os
import secrets
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import requests

from app.services.readiness import CACHE_SECONDS
from tests.support.clients import Client, RawConnection
from tests.support.forking import run_module
from tests.support.leaks import find_leaks
from tests.support.multipart_bodies import LazyBytes, Multipart, model_upload
from tests.support.nginx import Nginx
from tests.support.processes import ROOT, Child, log_end, wait_until
from tests.support.replica import Replica
from tests.support.sandbox_processes import SandboxProcesses
from tests.support.seen_statuses import note_log
from tests.support.stores import LocalStores, Stores


class Stack:
    """A gateway (gunicorn, two workers unless told otherwise) in front of a sandbox of its own.

    Or several replicas of one, behind nginx: what is said of "the gateway" then applies to all of them.
    """

    #: What gunicorn is to load.
    application = "wsgi:app"

    def __init__(
        self,
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
        workers: int = 2,
        replicas: int = 1,
        start_gateway: bool = True,
        nginx: Mapping[str, Any] | None = None,
        own_tls: bool = False,
        stores: Stores | None = None,
        **sandbox_options: Any,
    ) -> None:
        """Start everything, and wait until it answers.

        `environment` overrides the gateway's variables ("" removes one), `limits` are prlimit's for the gateway, and
        the rest goes to `python -m sandbox`; jobs last an hour unless told otherwise, so that tests decide their end.
        `nginx`, if not None, puts one in front, with these options: `url` is then nginx's, and everybody goes there.
        With `own_tls` gunicorn terminates TLS, and there is no nginx. `stores`, closed with the stack, hold the
        records and files; without them a SQLite file and a folder in `directory` do. Several `replicas` need stores on
        servers, and nginx.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.stores: Stores = stores or LocalStores(directory)
        places = [directory, *(directory / f"replica-{number}" for number in range(2, replicas + 1))]
        self.replicas = [Replica(place, self.application, own_tls=own_tls) for place in places]
        #: The first replica's own port and URL, past nginx.
        self.port, self.direct_url = self.replicas[0].port, self.replicas[0].url
        ports = [replica.port for replica in self.replicas]
        self.nginx = None if nginx is None else Nginx(directory, *ports, **nginx)
        #: Where people reach the gateway.
        self.url = self.direct_url if self.nginx is None else self.nginx.public
        self.log_path = self.replicas[0].log_path
        self.secret_key = secrets.token_urlsafe(48)
        self._workers = workers
        self._overrides = dict(environment or {})
        self._limits = dict(limits or {})
        self._secrets: set[str] = {self.secret_key}
        self._clients: dict[str, Client] = {}
        self._opened: list[Client] = []
        try:
            self.sandbox = SandboxProcesses(directory, self.url, {"job_seconds": 3600, **sandbox_options})
        except BaseException:
            self._close_nginx()
            raise
        if start_gateway:
            try:
                self.start_gateway()
            except BaseException:
                self._close_nginx()
                self.sandbox.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The gateway's process

    @property
    def gateway(self) -> Child | None:
        """The first replica's process, or None if it does not run."""
        return self.replicas[0].process

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        assert isinstance(self.stores, LocalStores)
        return self.stores.database_path

    @property
    def storage_path(self) -> Path:
        """The folder of the models' files."""
        assert isinstance(self.stores, LocalStores)
        return self.stores.storage_path

    def environment(self, overrides: Mapping[str, str] | None = None) -> dict[str, str]:
        """The gateway's whole environment. Of the tests' own, it has only what a program needs to run."""
        values = {
            # `make coverage` measures the gateway's own processes, too.
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "WEB_CONCURRENCY": str(self._workers),
            **self.sandbox.urls.gateway_environment(self.url),
            "VISIONA_SECRET_KEY": self.secret_key,
            # No load balancer has to notice that the gateway is about to end.
            "VISIONA_DRAIN_SECONDS": "0",
            **self.stores.environment,
            **self._overrides,
            **(overrides or {}),
        }
        return {name: value for name, value in values.items() if value}

    def start_gateway(
        self, *, environment: Mapping[str, str] | None = None, limits: Mapping[str, int] | None = None
    ) -> Child:
        """Start the gateway on its port and wait until all its workers can serve."""
        variables = self.environment(environment)
        for replica in self.replicas:
            replica.launch(variables, {**self._limits, **(limits or {})})
        try:
            for replica in self.replicas:
                replica.wait_until_ready(self._is_ready)
        except BaseException:
            self.kill_gateway()
            raise
        gateway = self.gateway
        assert gateway is not None
        return gateway

    def start_replica(self, replica: Replica) -> None:
        """Start one replica that was stopped or killed, and wait until it is ready."""
        replica.launch(self.environment(), self._limits)
        replica.wait_until_ready(self._is_ready)

    def stop_gateway(self) -> int | None:
        """End the gateway by SIGTERM, and by SIGKILL if it takes too long; its exit code, or the first one but 0."""
        for client in self._opened:
            # It would wait for kept-alive connections. A closed requests.Session can be used again.
            client.close()
        with ThreadPoolExecutor(len(self.replicas)) as pool:
            exit_codes = list(pool.map(Replica.stop, self.replicas))
        return next(filter(None, exit_codes), exit_codes[0])

    def kill_gateway(self) -> None:
        """End the gateway and its workers by SIGKILL."""
        for replica in self.replicas:
            replica.kill()

    def restart_gateway(
        self, *, kill: bool = False, empty_database: bool = False, environment: Mapping[str, str] | None = None
    ) -> None:
        """Restart the gateway, optionally by SIGKILL, and optionally with an empty database.

        People stay signed in, for the session is in their cookie. Overrides last until the next start.
        """
        self.kill_gateway() if kill else self.stop_gateway()
        if empty_database:
            self.stores.empty_database()
            self._pair_by_command()
        self.start_gateway(environment=environment)

    def _pair_by_command(self) -> None:
        """Pair the library as an operator does after a loss of the database. The gateway is not ready before."""
        for command in (["app.library.migrating"], ["app.library.pairing", "pair", "--force"]):
            run_module(command, directory=ROOT, environment=self.environment()).check_returncode()

    def worker_pids(self) -> list[int]:
        """Return the pids of all workers, those of each replica in turn."""
        return [pid for replica in self.replicas for pid in replica.worker_pids()]

    def worker_of(self, connection: RawConnection) -> int | None:
        """Return the pid of the worker that has accepted this connection, or None."""
        return next(filter(None, (replica.worker_of(connection) for replica in self.replicas)), None)

    def connect_to_all_workers(self) -> dict[int, RawConnection]:
        """A connection to each worker, past nginx, kept alive by a first request; close them."""
        found: dict[int, RawConnection] = {}

        def has_all() -> bool:
            connection = RawConnection(self.direct_url)
            connection.send_head("GET", "/healthz").read_response()
            pid = self.worker_of(connection)
            if pid is None or pid in found:
                connection.close()
            else:
                found[pid] = connection
            return len(found) == self._workers

        wait_until(has_all, "every worker has accepted a connection", seconds=20)
        return found

    @staticmethod
    def outlast_readiness() -> None:
        """Wait until no worker answers `/readyz` with the result of a check from before: each keeps it for so long."""
        time.sleep(CACHE_SECONDS)

    def _is_ready(self, url: str) -> bool:
        try:
            response = requests.get(f"{url}/readyz", timeout=10, verify=self._trusted)
            return response.status_code == 200
        except requests.RequestException:
            return False

    @property
    def _trusted(self) -> str | bool:
        certificate = self.replicas[0].certificate or (self.nginx and self.nginx.certificate)
        return True if certificate is None else str(certificate)

    # Clients

    @property
    def public_host(self) -> str:
        """What a Host header says to reach the gateway by any of its ports."""
        return urlsplit(self.url).netloc

    def client(self) -> Client:
        """Return a new client, not signed in. The stack closes it."""
        client = Client(self.url, self.note_secret)
        client.verify = self._trusted
        self._opened.append(client)
        return client

    def signed_in(self, username: str) -> Client:
        """The account's session (`alice` or `bob`), made once by the login page."""
        if username not in self._clients:
            self._clients[username] = self.client().sign_in(username)
        return self._clients[username]

    def connect(self, replica: Replica | None = None) -> RawConnection:
        """A raw connection to the gateway, or to one replica past nginx; close it, or use it in a `with`."""
        return RawConnection(replica.url if replica else self.url, host=self.public_host)

    def note_secret(self, value: str) -> None:
        """Search the logs for this too."""
        self._secrets.add(value)

    # What most tests do

    def upload(
        self, client: Client, model: bytes | BinaryIO | LazyBytes = b"a model", filename: str = "model.onnx"
    ) -> str:
        """Upload a model; returns the id of the job that it started."""
        response = self.send(client, model_upload(model, filename))
        assert response.status_code == 201, response.text
        return str(response.json()["job_id"])

    def send(self, client: Client, body: Multipart, **options: Any) -> requests.Response:
        """Post a multipart body to init."""
        headers = {**body.headers, **options.pop("headers", {})}
        return client.post("/api/conversion/init", data=body, headers=headers, **options)

    def completed_job(
        self, client: Client, model: bytes | BinaryIO | LazyBytes = b"a model", filename: str = "model.onnx"
    ) -> str:
        """Upload a model and complete its job before any worker has seen it run. Return the job id."""
        job_id = self.upload(client, model, filename)
        self.sandbox.complete(job_id)
        return job_id

    def kept_model(
        self, client: Client, model: bytes | BinaryIO | LazyBytes = b"a model", filename: str = "model.onnx"
    ) -> dict[str, Any]:
        """Convert a model and store the result in the library. Return its description there."""
        response = client.promote(self.completed_job(client, model, filename))
        assert response.status_code == 201, response.text
        return dict(response.json())

    def wait_for_status(self, client: Client, job_id: str, status: str, *, seconds: float = 30.0) -> dict[str, Any]:
        """Poll until the job has a status. The other worker may still show the one before, for a second."""

        def reached() -> dict[str, Any] | None:
            response = client.get(f"/api/conversion/{job_id}")
            assert response.status_code == 200, response.text
            job = dict(response.json())
            return job if job["status"] == status else None

        return wait_until(reached, f"job {job_id} is {status}", seconds=seconds, every=0.1)

    # The end

    def reset(self) -> None:
        """Prepare for the next test: start what is stopped, and remove the sandbox's jobs, calls and faults."""
        if any(replica.process is None or replica.process.exit_code is not None for replica in self.replicas):
            self.kill_gateway()
            self.start_gateway()
        self.sandbox.reset()

    def leaks(self) -> list[str]:
        """Return a sentence for each secret of this run that a log shows, without the secret."""
        issued = {*self._secrets, *self.sandbox.issued_secrets()}
        environment = self.environment()
        client_secrets = {value for name, value in environment.items() if name.endswith("_SECRET")}
        # A Basic header encodes both together (RFC 7617).
        client_secrets |= {
            f"{environment[f'VISIONA_{client}_CLIENT_ID']}:{environment[f'VISIONA_{client}_CLIENT_SECRET']}"
            for client in ("OIDC", "SERVICE")
        }
        # The sandbox prints its published client secrets on purpose; the gateway's log must not show even those.
        ours = [replica.log_path for replica in self.replicas] + ([self.nginx.access_log] if self.nginx else [])
        return find_leaks(ours, issued | client_secrets) + find_leaks(self.sandbox.log_paths.values(), issued)

    def close(self) -> None:
        """End everything. Raise AssertionError if a log shows a secret or the gateway did not end on SIGTERM."""
        for client in self._opened:
            client.close()
        self._close_nginx()
        try:
            exit_code = self.stop_gateway()
        finally:
            self.sandbox.close()
            self.stores.close()
        for replica in self.replicas:
            note_log(replica.log_path)
        found = self.leaks()
        assert not found, "\n".join(found)
        assert not exit_code, "\n".join(
            [f"the gateway ended with {exit_code}:", *(log_end(replica.log_path) for replica in self.replicas)]
        )

    def _close_nginx(self) -> None:
        if self.nginx is not None:
            self.nginx.close()
