"""Download tokens: opaque, random, short-lived, and bound to one object and method.

Member Center issues them, and the File Access Agent finds them in the data directory. Every token holds `+`, `/` and
`=`, so that a gateway without percent-encoding always fails, not only sometimes.
"""

import base64
import secrets
import time
from dataclasses import dataclass

from sandbox.data_directory import DataDirectory


@dataclass(frozen=True)
class DownloadToken:
    """A grant to use one method on one object, on behalf of one user."""

    token: str
    tenant_id: str
    user_id: str
    object_key: str
    method: str
    expires_at: float


class DownloadTokens:
    """The register of issued tokens. Safe for several threads and processes."""

    def __init__(self, data: DataDirectory) -> None:
        self._data = data

    def issue(
        self, tenant_id: str, user_id: str, object_key: str, method: str, expires_in_seconds: int
    ) -> DownloadToken:
        token = f"dt+{base64.b64encode(secrets.token_bytes(30)).decode()}/+="
        issued = DownloadToken(token, tenant_id, user_id, object_key, method, time.time() + expires_in_seconds)
        with self._data.writing() as database:
            database.execute("DELETE FROM download_tokens WHERE expires_at < ?", (time.time() - 3600,))
            database.execute(
                "INSERT INTO download_tokens VALUES (?, ?, ?, ?, ?, ?)",
                (token, tenant_id, user_id, object_key, method, issued.expires_at),
            )
        return issued

    def find(self, unverified_token: str) -> DownloadToken | None:
        """Return the token if it was issued here. The caller checks its time, object and method."""
        with self._data.reading() as database:
            row = database.execute("SELECT * FROM download_tokens WHERE token = ?", (unverified_token,)).fetchone()
        return None if row is None else DownloadToken(**row)
