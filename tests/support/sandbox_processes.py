"""The sandbox as processes, one for each service, with its control API."""

import json
from pathlib import Path
from typing import Any

import requests

from sandbox.data_directory import DataDirectory
from sandbox.member_center.register import Register
from sandbox.settings import CONVERTER, FILE_ACCESS, MEMBER_CENTER, SERVICES, URLs
from tests.support.processes import Child, PythonChild, wait_until

CONTROL_SECONDS = 30.0


class SandboxProcesses:
    """Member Center, converter and File Access Agent on ports of their own; each can be stopped and started alone."""

    def __init__(self, directory: Path, gateway_url: str, options: dict[str, Any]) -> None:
        """Start all three. `options` are those of `python -m sandbox` (`{"job_seconds": 3600}`)."""
        self.data = directory / "sandbox"
        self.log_paths = {service: directory / f"{service}.log" for service in SERVICES}
        self._directory = directory
        self._gateway_url = gateway_url
        self._options = options
        self._addresses = dict.fromkeys(SERVICES, "localhost:0")
        self._children: dict[str, Child] = {}
        self._control = requests.Session()
        self._control.trust_env = False
        try:
            for service in SERVICES:
                self._launch(service)
            for service in SERVICES:
                self._await(service)
        except BaseException:
            self.close()
            raise

    @property
    def urls(self) -> URLs:
        return URLs(*(f"http://{self._addresses[service]}" for service in SERVICES))

    def start(self, service: str) -> None:
        """Start a stopped service again on its port; its data are still there, its call log and faults are not."""
        if service not in self._children:
            self._launch(service)
            self._await(service)

    def stop(self, service: str) -> None:
        """End a service: its port then refuses connections."""
        if child := self._children.pop(service, None):
            child.kill()

    def close(self) -> None:
        self._control.close()
        for service in list(self._children):
            self.stop(service)

    # What the services have seen

    def uploads(self) -> list[dict[str, Any]]:
        """Return every upload that the converter has seen, the newest last."""
        return self._get(CONVERTER, "uploads")["uploads"]  # type: ignore[no-any-return]

    def last_upload(self) -> dict[str, Any]:
        return self.uploads()[-1]

    def ended_uploads(self, count: int, *, seconds: float = 30.0) -> list[dict[str, Any]]:
        """Wait until that many uploads have ended, with any outcome, and return all."""

        def ended() -> list[dict[str, Any]] | None:
            found = self.uploads()
            return found if len([u for u in found if u["outcome"] != "receiving"]) >= count else None

        return wait_until(ended, f"{count} uploads have ended at the converter", seconds=seconds)

    def calls(self, service: str, name: str | None = None) -> list[dict[str, Any]]:
        """The calls that a service has received, or those of one name (`get_job`, `download_tokens`)."""
        calls = self._get(service, "calls")["calls"]
        return [call for call in calls if name is None or call["call"] == name]

    def minted(self) -> int:
        """Return how many download tokens were requested."""
        return len(self.calls(MEMBER_CENTER, "download_tokens"))

    def issued_secrets(self) -> list[str]:
        """Return every code, token and client secret that Member Center has issued, even while it is stopped."""
        register = Register(DataDirectory(self.data), ())
        return [row["value"] for row in register.secrets()]

    # Control of the services

    def force(self, job_id: str, **changes: Any) -> dict[str, Any]:
        """Change what the converter says of a job: `status="completed"`, `progress=40`, `speed=0`."""
        url = f"{self.urls.converter}/_sandbox/jobs/{job_id}"
        response = self._control.patch(url, json=changes, timeout=CONTROL_SECONDS)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def complete(self, job_id: str) -> None:
        self.force(job_id, status="completed")

    def fail(self, job_id: str, code: str = "undefined_cpu_op", message: str = "undefined CPU op [NonZero]") -> None:
        self.force(job_id, status="failed", error={"code": code, "message": message})

    def fault(self, service: str, **rule: Any) -> None:
        """Add a fault rule to a service (sandbox/README.md)."""
        response = self._control.post(f"{self.urls.of(service)}/_sandbox/faults", json=rule, timeout=CONTROL_SECONDS)
        assert response.status_code == 201, response.text

    def clear_faults(self) -> None:
        for service in self._children:
            self._delete(service, "faults")

    def reset(self) -> None:
        """Start stopped services, and remove jobs, uploads, calls and faults; issued secrets stay."""
        for service in SERVICES:
            self.start(service)
            self._delete(service, "faults")
            self._delete(service, "calls")
        self._delete(CONVERTER, "jobs")
        self._delete(CONVERTER, "uploads")

    # The processes

    def _launch(self, service: str) -> None:
        self._ready_file(service).unlink(missing_ok=True)
        options = {"only": service, service: self._addresses[service], "data": self.data, "gateway": self._gateway_url}
        options |= {"ready-file": self._ready_file(service), **self._options}
        command = ["sandbox", *(f"--{name.replace('_', '-')}={value}" for name, value in options.items())]
        self._children[service] = PythonChild(service, command, self.log_paths[service])

    def _await(self, service: str) -> None:
        ready_file = self._ready_file(service)
        self._children[service].wait_until_ready(ready_file.exists)
        facts = json.loads(ready_file.read_text(encoding="utf-8"))
        self._addresses[service] = facts[service.replace("-", "_")].removeprefix("http://")

    def _ready_file(self, service: str) -> Path:
        return self._directory / f"{service}.ready"

    def _get(self, service: str, what: str) -> dict[str, Any]:
        response = self._control.get(f"{self.urls.of(service)}/_sandbox/{what}", timeout=CONTROL_SECONDS)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def _delete(self, service: str, what: str) -> None:
        response = self._control.delete(f"{self.urls.of(service)}/_sandbox/{what}", timeout=CONTROL_SECONDS)
        assert response.status_code == 204, response.text


__all__ = ["CONVERTER", "FILE_ACCESS", "MEMBER_CENTER", "SandboxProcesses"]
