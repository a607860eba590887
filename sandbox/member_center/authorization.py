"""The authorization server, on Authlib: its grants, its codes, and the claims of its tokens.

The web client must use PKCE with S256, although it is confidential, because the gateway promises to send it.
"""

import base64
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.integrations.flask_oauth2.requests import FlaskOAuth2Payload, FlaskOAuth2Request
from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, ClientCredentialsGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from authlib.oidc.rpinitiated import EndSessionEndpoint, EndSessionRequest
from flask import Flask, Request, session
from flask import request as current_request
from joserfc.jwk import KeySet, RSAKey

from sandbox.access_tokens import ALGORITHM, audiences
from sandbox.member_center.clients import SERVICE_SCOPES, WEB_SCOPES, Client, Clients
from sandbox.member_center.register import AuthorizationCode, Register
from sandbox.settings import ACCOUNTS, Account, Settings


def find_account(subject: str) -> Account | None:
    return next((account for account in ACCOUNTS if account.subject == subject), None)


def describe(account: Account, scope: str) -> UserInfo:
    """Return the claims about an account that the scopes allow."""
    claims: dict[str, Any] = {"sub": account.subject}
    scopes = scope.split()
    if "profile" in scopes:
        claims.update(name=account.name, preferred_username=account.username)
    if "email" in scopes:
        claims.update(email=account.email, email_verified=True)
    return UserInfo(claims)


class SandboxAuthorizationServer(AuthorizationServer):  # type: ignore[misc]
    """Authlib's Flask server, with plain HTTP allowed for any host name."""

    def create_oauth2_request(self, request: Request | None) -> OAuth2Request:
        # Authlib requires https, except for localhost or with an environment variable, which would change the whole
        # process. This changes only the scheme of the URI that Authlib checks.
        return _LoopbackRequest(request or current_request)


class _LoopbackRequest(FlaskOAuth2Request):  # type: ignore[misc]
    def __init__(self, request: Request) -> None:
        uri = "https://" + request.url.partition("://")[2]
        OAuth2Request.__init__(self, method=request.method, uri=uri, headers=request.headers)
        self._request = request
        self.payload = FlaskOAuth2Payload(request)


class _RequiredS256(CodeChallenge):  # type: ignore[misc]
    """PKCE that is required, and not allowed to be `plain`."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]  # noqa: RUF012 - as Authlib declares it

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if not data.get("code_challenge") or data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE with code_challenge_method=S256 is required.")
        super().validate_code_challenge(grant, redirect_uri)


class _AccessTokens(JWTBearerTokenGenerator):  # type: ignore[misc]
    """Signs access tokens with the sandbox's key."""

    def __init__(self, issuer: str, key: RSAKey, lifetime_seconds: int) -> None:
        super().__init__(issuer, alg=ALGORITHM, expires_generator=lambda _client, _grant_type: lifetime_seconds)
        self._key = key

    def get_jwks(self) -> KeySet:
        return KeySet([self._key])

    def get_audiences(self, client: Client, user: Account | None, scope: str) -> list[str]:  # noqa: ARG002
        return audiences(scope)


class _Person:
    """An account with Authlib's interface for users."""

    def __init__(self, account: Account) -> None:
        self.account = account

    def get_user_id(self) -> str:
        return self.account.subject


def person_with(account: Account | None) -> Any:
    return None if account is None else _Person(account)


def _basic_reader(settings: Settings) -> Callable[[Callable[[str], Client | None], OAuth2Request], Client | None]:
    """Read a client's credentials from Basic authentication: form-urlencoded (RFC 6749, section 2.3.1), or raw."""

    def read(find: Callable[[str], Client | None], request: OAuth2Request) -> Client | None:
        # Authlib decodes `%2B`, but not `+`, which means a blank.
        scheme, _, encoded = (request.headers.get("Authorization") or "").partition(" ")
        try:
            client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None
        if settings.basic_credentials == "rfc6749":
            client_id, secret = unquote_plus(client_id), unquote_plus(secret)
        client = find(client_id) if scheme.lower() == "basic" else None
        return client if client is not None and client.check_client_secret(secret) else None

    return read


def create_authorization_server(
    app: Flask, register: Register, clients: Clients, *, issuer: str, key: RSAKey, settings: Settings
) -> SandboxAuthorizationServer:
    """Return the server with its two grants and the end-session endpoint."""

    class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
        def save_authorization_code(self, code: str, request: Any) -> None:
            data = request.payload.data
            register.note_secret("authorization_code", code)
            register.keep_code(
                AuthorizationCode(
                    code=code,
                    client_id=request.client.client_id,
                    subject=request.user.get_user_id(),
                    redirect_uri=request.payload.redirect_uri,
                    scope=request.scope,
                    nonce=data.get("nonce"),
                    auth_time=int(session.get("auth_time", time.time())),
                    code_challenge=data["code_challenge"],
                    code_challenge_method=data["code_challenge_method"],
                )
            )

        def query_authorization_code(self, code: str, client: Client) -> AuthorizationCode | None:
            return register.find_code(code, client.client_id)

        def delete_authorization_code(self, authorization_code: AuthorizationCode) -> None:
            register.spend_code(authorization_code.code)

        def authenticate_user(self, authorization_code: AuthorizationCode) -> Any:
            return person_with(find_account(authorization_code.subject))

    class ServiceGrant(ClientCredentialsGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]  # noqa: RUF012

    class IDTokens(OpenIDCode):  # type: ignore[misc]
        def exists_nonce(self, nonce: str, request: Any) -> bool:  # noqa: ARG002 - every code is spent once anyway
            return False

        def resolve_client_private_key(self, client: Client) -> RSAKey:  # noqa: ARG002 - one key for all
            return key

        def get_client_claims(self, client: Client) -> dict[str, Any]:
            return {"iss": issuer, "aud": client.client_id}

        def get_encode_header(self, client: Client) -> dict[str, Any]:  # noqa: ARG002
            return {"alg": ALGORITHM, "kid": key.kid}

        def generate_user_info(self, user: Any, scope: str) -> UserInfo:
            return describe(user.account, scope)

        def encode_id_token(self, token: Any, request: Any) -> str:
            id_token: str = super().encode_id_token(token, request)
            register.note_secret("id_token", id_token)
            return id_token

    class EndSession(EndSessionEndpoint):  # type: ignore[misc]
        def get_server_jwks(self) -> KeySet:
            return KeySet([key])

        def is_post_logout_redirect_uri_legitimate(self, *_: Any) -> bool:
            # The gateway stores no ID token to send as a hint, so a registered URI and the client_id are enough.
            return True

        def end_session(self, end_session_request: EndSessionRequest) -> None:  # noqa: ARG002 - one session a browser
            session.clear()

    server = SandboxAuthorizationServer(
        app,
        query_client=clients.find,
        save_token=lambda token, _: register.note_secret("access_token", token["access_token"]),
    )
    server.scopes_supported = [*WEB_SCOPES, *SERVICE_SCOPES]
    server.register_token_generator("default", _AccessTokens(issuer, key, settings.access_token_seconds))
    server.register_client_auth_method("client_secret_basic", _basic_reader(settings))
    server.register_grant(CodeGrant, [_RequiredS256(required=True), IDTokens()])
    server.register_grant(ServiceGrant)
    server.register_endpoint(EndSession)
    return server
