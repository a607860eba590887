"""A PgBouncer in transaction mode, in front of the tests' PostgreSQL cluster: a free port of 127.0.0.1."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests.support.processes import Child, free_port

_CONNECT_SECONDS = 5


@contextmanager
def pgbouncer(url: str, log_path: Path, *, server_connections: int) -> Iterator[str]:
    """Run a PgBouncer whose clients share `server_connections`; gives the URL of the same database through it."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "PgBouncer is not installed. On Debian:  sudo apt-get install pgbouncer"
    parts, port = urlsplit(url), free_port()
    # Not below the tests' own temporary folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="visiona-pgbouncer-"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"""
[databases]
* = host={parts.hostname} port={parts.port} user={parts.username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {server_connections}
max_client_conn = 200
""",
        encoding="utf-8",
    )
    # PgBouncer refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    bouncer = Child("pgbouncer", [program, str(settings)], log_path, user=user)
    through = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))

    def answers() -> bool:
        try:
            psycopg.connect(through, connect_timeout=_CONNECT_SECONDS).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        bouncer.wait_until_ready(answers)
        yield through
    finally:
        bouncer.kill()
        shutil.rmtree(folder)
