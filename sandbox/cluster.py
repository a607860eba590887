"""`python -m sandbox.cluster` (`make cluster`): two gateways behind nginx, PostgreSQL, an S3 server and the sandbox.

It shows on one machine how several hosts behave: stop a gateway, and the other one continues. Gateways start again by
themselves.
All data is in a temporary folder, which is removed at the end. PostgreSQL accepts everybody on this machine, and the S3
server checks no signatures, so nothing but test data belongs in it.
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sandbox.children import ChildError, Children, Program, ensure_ports_are_free, responds, say
from sandbox.demo import sandbox_command, things_to_try
from sandbox.settings import ACCOUNTS, SERVICES, Address, Settings, URLs

ROOT: Final = Path(__file__).resolve().parent.parent
BUCKET: Final = "visiona"
#: PostgreSQL refuses to run as root. Every Debian has this account.
_UNPRIVILEGED: Final = "nobody"
_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_INITDB_SECONDS: Final = 60


@dataclass(frozen=True)
class Ports:
    """The ports of everything, all at localhost."""

    nginx: int = 8000
    gateways: tuple[int, ...] = (8001, 8002)
    services: tuple[int, ...] = (9001, 9002, 9003)
    s3: int = 9004
    postgresql: int = 9005

    @property
    def addresses(self) -> dict[str, Address]:
        named = {"nginx": self.nginx, "S3": self.s3, "PostgreSQL": self.postgresql}
        named |= {f"gateway-{number}": port for number, port in enumerate(self.gateways, 1)}
        named |= dict(zip(SERVICES, self.services, strict=True))
        return {name: Address("localhost", port) for name, port in named.items()}


class Cluster:
    """Starts everything in `directory`, in order."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self._directory = directory
        self._ports = ports
        self._children = Children("cluster", directory)
        member_center, converter, file_access = (Address("localhost", port) for port in ports.services)
        self._sandbox = Settings(
            member_center, converter, file_access, data=directory / "sandbox", gateways=(self.url,)
        )

    @property
    def url(self) -> str:
        """The address for browsers."""
        return f"http://localhost:{self._ports.nginx}"

    def run(self) -> int:
        """Run until a signal (return 0) or until something fails (return 1)."""
        return self._children.run(self._start)

    def _start(self) -> str:
        nginx, postgresql = find_programs()
        ensure_ports_are_free(self._ports.addresses)
        say("Starting PostgreSQL, the S3 server, the sandbox, two gateways and nginx …")
        self._start_stores(postgresql)
        self._children.start(Program("sandbox", sandbox_command(self._sandbox)))
        urls = {service: f"{self._sandbox.address_of(service).url}/" for service in SERVICES}
        self._children.wait_until_ready({name: partial(responds, url) for name, url in urls.items()})
        self._start_gateways()
        configuration = self._directory / "nginx.conf"
        configuration.write_text(nginx_configuration(self._directory, self._ports), encoding="utf-8")
        command = (nginx, "-p", str(self._directory), "-c", str(configuration), "-e", "stderr")
        self._children.start(Program("nginx", command))
        self._children.wait_until_ready({"nginx": partial(responds, f"{self.url}/healthz")})
        return self._instructions()

    def _start_stores(self, postgresql: Path) -> None:
        port, s3_url = self._ports.postgresql, f"http://localhost:{self._ports.s3}"
        data = self._directory / "postgresql"
        data.mkdir()
        account = _as_unprivileged(data)
        command = [*account, str(postgresql / "initdb"), "-D", str(data), "-U", "visiona", "--auth=trust", "--no-sync"]
        made = subprocess.run(  # noqa: S603 - our own command
            [*command, "--encoding=UTF8", "--locale=C.UTF-8"],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_INITDB_SECONDS,
            check=False,
        )
        if made.returncode != 0:
            raise ChildError(f"PostgreSQL's initdb failed:\n{made.stderr}")
        options = ("-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "fsync=off")
        # The account has to change first: that clears the signal for the parent's end.
        orphan = ("setpriv", "--pdeathsig", "QUIT") if account else ()
        server = (*account, *orphan, str(postgresql / "postgres"), "-D", str(data), *options)
        # SIGINT: end without waiting for clients.
        self._children.start(Program("postgresql", server, stop_signal=signal.SIGINT))
        moto = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._ports.s3))
        self._children.start(Program("s3", moto))
        is_ready = (str(postgresql / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port))
        self._children.wait_until_ready(
            {"PostgreSQL": partial(_succeeds, is_ready), "S3": partial(responds, f"{s3_url}/moto-api/data.json")}
        )
        request = urllib.request.Request(f"{s3_url}/{BUCKET}", method="PUT")  # noqa: S310 - our own URL
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()
        except urllib.error.URLError as error:
            raise ChildError(f"the S3 server did not create a bucket: {error}") from error

    def _start_gateways(self) -> None:
        environment = self._gateway_environment()
        command = (sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")
        programs, checks = [], {}
        for number, port in enumerate(self._ports.gateways, 1):
            name = f"gateway-{number}"
            options = ("--bind", f"127.0.0.1:{port}", "--pid", str(self._directory / f"{name}.pid"))
            programs.append(Program(name, (*command, *options), environment, restarts=True))
            checks[name] = partial(responds, f"http://localhost:{port}/readyz")
        self._children.start(*programs)
        self._children.wait_until_ready(checks)

    def _gateway_environment(self) -> dict[str, str]:
        urls = URLs(*(self._sandbox.address_of(service).url for service in SERVICES))
        return urls.gateway_environment(self.url) | {
            "VISIONA_SECRET_KEY": secrets.token_urlsafe(48),
            "VISIONA_LOG_FORMAT": "console",
            "VISIONA_DATABASE_URL": f"postgresql://visiona@127.0.0.1:{self._ports.postgresql}/postgres",
            "VISIONA_STORAGE_URL": f"s3://{BUCKET}/models",
            "AWS_ENDPOINT_URL": f"http://localhost:{self._ports.s3}",
            "AWS_ACCESS_KEY_ID": "cluster",
            "AWS_SECRET_ACCESS_KEY": "cluster",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            # The user's own profiles could name another server.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def _instructions(self) -> str:
        accounts = ", ".join(f"{account.username} / {account.password}" for account in ACCOUNTS)
        gateways = "\n".join(
            f"  gateway-{n}      http://localhost:{port}" for n, port in enumerate(self._ports.gateways, 1)
        )
        return f"""
Open in a browser  {self.url}  (nginx, in front of both gateways)
Sign in as         {accounts}  (user name / password)

Each gateway alone, for /readyz and /metrics:
{gateways}

Logs and data: {self._directory}
{things_to_try(self.url)}
To stop or restart a gateway while you poll or upload:

  kill -9 $(cat {self._directory}/gateway-1.pid)         # a crash; it starts again after a few seconds
  kill $(cat {self._directory}/gateway-2.pid)            # a restart that loses no request
  kill -HUP $(cat {self._directory}/gateway-1.pid)       # new workers, without a gap

Ctrl-C ends everything and removes the data.
"""


def find_programs() -> tuple[str, Path]:
    """Return nginx and the folder of PostgreSQL's programs. Raises ChildError with what is missing."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    # Debian does not put PostgreSQL's programs on PATH. The newest version comes last.
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    postgres = str(found[-1]) if found else shutil.which("postgres")
    missing = [name for name, path in (("nginx", nginx), ("postgres", postgres)) if path is None]
    if nginx is None or postgres is None:
        raise ChildError(f"missing: {', '.join(missing)}. Run  scripts/ensure-commands {' '.join(missing)}")
    return nginx, Path(postgres).resolve().parent


def nginx_configuration(directory: Path, ports: Ports) -> str:
    """Return a whole configuration around the deployed one, with these ports and without TLS."""
    site = "".join((ROOT / "deploy" / name).read_text("utf-8") for name in ("nginx-cluster.conf", "nginx.conf"))
    servers = "".join(f"    server 127.0.0.1:{port} \\1;\n" for port in ports.gateways)
    site = re.sub(r"(?:    server [\d.]+:8000 ([^;]+);\n)+", servers, site)
    site = re.sub(r"^ +(?:listen 443 ssl|ssl_\w+ [^;]+);\n", "", site, flags=re.MULTILINE)
    changes = {
        "listen 80;": f"listen unix:{directory}/redirect.sock;",
        "listen 127.0.0.1:8080;": f"listen 127.0.0.1:{ports.nginx};",
        "visiona.example.com": "localhost",
        "/var/log/nginx/visiona.log": f"{directory}/nginx-access.log",
        "/usr/share/visiona/pages": str(ROOT / "deploy" / "pages"),
    }
    for old, new in changes.items():
        site = site.replace(old, new)
    paths = [f"{name}_temp_path {directory}/nginx-{name};" for name in _TEMPORARY]
    # Workers of root's nginx would run as an account that cannot write to the directory.
    main = ["daemon off;", f"pid {directory}/nginx.pid;", "error_log stderr warn;"] + ["user root;"] * (
        os.geteuid() == 0
    )
    return "\n".join([*main, "events { worker_connections 2048; }", "http {", "access_log off;", *paths, site, "}", ""])


def _as_unprivileged(data: Path) -> list[str]:
    """Return what to put before PostgreSQL's commands to run them as an account that owns the data."""
    if os.geteuid() != 0:
        return []
    account = pwd.getpwnam(_UNPRIVILEGED)
    os.chown(data, account.pw_uid, account.pw_gid)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]


def _succeeds(command: tuple[str, ...]) -> bool:
    return subprocess.run(command, check=False, timeout=10).returncode == 0  # noqa: S603 - our own command


def run(ports: Ports) -> int:
    """Run a cluster in a temporary folder; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="visiona-cluster-", ignore_cleanup_errors=True) as directory:
        # PostgreSQL's account has to reach its own folder below.
        Path(directory).chmod(0o711)
        return Cluster(Path(directory), ports).run()


def main() -> int:
    """Run a cluster at the usual ports; `PORT` moves nginx."""
    try:
        ports = Ports(nginx=Address.parse(f"localhost:{os.environ.get('PORT') or 8000}").port)
    except ValueError as error:
        say(f"cluster: PORT: {error}")
        return 1
    return run(ports)


if __name__ == "__main__":
    sys.exit(main())
