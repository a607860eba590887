"""The browser's part of the dialogue with MC: the addresses that it is sent to, and what its callback brings.

flask-oidc's client, which is Authlib's, builds the authorization request (PKCE S256). MC itself is asked by
`app/clients/identity_provider`.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from authlib.common.errors import AuthlibBaseError

from app.api.signin_states import PendingSignIn
from app.clients.identity_provider import IdentityProvider, error_code
from app.config import Settings
from app.domain.call import CallContext
from app.domain.identity import Identity
from app.errors import IDPUnavailableError, SignInFailedError

MAX_CODE_CHARACTERS = 4_096

# RFC 6749, section 4.1.2.1: these two stand for a 500 and a 503, which a redirect cannot say.
_UNAVAILABLE_CODES = frozenset({"server_error", "temporarily_unavailable"})


def silence_libraries() -> None:
    """Keep Authlib from logging code verifiers, which it does at DEBUG, whatever the root logger's level."""
    for name in ("authlib", "flask_oidc"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Provider:
    """Signs a browser in at MC. Any thread may call it."""

    def __init__(
        self,
        client: Any,
        settings: Settings,
        identity_provider: Callable[[], IdentityProvider],
        context: Callable[[], CallContext],
    ) -> None:
        """`client` is flask-oidc's. The other two are asked for in each request."""
        self._client = client
        self._settings = settings
        self._identity_provider = identity_provider
        self._context = context
        # From the configuration and never from the Host header, which the sender chooses.
        self._redirect_uri = settings.public_base_url + "/auth/authorize"
        # flask-oidc takes no setting for this; without it Authlib sends no challenge at all.
        client.client_kwargs["code_challenge_method"] = "S256"

    def authorization_url(self, pending: PendingSignIn) -> str:
        """Where MC asks the person to sign in. Raises IDPUnavailableError."""
        metadata = self._identity_provider().metadata(self._context())
        # Authlib hands all that stands here to constructors, so it gets the endpoint and nothing that MC could add.
        # `_loaded_at` tells it not to fetch discovery itself, without a time-out and for ever.
        self._client.server_metadata = {
            "authorization_endpoint": metadata.authorization_endpoint,
            "_loaded_at": time.time(),
        }
        try:
            made = self._client.create_authorization_url(
                self._redirect_uri,
                state=pending.state,
                nonce=pending.nonce,
                code_verifier=pending.code_verifier,
            )
        except (AuthlibBaseError, ValueError) as error:
            raise IDPUnavailableError(f"authorization URL: {type(error).__name__}") from None
        return str(made["url"])

    def identify(self, parameters: Mapping[str, str], pending: PendingSignIn) -> Identity:
        """Return who signed in, by the callback's parameters.

        Raises SignInFailedError, IDPUnavailableError or IDPMisconfiguredError.
        """
        return self._identity_provider().identify(
            self._read_code(parameters),
            code_verifier=pending.code_verifier,
            nonce=pending.nonce,
            redirect_uri=self._redirect_uri,
            context=self._context(),
        )

    def _read_code(self, parameters: Mapping[str, str]) -> str:
        metadata, issuer = self._identity_provider().metadata(self._context()), parameters.get("iss")
        # RFC 9207: an answer that names another issuer was meant for another sign-in.
        if issuer != metadata.issuer and (issuer is not None or metadata.is_issuer_sent):
            raise SignInFailedError("the answer names another issuer")
        if "error" in parameters:
            code = error_code(parameters["error"])
            failure = IDPUnavailableError if code in _UNAVAILABLE_CODES else SignInFailedError
            raise failure(f"MC answered {code}")
        code = parameters.get("code", "")
        if not 0 < len(code) <= MAX_CODE_CHARACTERS:
            raise SignInFailedError("the answer has no usable code")
        return code

    def find_logout_url(self) -> str | None:
        """Where a browser ends its session at MC; None if MC has no such place or cannot say.

        Deliberately without `id_token_hint`: we keep no ID token. `client_id` stands in for it (OpenID Connect
        RP-Initiated Logout, section 2).
        """
        identity_provider = self._identity_provider()
        try:
            # However old: MC being down must not hold up people who want to leave.
            metadata = identity_provider.find_metadata() or identity_provider.metadata(self._context())
        except IDPUnavailableError:
            return None
        if metadata.end_session_endpoint is None:
            return None
        parts = urlsplit(metadata.end_session_endpoint)
        query = parse_qsl(parts.query, keep_blank_values=True)
        query += [
            ("client_id", self._settings.oidc_client_id),
            ("post_logout_redirect_uri", self._settings.public_base_url + "/"),
        ]
        return urlunsplit(parts._replace(query=urlencode(query)))
