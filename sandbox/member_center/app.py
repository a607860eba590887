"""Member Center's routes: discovery, sign-in page, tokens, userinfo, sign-out, download tokens.

Pages follow Accept-Language. The OAuth2 endpoints return the JSON of their specifications.
"""

import hmac
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from authlib.oauth2 import OAuth2Error
from flask import Flask, Response, jsonify, render_template, request, session
from flask.typing import ResponseReturnValue

from sandbox.access_tokens import AccessTokenVerifier, BearerError, load_signing_key
from sandbox.calls import note_user
from sandbox.data_directory import DataDirectory
from sandbox.download_tokens import DownloadTokens
from sandbox.faults import peek_json
from sandbox.member_center.authorization import create_authorization_server, describe, find_account, person_with
from sandbox.member_center.clients import SERVICE_SCOPES, WEB_SCOPES, Clients
from sandbox.member_center.register import Register
from sandbox.member_center.texts import TEXTS, Texts
from sandbox.object_keys import InvalidObjectKeyError, verify_object_key
from sandbox.settings import ACCOUNTS, TENANT_ID, Account, Settings
from sandbox.site import FirstPage, new_flask

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

SESSION_COOKIE: Final = "sandbox_mc_session"
LONGEST_DOWNLOAD_SECONDS: Final = 3600


class MalformedRequestError(ValueError):
    """JSON that breaks the contract; the text is a sentence."""


