"""What Member Center stores on disk: authorization codes, registered gateways, and every secret it has issued.

One test needs the list of secrets to search all logs for them. A real service would not store it.
"""

import json
import time
from dataclasses import asdict, dataclass
from typing import Final

from authlib.oidc.core import AuthorizationCodeMixin

from sandbox.data_directory import DataDirectory

CODE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class AuthorizationCode(AuthorizationCodeMixin):  # type: ignore[misc]
    """An authorization code, with Authlib's interface for codes."""

    code: str
    client_id: str
    subject: str
    redirect_uri: str
    scope: str
    nonce: str | None
    auth_time: int
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.auth_time

    def get_acr(self) -> None:
        """Return None: no authentication context is claimed."""

    def get_amr(self) -> list[str]:
        return ["pwd"]


class Register:
    """Reads and writes Member Center's rows. Safe for several threads and processes."""

    def __init__(self, data: DataDirectory, gateways: tuple[str, ...]) -> None:
        self._data = data
        self._configured_gateways = tuple(gateway.rstrip("/") for gateway in gateways)

    def keep_code(self, code: AuthorizationCode) -> None:
        with self._data.writing() as database:
            database.execute("DELETE FROM authorization_codes WHERE expires_at < ?", (time.time(),))
            database.execute(
                "INSERT INTO authorization_codes VALUES (?, ?, ?)",
                (code.code, json.dumps(asdict(code)), time.time() + CODE_SECONDS),
            )

    def find_code(self, code: str, client_id: str) -> AuthorizationCode | None:
        """Return the code if it is valid and was issued to this client."""
        with self._data.reading() as database:
            row = database.execute(
                "SELECT facts FROM authorization_codes WHERE code = ? AND expires_at > ?", (code, time.time())
            ).fetchone()
        found = None if row is None else AuthorizationCode(**json.loads(row["facts"]))
        return found if found is not None and found.client_id == client_id else None

    def spend_code(self, code: str) -> None:
        with self._data.writing() as database:
            database.execute("DELETE FROM authorization_codes WHERE code = ?", (code,))

    def note_secret(self, kind: str, value: str) -> None:
        with self._data.writing() as database:
            database.execute("INSERT INTO issued_secrets (kind, value) VALUES (?, ?)", (kind, value))

    def secrets(self) -> list[dict[str, str]]:
        with self._data.reading() as database:
            return [dict(row) for row in database.execute("SELECT kind, value FROM issued_secrets ORDER BY number")]

    def forget_secrets(self) -> None:
        with self._data.writing() as database:
            database.execute("DELETE FROM issued_secrets")

    def add_gateway(self, url: str) -> None:
        with self._data.writing() as database:
            database.execute("INSERT OR IGNORE INTO gateways VALUES (?)", (url.rstrip("/"),))

    def gateways(self) -> tuple[str, ...]:
        with self._data.reading() as database:
            added = [row["url"] for row in database.execute("SELECT url FROM gateways")]
        return (*self._configured_gateways, *added)
