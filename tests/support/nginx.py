"""nginx as it is deployed: deploy/nginx.conf itself, with nothing changed but where things are.

    with Nginx(tmp_path, 8000) as nginx:
        requests.get(f"{nginx.url}/healthz")

`Stack(..., nginx={})` puts one in front of a gateway.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support.certificates import write_certificate
from tests.support.processes import ROOT, Child, free_port

PROGRAM = "/usr/sbin/nginx"
CONFIGURATION = ROOT / "deploy" / "nginx.conf"
_STREAMS = "proxy_request_buffering off;"
_BUFFERS = "proxy_request_buffering on;"
_UPLOADS = "visiona_uploads"
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """A running nginx in front of a gateway on a port of 127.0.0.1. Everything it writes lies in its directory.

    `url` and `tls_url` are where it is reached; `certificate` is what a client has to trust for the latter. `public`
    is the one of the two that the gateway is told to be its own address: `url`, unless `tls` was asked for.
    """

    def __init__(
        self,
        directory: Path,
        *gateway_ports: int,
        request_buffering: bool | None = None,
        tls: bool = False,
        uploads_port: int | None = None,
        replacements: dict[str, str] | None = None,
    ) -> None:
        """Start it, and wait until it accepts.

        `request_buffering` changes that of uploads (None leaves it as deployed); `uploads_port` is that of a gateway
        for uploads alone (docs/deployment.md); `replacements` are further texts of the configuration and what takes
        their place.
        """
        self.directory = directory
        self.port, self.tls_port, self.redirect_port = free_port(), free_port(), free_port()
        self.url = f"http://localhost:{self.port}"
        self.tls_url = f"https://localhost:{self.tls_port}"
        self.public = self.tls_url if tls else self.url
        self.certificate = directory / "nginx.crt"
        self.access_log = directory / "nginx-access.log"
        directory.mkdir(parents=True, exist_ok=True)
        self.access_log.touch()
        write_certificate(self.certificate, directory / "nginx.key")
        apart = f"upstream {_UPLOADS} {{\n    server 127.0.0.1:"
        changes = {
            **({} if uploads_port is None else {f"{apart}8000 ": f"{apart}{uploads_port} "}),
            "    server 127.0.0.1:8000 max_fails=0;": "\n".join(
                f"    server 127.0.0.1:{port} max_fails=0;" for port in gateway_ports
            ),
            "listen 80;": f"listen 127.0.0.1:{self.redirect_port};",
            "listen 127.0.0.1:8080;": f"listen 127.0.0.1:{self.port};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.tls_port} ssl;",
            "server_name visiona.example.com;": "server_name localhost;",
            "/etc/nginx/tls/visiona.crt": str(self.certificate),
            "/etc/nginx/tls/visiona.key": str(directory / "nginx.key"),
            "/var/log/nginx/visiona.log": str(self.access_log),
            **({} if request_buffering is None else {_STREAMS: _BUFFERS if request_buffering else _STREAMS}),
            **(replacements or {}),
        }
        main = directory / "nginx.conf"
        main.write_text(_main(directory, deployed_configuration(changes)), encoding="utf-8")
        self._child = Child(
            "nginx", [PROGRAM, "-p", str(directory), "-c", str(main), "-e", "stderr"], directory / "nginx.log"
        )
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
