"""One gateway as a real process: gunicorn's master and its workers, with a port and a log of their own."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.certificates import write_certificate
from tests.support.clients import RawConnection
from tests.support.processes import Child, PythonChild, free_port, sockets_of

STOP_SECONDS = 45.0


class Replica:
    """A gateway that is started, stopped and killed. Its port is always the same."""

    def __init__(self, directory: Path, application: str, *, own_tls: bool = False) -> None:
        """Write everything into `directory`. With `own_tls` gunicorn terminates TLS."""
        self.temporary = directory / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"{'https' if own_tls else 'http'}://localhost:{self.port}"
        self.log_path = directory / "gateway.log"
        #: What a client has to trust, if gunicorn terminates TLS.
        self.certificate = directory / "gateway.crt" if own_tls else None
        self.process: Child | None = None
        self._command = ["gunicorn", "-c", "gunicorn.conf.py", application, "--bind", f"127.0.0.1:{self.port}"]
        if self.certificate is not None:
            key = self.certificate.with_suffix(".key")
            write_certificate(self.certificate, key)
            self._command += ["--certfile", str(self.certificate), "--keyfile", str(key)]

    def launch(self, environment: Mapping[str, str], limits: Mapping[str, int]) -> None:
        """Start the process, and return at once. `limits` are prlimit's."""
        assert self.process is None, "the gateway is running"
        self.process = PythonChild(
            "gateway",
            self._command,
            self.log_path,
            environment={**environment, "TMPDIR": str(self.temporary)},
            limits=limits,
            orphan_signal="QUIT",
        )

    def wait_until_ready(self, is_ready: Callable[[str], bool]) -> None:
        """Wait until `is_ready`, called with our URL, returns True. Kill the process if it ends or takes too long."""
        assert self.process is not None, "the gateway is not running"
        try:
            self.process.wait_until_ready(lambda: is_ready(self.url))
        except BaseException:
            self.kill()
            raise

    def stop(self) -> int | None:
        """End it by SIGTERM, and by SIGKILL if it takes too long. Return its exit code, or None if it did not run."""
        process, self.process = self.process, None
        # Longer than any request that a stalled upstream still holds when a test has ended.
        return process.stop(seconds=STOP_SECONDS, workers_tell_stacks=True) if process else None

    def kill(self) -> None:
        """End it and its workers by SIGKILL."""
        process, self.process = self.process, None
        if process:
            process.kill()

    def worker_pids(self) -> list[int]:
        return self.process.worker_pids() if self.process else []

    def worker_of(self, connection: RawConnection) -> int | None:
        """Return the pid of the worker that has accepted this connection, or None."""
        for pid in self.worker_pids():
            if any(peer == (self.port, connection.local_port) for _, peer in sockets_of(pid)):
                return pid
        return None
