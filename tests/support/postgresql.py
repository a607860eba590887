"""A PostgreSQL cluster of the tests' own: Debian's programs, a free port of 127.0.0.1, data in a temporary folder.

    with PostgreSQL(tmp_path / "postgresql.log") as postgresql:
        url = postgresql.create_database()
        with postgresql.frozen():
            ...

The cluster ends with the test process, even if that is killed; only its folder is left then. It syncs nothing to disk
and trusts everybody on this machine, so nothing but test data belongs in it. The fixtures are `postgresql` and
`postgresql_url` (tests/conftest.py).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psycopg

from tests.support.processes import Child, Server, as_user, free_port

#: PostgreSQL refuses to run as root, so that root's clusters run as this account, which every Debian has.
_UNPRIVILEGED = "nobody"
_OWNER = "postgres"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Two replicas with two workers each, of at most 12 connections, the tests' own connections, and some to spare.
    "max_connections": "300",
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # A statement that fails shows in the log of the test.
    "log_min_messages": "warning",
    # The name of the database, for `statements_of`.
    "log_line_prefix": "%d ",
}
_STOP_SECONDS = 20.0
_CONNECT_SECONDS = 5

# Stops processes (SIGSTOP) until it gets SIGTERM, from us or because we have died: nothing stays stopped forever.
_FREEZER = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
for pid in map(int, sys.argv[1:]):
    os.kill(pid, signal.SIGSTOP)
print("frozen", flush=True)
signal.sigwait([signal.SIGTERM])
for pid in map(int, sys.argv[1:]):
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass
"""


class PostgreSQL(Server):
    """A running cluster. Its databases survive `stop` and `start`. For one thread at a time."""

    def __init__(self, log_path: Path) -> None:
        """Make a cluster, start it, and wait until it answers; the log shows what went wrong."""
        self._log_path = log_path
        self._programs = _find_programs()
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        # Not below the tests' own temporary folder, which only its owner may enter.
        self.data = Path(tempfile.mkdtemp(prefix="visiona-postgresql-"))
        self.port = free_port()
        self._server: Child | None = None
        self._freezer: subprocess.Popen[bytes] | None = None
        try:
            self._initialize()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The URL of the database that every cluster has, for statements about the cluster itself."""
        return self._url_of("postgres")

    def pids(self) -> list[int]:
        """The pids of all its processes, the server's own first."""
        return [] if self._server is None else [self._server.pid, *self._server.worker_pids()]

    def create_database(self, *, template: str | None = None) -> str:
        """Create a database and return its URL. `template` is the URL of one to copy; it must have no connections."""
        name = f"test_{uuid4().hex}"
        source = "template0" if template is None else template.rpartition("/")[2]
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        return self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop a database, even if there are connections to it."""
        name = url.rpartition("/")[2]
        self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def log_statements(self, url: str) -> None:
        """Log every statement that arrives in this database over connections made from now on."""
        self._execute(f"ALTER DATABASE \"{url.rpartition('/')[2]}\" SET log_statement = 'all'")

    def statements_of(self, url: str) -> list[str]:
        """Return what has arrived since `log_statements`, in order: one entry for each round trip of the client."""
        text = self._log_path.read_text(encoding="utf-8")
        pattern = rf"^{url.rpartition('/')[2]} LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)"
        return [" ".join(statement.split()) for statement in re.findall(pattern, text, re.MULTILINE)]

    def start(self) -> None:
        """Start a stopped cluster on the same port, and wait until it answers."""
        if self._server is not None:
            return
        command = [str(self._programs / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        command += [f"--{name}={value}" for name, value in _SETTINGS.items()]
        # QUIT: the server ends at once, and its processes and shared memory with it.
        self._server = Child("postgresql", command, self._log_path, orphan_signal="QUIT", user=self._user)
        self._server.wait_until_ready(self._answers)

    def stop(self) -> None:
        """End the server: connections break, and new ones are refused."""
        self.thaw()
        server, self._server = self._server, None
        if server is not None:
            # INT: without waiting for clients. Everybody's processes are gone when the server's own is.
            with suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGINT)
            server.wait(_STOP_SECONDS)

    def freeze(self) -> None:
        assert self._server is not None, "the cluster is stopped"
        if self._freezer is not None:
            return
        # The server's first, so that it starts no further one.
        os.kill(self._server.pid, signal.SIGSTOP)
        command = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-c", _FREEZER, *map(str, self.pids())]
        self._freezer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._freezer.stdout is not None
        assert self._freezer.stdout.readline() == b"frozen\n"

    def thaw(self) -> None:
        freezer, self._freezer = self._freezer, None
        if freezer is not None:
            with freezer:
                freezer.terminate()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the cluster for the time of the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def close(self) -> None:
        """End the cluster and remove its data."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def _initialize(self) -> None:
        if self._user is not None:
            shutil.chown(self.data, self._user)
        command = [*as_user(self._user), str(self._programs / "initdb"), "-D", str(self.data), "-U", _OWNER]
        command += ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        with self._log_path.open("ab") as log:
            subprocess.run(command, cwd="/", stdout=log, stderr=subprocess.STDOUT, check=True, timeout=120)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url, connect_timeout=_CONNECT_SECONDS, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _url_of(self, name: str) -> str:
        return f"postgresql://{_OWNER}@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=_CONNECT_SECONDS).close()
        except psycopg.OperationalError:
            return False
        return True


def _find_programs() -> Path:
    """Return the folder of the newest version's programs, which Debian does not put on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    assert found or on_path, "PostgreSQL's server is not installed. On Debian:  sudo apt-get install postgresql"
    return found[-1].parent if found else Path(str(on_path)).resolve().parent
