"""`python -m sandbox.demo` (`make run`): the gateway and its sandbox on one machine, until Ctrl-C.

Both are child processes, started as an operator would start them. The demo starts nothing unless all four ports are
free, and leaves nothing running, whatever ends it. When one child ends, it stops the other and says why.
"""

import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sandbox.children import Children, Program, ensure_ports_are_free, responds, say
from sandbox.data_directory import create_once
from sandbox.settings import ACCOUNTS, SERVICES, Address, Settings, URLs


@dataclass(frozen=True)
class Plan:
    """What to start, and where."""

    directory: Path
    gateway: Address
    sandbox: Settings
    gateway_command: tuple[str, ...]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Plan":
        """Return the default plan. `PORT` moves the gateway; raises ValueError if it is not a port."""
        gateway = Address.parse(f"localhost:{environment.get('PORT') or 8000}")
        directory = Path("var/demo").resolve()
        sandbox = Settings(data=directory / "sandbox", gateways=(gateway.url,))
        command = ("-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app", "--bind", f"127.0.0.1:{gateway.port}")
        return cls(directory, gateway, sandbox, (sys.executable, *command))

    @property
    def addresses(self) -> dict[str, Address]:
        return {"gateway": self.gateway} | {service: self.sandbox.address_of(service) for service in SERVICES}

    @property
    def urls(self) -> URLs:
        return URLs(*(self.sandbox.address_of(service).url for service in SERVICES))

    def gateway_environment(self) -> dict[str, str]:
        secret_key = create_once(self.directory / "secret-key", lambda: secrets.token_urlsafe(48).encode())
        return self.urls.gateway_environment(self.gateway.url) | {
            "VISIONA_SECRET_KEY": secret_key.decode(),
            "VISIONA_LOG_FORMAT": "console",
            "VISIONA_DATABASE_URL": f"sqlite:///{self.directory}/visiona.db",
            "VISIONA_STORAGE_URL": f"file://{self.directory}/models",
        }


class Demo:
    """Runs the sandbox and the gateway as children."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._children = Children("demo", plan.directory)

    def run(self) -> int:
        """Run until a signal (return 0) or until something fails (return 1)."""
        return self._children.run(self._start)

    def _start(self) -> str:
        plan = self._plan
        ensure_ports_are_free(plan.addresses)
        plan.directory.mkdir(parents=True, exist_ok=True)
        environment = plan.gateway_environment()
        say("Starting the sandbox and the gateway …")
        self._children.start(Program("sandbox", sandbox_command(plan.sandbox)))
        self._children.start(Program("gateway", plan.gateway_command, environment))
        urls = {service: f"{plan.urls.of(service)}/" for service in SERVICES}
        urls["gateway"] = f"{plan.gateway.url}/readyz"
        self._children.wait_until_ready({name: partial(responds, url) for name, url in urls.items()})
        return instructions(plan)


def sandbox_command(settings: Settings) -> tuple[str, ...]:
    """Return the command of a sandbox with these addresses, data, gateways and durations."""
    options = [f"--{service}={settings.address_of(service)}" for service in SERVICES]
    options += [f"--data={settings.data}", f"--job-seconds={settings.job_seconds}"]
    options += [f"--gateway={url}" for url in settings.gateways]
    return (sys.executable, "-m", "sandbox", *options)


def instructions(plan: Plan) -> str:
    """Return the text for the terminal: addresses, accounts, and commands to try."""
    accounts = ", ".join(f"{account.username} / {account.password}" for account in ACCOUNTS)
    services = "\n".join(f"  {service:<14} {plan.urls.of(service)}" for service in SERVICES)
    return f"""
Open in a browser  {plan.gateway.url}
Sign in as         {accounts}  (user name / password)

Sandbox (stand-ins for the three services):
{services}
Logs: {plan.directory}/gateway.log, sandbox.log
{things_to_try(plan.gateway.url)}
Ctrl-C stops the gateway and the sandbox.
"""


def things_to_try(base: str) -> str:
    """Return commands that sign in, convert a model, save the result to the library and download it."""
    return f"""
The sandbox accepts any file as a model. The conversion fails if the file's name begins with "fail".
To try the API in a terminal:

  BASE={base}
  LOGIN=$(curl -sSL -c jar -b jar -o /dev/null -w '%{{url_effective}}' "$BASE/auth/login")
  curl -sSL -c jar -b jar -o /dev/null -d username=alice -d password=alice "$LOGIN"
  curl -sS -b jar "$BASE/api/me"
  head -c 1000000 /dev/urandom > model.onnx
  curl -sS -b jar -F model_id=32769 -F version=0001 -F platform=720 -F model=@model.onnx \\
       "$BASE/api/conversion/init" | tee job.json
  JOB=$(python3 -c 'import json; print(json.load(open("job.json"))["job_id"])')
  curl -sS -b jar "$BASE/api/conversion/$JOB"          # repeat until "terminal" is true
  curl -sS -b jar -X POST "$BASE/api/conversion/$JOB/promote-to-models"
  curl -sSL --fail -b jar -o model.nef "$BASE/api/conversion/$JOB/download"
"""


def main() -> int:
    try:
        plan = Plan.from_environment(os.environ)
    except ValueError as error:
        say(f"demo: PORT: {error}")
        return 1
    return Demo(plan).run()


if __name__ == "__main__":
    sys.exit(main())
