"""`python -m sandbox`: run the stand-ins until SIGINT or SIGTERM."""

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from sandbox.running import Running, start
from sandbox.server import AddressInUseError
from sandbox.settings import ACCOUNTS, BASIC_CREDENTIALS, DEFAULT_GATEWAY, SERVICES, Address, Settings


def parse_arguments(arguments: list[str] | None = None) -> tuple[Settings, Path | None]:
    """Read settings and the path of the ready file from the command line; exits with 2 if it is invalid."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description="Runnable stand-ins for Member Center, converter and File Access Agent.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    address = {"type": _address, "metavar": "HOST:PORT"}
    parser.add_argument("--member-center", default=defaults.member_center, **address)  # type: ignore[arg-type]
    parser.add_argument("--converter", default=defaults.converter, **address)  # type: ignore[arg-type]
    parser.add_argument("--file-access", default=defaults.file_access, **address)  # type: ignore[arg-type]
    parser.add_argument("--only", choices=SERVICES, help="run this one alone")
    parser.add_argument("--data", type=Path, default=defaults.data, metavar="DIR", help="where all data is stored")
    parser.add_argument(
        "--gateway",
        action="append",
        metavar="URL",
        help=f"a gateway's base URL, registered for sign-in and sign-out; repeatable (default: {DEFAULT_GATEWAY})",
    )
    parser.add_argument("--job-seconds", type=float, default=defaults.job_seconds)
    parser.add_argument("--access-token-seconds", type=int, default=defaults.access_token_seconds)
    parser.add_argument("--max-upload-bytes", type=int, default=defaults.max_upload_bytes)
    parser.add_argument(
        "--client-secret", metavar="TEXT", help="the secret of both clients, instead of the published ones"
    )
    parser.add_argument("--basic-credentials", choices=BASIC_CREDENTIALS, default=defaults.basic_credentials)
    parser.add_argument("--ready-file", type=Path, metavar="PATH", help="written when all servers listen")
    options = vars(parser.parse_args(arguments))
    ready_file = options.pop("ready_file")
    options["gateways"] = tuple(options.pop("gateway") or defaults.gateways)
    try:
        return Settings(**options), ready_file
    except ValueError as error:
        parser.error(str(error))


def main() -> int:
    settings, ready_file = parse_arguments()
    if ready_file:
        # Remove the file of an earlier run, which could be mistaken for this run's.
        ready_file.unlink(missing_ok=True)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    try:
        sandbox = start(settings)
    except AddressInUseError as error:
        print(f"sandbox: {error.strerror}", file=sys.stderr)
        return 2
    with sandbox:
        print(describe(sandbox), flush=True)
        if ready_file:
            write_ready_file(ready_file, sandbox)
        # With a time limit: a signal that comes just before the wait does not interrupt it.
        while not over.wait(0.5):
            pass
    return 0


def describe(sandbox: Running) -> str:
    """Return the text that explains a running sandbox in the terminal."""
    urls, settings = sandbox.urls, sandbox.settings
    lines = ["This is a sandbox: stand-ins for the gateway's upstream services.", ""]
    lines += [f"  {service:<14} {urls.of(service)}" for service in settings.services]
    lines += ["", "Accounts: " + ", ".join(f"{account.username} / {account.password}" for account in ACCOUNTS)]
    lines += ["", "A gateway that uses it:", ""]
    environment = urls.gateway_environment(settings.gateways[0])
    return "\n".join([*lines, *(f"  export {name}={value}" for name, value in environment.items()), ""])


def write_ready_file(path: Path, sandbox: Running) -> None:
    """Write the addresses of the servers to a file, atomically."""
    urls = sandbox.urls
    services = sandbox.settings.services
    facts = {service.replace("-", "_"): urls.of(service) for service in services} | {"pid": os.getpid()}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    draft.replace(path)


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