def create_app(settings: Settings, data: DataDirectory, issuer: str) -> Flask:
    """Return the application for one issuer URL, which is also the server's base URL."""
    app = new_flask(_first_page(issuer))
    app.secret_key = data.secret("member-center-session-key", lambda: secrets.token_bytes(32))
    app.config.update(SESSION_COOKIE_NAME=SESSION_COOKIE, SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Lax")
    key = load_signing_key(data)
    register = Register(data, settings.gateways)
    clients = Clients(register, settings.client_secret)
    server = create_authorization_server(app, register, clients, issuer=issuer, key=key, settings=settings)

    @app.get("/.well-known/openid-configuration")
    def discovery() -> Response:
        return jsonify(_metadata(issuer))

    @app.get("/oauth/jwks")
    def jwks() -> Response:
        return jsonify(keys=[key.as_dict(private=False)])

    @app.route("/oauth/authorize", methods=["GET", "POST"])
    def authorize() -> ResponseReturnValue:
        account = find_account(session.get("subject", ""))
        try:
            grant = server.get_consent_grant(end_user=person_with(account))
        except OAuth2Error as error:
            if error.redirect_uri:
                return cast("Response", server.handle_error_response(request, error))
            return _refusal(error.description or error.error)
        except ValueError:
            # Authlib quotes the invalid parameter, and then refuses its own sentence because of the characters in it.
            return _refusal("The request has a parameter with characters that are not allowed.")
        if request.method == "POST":
            account = _authenticate(request.form.get("username", ""), request.form.get("password", ""))
            if account is None:
                return _login_page(failed=True), 403
            session.clear()
            session.update(subject=account.subject, auth_time=int(time.time()))
        elif account is None or grant.prompt in {"login", "select_account"}:
            return _login_page(failed=False)
        note_user(request.environ, account.subject)
        return cast("Response", server.create_authorization_response(grant_user=person_with(account), grant=grant))

    @app.post("/oauth/token")
    def token() -> ResponseReturnValue:
        response: Response = server.create_token_response()
        if response.get_json().get("error") == "invalid_client":
            # Authlib answers 400 to an unknown client in the form; RFC 6749, section 5.2, allows 401 for all of them.
            response.status_code = 401
            response.headers["WWW-Authenticate"] = 'Basic realm="sandbox"'
        return response

    @app.route("/oauth/logout", methods=["GET", "POST"])
    def end_session() -> ResponseReturnValue:
        try:
            wish = server.validate_endpoint_request("end_session")
        except OAuth2Error as error:
            return _refusal(error.description or error.error)
        if request.values.get("post_logout_redirect_uri") and not wish.redirect_uri:
            return _refusal("post_logout_redirect_uri is not registered for this client.")
        response: Response | None = server.create_endpoint_response("end_session", wish)
        text = _texts()
        return response or _page(text.signed_out, text.signed_out_sentence)

    _add_protected_routes(app, data, register)
    _add_control_routes(app, register, clients)
    _add_error_handlers(app)
    return app


def _add_protected_routes(app: Flask, data: DataDirectory, register: Register) -> None:
    """Add the routes that need a bearer token."""
    verifier = AccessTokenVerifier(data, "member-center")
    tokens = DownloadTokens(data)

    @app.route("/oauth/userinfo", methods=["GET", "POST"])
    def userinfo() -> ResponseReturnValue:
        bearer = verifier.verify(request.headers.get("Authorization"), "openid")
        account = find_account(bearer.subject)
        if account is None:
            raise BearerError(401, "invalid_token", "the token has no user")
        note_user(request.environ, account.subject)
        return jsonify(describe(account, " ".join(bearer.scopes)))

    @app.post("/file-access/download-tokens")
    def download_tokens() -> ResponseReturnValue:
        verifier.verify(request.headers.get("Authorization"), "files:download.delegate")
        wish = _read_download_wish(request.get_json(force=True, silent=True))
        note_user(request.environ, wish["user_id"])
        if wish["tenant_id"] != TENANT_ID:
            return jsonify(error="access_denied", error_description="The tenant is not yours."), 403
        issued = tokens.issue(**wish)
        register.note_secret("download_token", issued.token)
        expires_at = datetime.fromtimestamp(issued.expires_at, UTC).isoformat(timespec="seconds")
        response = jsonify(token=issued.token, expires_at=expires_at.replace("+00:00", "Z"))
        response.headers["Cache-Control"] = "no-store"
        return response


def _add_control_routes(app: Flask, register: Register, clients: Clients) -> None:
    @app.get("/_sandbox/secrets")
    def list_secrets() -> Response:
        own = [{"kind": "client_secret", "value": value} for value in (clients.web_secret, clients.service_secret)]
        return jsonify(secrets=[*own, *register.secrets()])

    @app.delete("/_sandbox/secrets")
    def forget_secrets() -> ResponseReturnValue:
        register.forget_secrets()
        return "", 204

    @app.post("/_sandbox/gateways")
    def add_gateway() -> ResponseReturnValue:
        body = request.get_json(force=True, silent=True)
        url = body.get("url") if isinstance(body, dict) else None
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise MalformedRequestError("url must be the gateway's base URL.")
        register.add_gateway(url)
        return jsonify(gateways=register.gateways()), 201


def _add_error_handlers(app: Flask) -> None:
    @app.errorhandler(BearerError)
    def bearer_refused(error: BearerError) -> ResponseReturnValue:
        response = jsonify(error=error.code or "invalid_request", error_description=error.description)
        response.headers["WWW-Authenticate"] = error.challenge
        return response, error.status

    @app.errorhandler(MalformedRequestError)
    def malformed(error: MalformedRequestError) -> ResponseReturnValue:
        return jsonify(error="invalid_request", error_description=str(error)), 400


def find_user(environ: "WSGIEnvironment", call: str) -> str | None:
    """Return the user of a request before it is handled."""
    if call == "download_tokens":
        user_id = peek_json(environ).get("user_id")
        return user_id if isinstance(user_id, str) else None
    return None


def _first_page(issuer: str) -> FirstPage:
    return FirstPage(
        title="Member Center",
        stands_for="It stands in for Member Center, where people sign in and services get their tokens.",
        stands_for_zh="它代替會員中心：使用者在此登入，服務在此取得權杖。",
        links=(
            ("Discovery", f"{issuer}/.well-known/openid-configuration"),
            ("Keys", f"{issuer}/oauth/jwks"),
            ("Sign out", f"{issuer}/oauth/logout"),
            ("Calls received", f"{issuer}/_sandbox/calls"),
            ("Fault rules", f"{issuer}/_sandbox/faults"),
        ),
        accounts=ACCOUNTS,
    )


def _metadata(issuer: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "userinfo_endpoint": f"{issuer}/oauth/userinfo",
        "jwks_uri": f"{issuer}/oauth/jwks",
        "end_session_endpoint": f"{issuer}/oauth/logout",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": [*WEB_SCOPES, *SERVICE_SCOPES],
        "claims_supported": ["sub", "name", "preferred_username", "email", "email_verified"],
        "ui_locales_supported": list(TEXTS),
    }


def _authenticate(username: str, password: str) -> Account | None:
    for account in ACCOUNTS:
        if account.username == username and hmac.compare_digest(account.password.encode(), password.encode()):
            return account
    return None


def _read_download_wish(unverified: object) -> dict[str, Any]:
    if not isinstance(unverified, dict):
        raise MalformedRequestError("The body must be a JSON object.")
    for name in ("tenant_id", "user_id", "object_key"):
        if not isinstance(unverified.get(name), str) or not unverified[name]:
            raise MalformedRequestError(f"{name} must be a string that is not empty.")
    if unverified.get("method") != "GET":
        raise MalformedRequestError("method must be GET.")
    seconds = unverified.get("expires_in_seconds", 300)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= LONGEST_DOWNLOAD_SECONDS:
        raise MalformedRequestError(f"expires_in_seconds must be from 1 to {LONGEST_DOWNLOAD_SECONDS}.")
    try:
        verify_object_key(unverified["object_key"])
    except InvalidObjectKeyError as error:
        raise MalformedRequestError(f"{error}.".capitalize()) from error
    return {name: unverified[name] for name in ("tenant_id", "user_id", "object_key", "method")} | {
        "expires_in_seconds": seconds
    }


def _language() -> str:
    # Any form of `zh` gets Chinese: readers of zh-CN or zh-HK prefer it to English.
    preferred = next(iter(request.accept_languages.values()), "en")
    return "zh-TW" if preferred.lower().startswith("zh") else "en"


def _texts() -> Texts:
    return TEXTS[_language()]


def _login_page(*, failed: bool) -> str:
    return render_template("login.html", text=_texts(), language=_language(), failed=failed, accounts=ACCOUNTS)


def _page(title: str, sentence: str) -> str:
    return render_template(
        "message.html", title=title, sentence=sentence, sandbox=_texts().sandbox, language=_language()
    )


def _refusal(sentence: str) -> tuple[str, int]:
    return _page(_texts().refused, sentence), 400
