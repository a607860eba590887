"""nginx as it is deployed: the files of deploy/ themselves, with nothing changed but where things are.

    with Nginx(tmp_path, 8000) as nginx:
        requests.get(f"{nginx.url}/healthz")

`Stack(..., nginx={})` puts one in front of a gateway.
"""

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support.certificates import write_certificate
from tests.support.processes import ROOT, Child, free_port

PROGRAM = "/usr/sbin/nginx"
CONFIGURATION = ROOT / "deploy" / "nginx.conf"
PAGES = ROOT / "deploy" / "pages"
#: Where the gateway is: one of these belongs to the configuration.
HOST, CLUSTER = ROOT / "deploy" / "nginx-host.conf", ROOT / "deploy" / "nginx-cluster.conf"
_STREAMS = "proxy_request_buffering off;"
_BUFFERS = "proxy_request_buffering on;"
_UPLOADS = "upstream visiona_uploads {"
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """A running nginx in front of a gateway on a port of 127.0.0.1. Everything it writes lies in its directory.

    `url` and `tls_url` are where it is reached; `certificate` is what a client has to trust for the latter. `public`
    is what the gateway is told to be its own address: `url`, unless `tls` or another was asked for.
    """

    def __init__(
        self,
        directory: Path,
        *gateway_ports: int,
        request_buffering: bool | None = None,
        tls: bool = False,
        public: str | None = None,
        uploads_port: int | None = None,
        replacements: dict[str, str] | None = None,
    ) -> None:
        """Start it.

        `public` is the address of a proxy in front of it. `request_buffering` changes that of uploads (None leaves it
        as deployed); `uploads_port` is that of a gateway for uploads alone (docs/deployment.md); `replacements` are
        further texts of the configuration and what takes their place.
        """
        self.directory = directory
        self.port, self.tls_port, self.redirect_port = free_port(), free_port(), free_port()
        self.url = f"http://localhost:{self.port}"
        self.tls_url = f"https://localhost:{self.tls_port}"
        self.public = public or (self.tls_url if tls else self.url)
        self.certificate = directory / "nginx.crt"
        self.access_log = directory / "nginx-access.log"
        directory.mkdir(parents=True, exist_ok=True)
        self.access_log.touch()
        write_certificate(self.certificate, directory / "nginx.key")
        changes = {
            "listen 80;": f"listen 127.0.0.1:{self.redirect_port};",
            "listen 127.0.0.1:8080;": f"listen 127.0.0.1:{self.port};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.tls_port} ssl;",
            "server_name visiona.example.com;": "server_name localhost;",
            "/etc/nginx/tls/visiona.crt": str(self.certificate),
            "/etc/nginx/tls/visiona.key": str(directory / "nginx.key"),
            "/var/log/nginx/visiona.log": str(self.access_log),
            "/usr/share/visiona/pages": str(PAGES),
            **({} if request_buffering is None else {_STREAMS: _BUFFERS if request_buffering else _STREAMS}),
            **(replacements or {}),
        }
        main = directory / "nginx.conf"
        site = _hosts(gateway_ports, uploads_port) + deployed_configuration(changes)
        main.write_text(_main(directory, site), encoding="utf-8")
        self._command = [PROGRAM, "-p", str(directory), "-c", str(main), "-e", "stderr"]
        self.start()

    def start(self) -> None:
        """Start it, also again after `close`, and wait until it accepts."""
        self._child = Child("nginx", self._command, self.directory / "nginx.log")
        try:
            self._child.wait_until_ready(self._accepts)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._child.stop()

    def log(self) -> str:
        """The end of its error log."""
        return self._child.log_end()

    def worker_pids(self) -> list[int]:
        return self._child.worker_pids()

    def _accepts(self) -> bool:
        with _connection(self.port) as is_made:
            return is_made


def deployed_configuration(changes: dict[str, str]) -> str:
    """deploy/nginx.conf with the texts replaced; AssertionError if one of them does not occur in it."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"deploy/nginx.conf does not say {old!r}"
        text = text.replace(old, new)
    return text


def _hosts(ports: Sequence[int], uploads_port: int | None) -> str:
    """Return the file for one host or for several, with these ports of this machine as the gateway's addresses."""
    text = (HOST if len(ports) == 1 else CLUSTER).read_text(encoding="utf-8")
    others, uploads_group, uploads = text.partition(_UPLOADS)
    return (
        _with_ports(others, ports)
        + uploads_group
        + _with_ports(uploads, ports if uploads_port is None else [uploads_port])
    )


def _with_ports(text: str, ports: Sequence[int]) -> str:
    def servers(found: re.Match[str]) -> str:
        return "".join(f"    server 127.0.0.1:{port} {found['options']}\n" for port in ports)

    return re.sub(r"(?:^    server \S+ (?P<options>.*;)\n)+", servers, text, flags=re.MULTILINE)


def _main(directory: Path, site: str) -> str:
    """What Debian's own /etc/nginx/nginx.conf is for a site, with every path in `directory`."""
    included = directory / "site.conf"
    included.write_text(site, encoding="utf-8")
    lines = ["daemon off;", "worker_processes 2;", f"pid {directory}/nginx.pid;", "error_log stderr warn;"]
    if os.geteuid() == 0:
        # Its workers would run as a user who may not read a test's directory.
        lines.append("user root;")
    paths = [f"{name}_temp_path {directory}/nginx-{name};" for name in _TEMPORARY]
    http = ["http {", "sendfile on; tcp_nopush on;", "access_log off;", *paths, f"include {included};", "}", ""]
    return "\n".join([*lines, "events { worker_connections 2048; }", *http])


@contextmanager
def _connection(port: int) -> Iterator[bool]:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            yield True
    except OSError:
        yield False
