"""Signing in and out: the routes under `/auth`, and `/api/me`.

The way in is OpenID Connect's authorization code with PKCE; flask-oidc's client builds the request. Deliberately not
used of flask-oidc: its own views and its token check before every request. They take `next` and `Host` from the
sender, sign out on GET, keep MC's tokens in the cookie, redirect uploads when a token ages, and let most failures of a
callback crash. `OIDC_RESOURCE_SERVER_ONLY` keeps all of that from existing; its registry and its client are left.

`session` says who is signed in, `signin_states` what is under way, `signin_provider` where MC sends the browser.
"""

from dataclasses import dataclass
from typing import cast
from urllib.parse import urlencode

import structlog
from flask import Blueprint, Flask, Response, current_app, g, jsonify, render_template, request
from flask_oidc import OpenIDConnect

from app.api.context import call_context, gateway
from app.api.documents import timestamp
from app.api.problem import language, problem_response, request_id
from app.api.session import current_session, end_session, start_session
from app.api.signin_provider import Provider, silence_libraries
from app.api.signin_states import HOME, SignInStates, begin_sign_in, safe_return_path
from app.api.tracing import user_hash
from app.config import Settings
from app.errors import (
    LANGUAGES,
    GatewayError,
    IDPMisconfiguredError,
    IDPUnavailableError,
    MethodNotAllowedError,
    ModelStoreUnavailableError,
    NavigationRequiredError,
    SignInFailedError,
    StaleSignInError,
    UnauthenticatedError,
)

log = structlog.get_logger(__name__)

_EXTENSION = "visiona.signin"
#: The language that a person has chosen in the console, which sets it: a word, and no secret.
LANGUAGE_COOKIE = "visiona_lang"

auth = Blueprint("auth", __name__, url_prefix="/auth", template_folder="templates")
account = Blueprint("account", __name__)


@dataclass(frozen=True, slots=True)
class _SignIn:
    provider: Provider
    states: SignInStates


class _SignInOnly(OpenIDConnect):  # type: ignore[misc]
    """flask-oidc as far as it is used: its client for MC. What it does before every request serves views of its own."""

    def _before_request(self) -> None:
        return None


def register(app: Flask, settings: Settings) -> None:
    """Give `app` the routes of this module. Opens no connection: MC may be down while the gateway starts."""
    silence_libraries()
    app.config.update(
        OIDC_CLIENT_SECRETS={
            "web": {
                "issuer": settings.oidc_issuer,
                "client_id": settings.oidc_client_id,
                # flask-oidc asks for one; the token request is not made by it.
                "client_secret": "",
            }
        },
        OIDC_SCOPES="openid profile email",
        # The address is ours to state; the Host header is the sender's. Our own views build it in the same way.
        OIDC_OVERWRITE_REDIRECT_URI=settings.public_base_url + "/auth/authorize",
        OIDC_RESOURCE_SERVER_ONLY=True,
        OIDC_USER_INFO_ENABLED=False,
        OIDC_USER_CLASS=None,
    )
    provider = Provider(
        _SignInOnly(app).oauth.oidc,
        settings,
        identity_provider=lambda: gateway().identity_provider,
        context=call_context,
    )
    app.extensions[_EXTENSION] = _SignIn(provider, SignInStates(settings))
    app.register_blueprint(auth)
    app.register_blueprint(account)


@auth.get("/login")
def login() -> Response:
    """Send the browser to MC's login page; `next` is where it goes when it comes back."""
    _require_navigation()
    g.return_path = safe_return_path(request.args.get("next"))
    pending = begin_sign_in(g.return_path, gateway().clock())
    url = _sign_in().provider.authorization_url(pending)
    # After the URL, so that a sign-in which cannot even begin leaves nothing in the browser.
    _sign_in().states.remember(pending)
    return _redirect(url)


@auth.get("/authorize")
def authorize() -> Response:
    """The callback: MC sends the browser back with a code, or with an error."""
    _require_navigation()
    here = _sign_in()
    g.return_path, pending = here.states.take(request.args.get("state", ""), gateway().clock())
    try:
        if pending is None:
            raise StaleSignInError("this browser began no sign-in of that state in the last minutes")
        identity = here.provider.identify(request.args, pending)
    except StaleSignInError:
        # Browser Back, a reload, a tab that was restored: the sign-in has succeeded before, or another one since.
        if not _has_session():
            raise
    else:
        session = start_session(identity)
        log.info("session.started", user=user_hash(session.identity.user_id))
    return _redirect(g.return_path)


@auth.post("/logout")
def logout() -> Response:
    """End the session here, and say where the browser ends the one at MC, if MC has such a place.

    204 without a session, too; MC is then not asked.
    """
    here = _sign_in()
    here.states.forget_all()
    had_session = end_session()
    url = here.provider.find_logout_url() if had_session else None
    return Response(status=204) if url is None else jsonify(logout_url=url)


@account.get("/api/me")
def me() -> Response:
    """The caller, and until when the session lasts."""
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


@auth.errorhandler(GatewayError)
def _explain(error: GatewayError) -> Response:
    """Failures of the sign-in are pages for people who navigated here, and problem documents for programs."""
    response = problem_response(error)
    if not isinstance(error, SignInFailedError | IDPUnavailableError | IDPMisconfiguredError) or not _is_page_wanted():
        return response
    remembered = request.cookies.get(LANGUAGE_COOKIE)
    entry, spoken = error.entry, remembered if remembered in LANGUAGES else language()
    page = render_template(
        "signin_failed.html",
        language=spoken,
        title=entry.title[spoken],
        detail=entry.detail[spoken],
        request_id=request_id(),
        retry_url="/auth/login?" + urlencode({"next": g.get("return_path", HOME)}),
        home_url=HOME,
    )
    response.set_data(page)
    response.content_type = "text/html; charset=utf-8"
    response.headers["Content-Language"] = spoken
    response.vary.add("Accept")
    return response


def _sign_in() -> _SignIn:
    return cast(_SignIn, current_app.extensions[_EXTENSION])


def _has_session() -> bool:
    try:
        current_session()
    except (UnauthenticatedError, ModelStoreUnavailableError):
        return False
    return True


def _require_navigation() -> None:
    """Refuse what is no person following a link: it would begin, or use up, a sign-in that nobody sees."""
    if request.method != "GET":
        raise MethodNotAllowedError(allowed=("GET", "OPTIONS"))  # HEAD, which Flask adds to every GET
    mode = request.headers.get("Sec-Fetch-Mode", "navigate")
    purposes = (request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Moz"))
    if mode != "navigate" or any("prefetch" in purpose.lower() for purpose in purposes):
        raise NavigationRequiredError("the sign-in takes navigations only")


def _is_page_wanted() -> bool:
    """Does the caller like HTML better than JSON? Browsers do; curl and XHR accept everything alike."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > max(accepted["application/json"], accepted["application/problem+json"])


def _redirect(location: str) -> Response:
    # By hand, because werkzeug's redirect() repeats the address, and with it the state, in a body.
    response = Response(status=302)
    response.headers["Location"] = location
    return response
