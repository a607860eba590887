"""nginx for comparison: it proxies to the same sink, with default and larger buffers, and serves static files."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from tests.support.nginx import PROGRAM
from tests.support.processes import Child, free_port

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
LARGE_BUFFER = "256k"


class NginxProxy:
    """One nginx with two workers, like the gateway. `files` is the folder that it serves."""

    def __init__(self, directory: Path, sink_port: int) -> None:
        self.default_port, self.large_port, self.static_port = free_port(), free_port(), free_port()
        self.files = directory / "static"
        self.files.mkdir(parents=True)
        configuration = directory / "nginx-bench.conf"
        configuration.write_text(self._configuration(directory, sink_port), encoding="utf-8")
        command = [PROGRAM, "-p", str(directory), "-c", str(configuration), "-e", "stderr"]
        self.child = Child("nginx", command, directory / "nginx-bench.log")
        try:
            self.child.wait_until_ready(self._accepts)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop it."""
        self.child.stop()

    def pids(self) -> list[int]:
        """The master and its workers."""
        return [self.child.pid, *self.child.worker_pids()]

    def _configuration(self, directory: Path, sink_port: int) -> str:
        # Buffering off and HTTP/1.1, as usual for uploads; the rest are nginx's defaults.
        proxying = (
            f"location / {{ proxy_pass http://127.0.0.1:{sink_port}; proxy_request_buffering off; "
            "proxy_http_version 1.1; }"
        )
        lines = ["daemon off;", "worker_processes 2;", f"pid {directory}/nginx-bench.pid;", "error_log stderr warn;"]
        if os.geteuid() == 0:
            # Otherwise its workers would run as an account that cannot read our directory.
            lines.append("user root;")
        # Two connections per upload, for a thousand slow uploads.
        lines += [
            "worker_rlimit_nofile 8192;",
            "events { worker_connections 4096; }",
            "http {",
            "sendfile on; tcp_nopush on; access_log off;",
        ]
        lines += ["keepalive_requests 1000000;", "client_max_body_size 0;"]
        lines += [f"{name}_temp_path {directory}/nginx-bench-{name};" for name in _TEMPORARY]
        lines.append(f"server {{ listen 127.0.0.1:{self.default_port}; {proxying} }}")
        large = f"client_body_buffer_size {LARGE_BUFFER};"
        lines.append(f"server {{ listen 127.0.0.1:{self.large_port}; {large} {proxying} }}")
        lines.append(f"server {{ listen 127.0.0.1:{self.static_port}; root {self.files}; }}")
        return "\n".join([*lines, "}", ""])

    def _accepts(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.static_port), timeout=1):
            return True
        return False
