"""The two registered OAuth2 clients: one signs people in, the other gets service tokens."""

import hmac
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc6749 import ClientMixin

from sandbox.member_center.register import Register
from sandbox.settings import SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET, WEB_CLIENT_ID, WEB_CLIENT_SECRET

SERVICE_SCOPES = ("converter:job.write", "converter:job.read", "files:download.read", "files:download.delegate")
WEB_SCOPES = ("openid", "profile", "email")


@dataclass(frozen=True)
class Client(ClientMixin):  # type: ignore[misc]
    """A confidential client, with Authlib's interface for clients."""

    client_id: str
    client_secret: str
    scopes: tuple[str, ...]
    grant_types: tuple[str, ...]
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()

    @property
    def client_metadata(self) -> dict[str, Any]:
        return {"post_logout_redirect_uris": list(self.post_logout_redirect_uris)}

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """Return None: a client must name its redirect URI, so that a mistake in it shows."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """Return the scope to grant; None (invalid_scope in Authlib) if the client may not have all of it."""
        if not scope:
            return " ".join(self.scopes)
        return scope if set(scope.split()) <= set(self.scopes) else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return hmac.compare_digest(self.client_secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002 - the same everywhere
        return method in {"client_secret_basic", "client_secret_post"}

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and "authorization_code" in self.grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grant_types


class Clients:
    """Finds a client by its id. The redirect URIs of the web client follow from the registered gateways."""

    def __init__(self, register: Register, client_secret: str | None = None) -> None:
        """`client_secret` replaces the published secrets."""
        self._register = register
        self.web_secret = client_secret or WEB_CLIENT_SECRET
        self.service_secret = client_secret or SERVICE_CLIENT_SECRET

    def find(self, client_id: str) -> Client | None:
        if client_id == SERVICE_CLIENT_ID:
            return Client(client_id, self.service_secret, SERVICE_SCOPES, ("client_credentials",))
        if client_id == WEB_CLIENT_ID:
            gateways = self._register.gateways()
            return Client(
                client_id,
                self.web_secret,
                WEB_SCOPES,
                ("authorization_code",),
                redirect_uris=tuple(f"{gateway}/auth/authorize" for gateway in gateways),
                post_logout_redirect_uris=tuple(f"{gateway}/" for gateway in gateways),
            )
        return None
