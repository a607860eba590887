"""Signing in and out: the routes under `/auth`, and `/api/me`.

People sign in with OpenID Connect's authorization code flow and PKCE. flask-oidc's client builds the authorization
request, and `app/clients/identity_provider` asks MC. flask-oidc's own views and its token check before every request
are not used: they take `next` and `Host` from the sender, sign out on GET, store MC's tokens in the cookie, redirect
uploads when a token ages, and crash on most failures of a callback. `OIDC_RESOURCE_SERVER_ONLY` leaves them out.

`session` knows who is signed in, and `signin_states` which sign-ins are under way.
"""

import logging
import time
from dataclasses import dataclass
from typing import Any, cast

import structlog
from authlib.common.errors import AuthlibBaseError
from flask import Blueprint, Flask, Response, current_app, g, jsonify, request
from flask_oidc import OpenIDConnect

from app.api.context import call_context, gateway
from app.api.documents import timestamp
from app.api.navigation import require_navigation
from app.api.session import current_session, end_session, start_session
from app.api.signin_states import PendingSignIn, SignInStates, begin_sign_in, safe_return_path
from app.api.tracing import user_hash
from app.config import Settings
from app.errors import (
    IDPUnavailableError,
    ModelStoreUnavailableError,
    StaleSignInError,
    UnauthenticatedError,
)

log = structlog.get_logger(__name__)

_EXTENSION = "visiona.signin"

auth = Blueprint("auth", __name__, url_prefix="/auth")
account = Blueprint("account", __name__)


@dataclass(frozen=True, slots=True)
class _SignIn:
    """`client` is flask-oidc's client for MC, which is Authlib's."""

    client: Any
    states: SignInStates
    redirect_uri: str


class _SignInOnly(OpenIDConnect):  # type: ignore[misc]
    """flask-oidc without its check before every request, which serves views that are not used."""

    def _before_request(self) -> None:
        return None


def register(app: Flask, settings: Settings) -> None:
    """Register the routes. Open no connection: MC may be down while the gateway starts."""
    # Authlib logs code verifiers at DEBUG.
    for name in ("authlib", "flask_oidc"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # From the configuration and never from the Host header, which the sender chooses.
    redirect_uri = settings.public_base_url + "/auth/authorize"
    app.config.update(
        OIDC_CLIENT_SECRETS={
            "web": {
                "issuer": settings.oidc_issuer,
                "client_id": settings.oidc_client_id,
                # flask-oidc requires one, although it does not make the token request.
                "client_secret": "",
            }
        },
        OIDC_SCOPES="openid profile email",
        OIDC_OVERWRITE_REDIRECT_URI=redirect_uri,
        OIDC_RESOURCE_SERVER_ONLY=True,
        OIDC_USER_INFO_ENABLED=False,
        OIDC_USER_CLASS=None,
    )
    client = _SignInOnly(app).oauth.oidc
    # flask-oidc has no setting for this. Without it Authlib sends no challenge.
    client.client_kwargs["code_challenge_method"] = "S256"
    app.extensions[_EXTENSION] = _SignIn(client, SignInStates(settings), redirect_uri)
    app.register_blueprint(auth)
    app.register_blueprint(account)


@auth.get("/login")
def login() -> Response:
    """Send the browser to MC's login page. `next` is where it goes after the sign-in."""
    require_navigation()
    g.return_path = safe_return_path(request.args.get("next"))
    pending = begin_sign_in(g.return_path, gateway().clock())
    url = _authorization_url(pending)
    # After the URL, so that a sign-in that cannot begin leaves no cookie.
    _sign_in().states.remember(pending)
    return _redirect(url)


@auth.get("/authorize")
def authorize() -> Response:
    """Handle the callback: MC sends the browser back with a code, or with an error."""
    require_navigation()
    here = _sign_in()
    g.return_path, pending = here.states.take(request.args.get("state", ""), gateway().clock())
    try:
        if pending is None:
            raise StaleSignInError("this browser began no sign-in of that state in the last minutes")
        identity = gateway().identity_provider.identify(
            request.args,
            code_verifier=pending.code_verifier,
            nonce=pending.nonce,
            redirect_uri=here.redirect_uri,
            context=call_context(),
        )
    except StaleSignInError:
        # Browser Back, a reload, a restored tab: this sign-in or a later one has succeeded already.
        if not _has_session():
            raise
    else:
        session = start_session(identity)
        log.info("session.started", user=user_hash(session.identity.user_id))
    return _redirect(g.return_path)


@auth.post("/logout")
def logout() -> Response:
    """End the session here, and return where the browser ends the one at MC, if MC has such an address.

    Return 204 if there is no session or no address.
    """
    _sign_in().states.forget_all()
    url = None
    if end_session():
        url = gateway().identity_provider.logout_url(gateway().settings.public_base_url + "/", call_context())
    return Response(status=204) if url is None else jsonify(logout_url=url)


@account.get("/api/me")
def me() -> Response:
    """Return the caller, and when the session ends."""
    session = current_session()
    response = jsonify(
        user_id=session.identity.user_id,
        name=session.identity.name,
        email=session.identity.email,
        session_expires_at=timestamp(session.expires_at),
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@auth.after_request
def _keep_private(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    # The callback's address holds the code, and the page of a failure has links.
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _sign_in() -> _SignIn:
    return cast(_SignIn, current_app.extensions[_EXTENSION])


def _authorization_url(pending: PendingSignIn) -> str:
    """Return where MC asks the person to sign in. Raises IDPUnavailableError."""
    client, metadata = _sign_in().client, gateway().identity_provider.metadata(call_context())
    # Authlib hands all of this to constructors, so it gets the endpoint and nothing that MC could add. `_loaded_at`
    # prevents that it fetches discovery itself, without a timeout.
    client.server_metadata = {"authorization_endpoint": metadata.authorization_endpoint, "_loaded_at": time.time()}
    try:
        made = client.create_authorization_url(
            _sign_in().redirect_uri, state=pending.state, nonce=pending.nonce, code_verifier=pending.code_verifier
        )
    except (AuthlibBaseError, ValueError) as error:
        raise IDPUnavailableError(f"authorization URL: {type(error).__name__}") from None
    return str(made["url"])


def _has_session() -> bool:
    try:
        current_session()
    except (UnauthenticatedError, ModelStoreUnavailableError):
        return False
    return True


def _redirect(location: str) -> Response:
    # werkzeug's redirect() would repeat the address, and with it the state, in a body.
    response = Response(status=302)
    response.headers["Location"] = location
    return response
