"""The gateway with shorter waits and timeouts in the retry matrix, for tests in which time runs out.

    gunicorn -c gunicorn.conf.py 'tests.support.scaled_gateway:make_app()'

The gateway has no setting for this. It is assembled here from its own parts by its own composition root. The
environment tells the scale, besides the VISIONA_* variables:

    SCALED_TRY_SECONDS       no try waits longer than this, neither to connect, nor idle, nor in all (default 1)
    SCALED_WAIT_FACTOR       what the waits between tries are multiplied with (default 0.02)
    SCALED_UNRESOLVABLE      a file of port numbers, one a line: names are not resolved for connections to these
    SCALED_STALL_SECONDS     how long a small body may stay unsent, or a response unread (default: the gateway's own)
    SCALED_BROKEN_ENDPOINT   an endpoint whose view has a bug (`models.page`)
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from app import create_app
from app.bootstrap import build_gateway
from app.clients.retry import MATRIX, Call, Retrier, RetryPolicy
from app.clients.transport import Timeouts
from app.config import load_settings
from app.server import worker
from app.streaming import rate

DEFAULT_TRY_SECONDS = 1.0
DEFAULT_WAIT_FACTOR = 0.02


def scaled(matrix: Mapping[Call, RetryPolicy], *, try_seconds: float, wait_factor: float) -> dict[Call, RetryPolicy]:
    """Return the same rows with shorter waits, and with timeouts of at most `try_seconds`."""

    def row(policy: RetryPolicy) -> RetryPolicy:
        limits = policy.timeouts
        total = limits.total_seconds
        return RetryPolicy(
            policy.retried_on,
            tuple(seconds * wait_factor for seconds in policy.waits_seconds),
            Timeouts(
                min(limits.connect_seconds, try_seconds),
                min(limits.idle_seconds, try_seconds),
                None if total is None else min(total, try_seconds),
            ),
        )

    return {call: row(policy) for call, policy in matrix.items()}


def make_app() -> Flask:
    """Return the application, assembled from the environment."""
    if path := os.environ.get("SCALED_UNRESOLVABLE"):
        _make_resolver_breakable(Path(path))
    try_seconds = float(os.environ.get("SCALED_TRY_SECONDS", DEFAULT_TRY_SECONDS))
    wait_factor = float(os.environ.get("SCALED_WAIT_FACTOR", DEFAULT_WAIT_FACTOR))
    # Not part of the matrix, but a timeout of the same kind: the floor under a pull's speed.
    rate.STRETCH_SECONDS = try_seconds
    if stall_seconds := os.environ.get("SCALED_STALL_SECONDS"):
        worker.STALL_SECONDS = float(stall_seconds)
    settings = load_settings()
    retrier = Retrier(scaled(MATRIX, try_seconds=try_seconds, wait_factor=wait_factor))
    app = create_app(settings, build_gateway(settings, retrier=retrier))
    if broken := os.environ.get("SCALED_BROKEN_ENDPOINT"):
        app.view_functions[broken] = _broken_view
    return app


def _broken_view(**_: object) -> None:
    raise RuntimeError("a bug, ordered by a test")


def _make_resolver_breakable(unresolvable: Path) -> None:
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if unresolvable.exists() and str(port) in unresolvable.read_text(encoding="ascii").split():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, port, *args, **options)

    socket.getaddrinfo = getaddrinfo
