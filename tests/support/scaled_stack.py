"""A stack whose gateway is the scaled one, with as many people as a test wants, and doors in front of its upstreams."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from app.api.session import SessionCookie
from app.config import load_settings
from app.domain.identity import Identity, Session
from sandbox.settings import CONVERTER, FILE_ACCESS, MEMBER_CENTER
from tests.support.clients import Client
from tests.support.doors import Door
from tests.support.stack import Stack

_CONTROL_SECONDS = 30.0
_ADDRESSES = {
    MEMBER_CENTER: "VISIONA_OIDC_ISSUER",
    CONVERTER: "VISIONA_CONVERTER_BASE_URL",
    FILE_ACCESS: "VISIONA_FAA_BASE_URL",
}


class ScaledStack(Stack):
    """One worker of `tests.support.scaled_gateway` (or of another application) in front of a sandbox of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        with_doors: bool = False,
        application: str = "tests.support.scaled_gateway:make_app()",
        workers: int = 1,
        **options: Any,
    ) -> None:
        """`with_doors` puts a door in front of each upstream; people can then not sign in, but be signed in."""
        self.application = application
        self.unresolvable = directory / "unresolvable"
        self.doors: dict[str, Door] = {}
        settings = {
            "SCALED_UNRESOLVABLE": str(self.unresolvable),
            # No load balancer has to notice that a test's gateway stops.
            "VISIONA_DRAIN_SECONDS": "0",
            **(environment or {}),
        }
        super().__init__(directory, environment=settings, workers=workers, start_gateway=False, **options)
        try:
            if with_doors:
                for service, variable in _ADDRESSES.items():
                    self.doors[service] = Door(self.sandbox.urls.of(service), self.unresolvable)
                    self._overrides[variable] = self.doors[service].url
            self.start_gateway()
        except BaseException:
            self._shut_doors()
            self.sandbox.close()
            raise

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._shut_doors()

    def person(self, user_id: str) -> Client:
        """Return a client with any user id and a session that the gateway accepts; the sandbox has two accounts."""
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        session = Session(secrets.token_urlsafe(24), Identity(user_id, user_id, ""), expires_at)
        value = self._session_cookie.sign(session)
        self.note_secret(value)
        client = self.client()
        client.cookies.set(self._session_cookie.name, value)
        return client

    @cached_property
    def _session_cookie(self) -> SessionCookie:
        return SessionCookie(load_settings(self.environment()))

    def add_fault(self, service: str, rule: Mapping[str, Any]) -> str:
        """Add a fault rule to a service, and return the URL at which it can be deleted."""
        url = f"{self.sandbox.urls.of(service)}/_sandbox/faults"
        response = requests.post(url, json=dict(rule), timeout=_CONTROL_SECONDS)
        assert response.status_code == 201, response.text
        return f"{url}/{response.json()['id']}"

    def _shut_doors(self) -> None:
        for door in self.doors.values():
            door.close()


def remove_fault(address: str) -> None:
    """Delete a rule that `add_fault` made."""
    assert requests.delete(address, timeout=_CONTROL_SECONDS).status_code == 204
