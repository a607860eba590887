"""The console's routes. None of them needs a session: without one the page says where to sign in."""

import hashlib
from typing import Any

from flask import Blueprint, Response, current_app, json, render_template, request

from app.api.context import gateway
from app.api.documents import timestamp
from app.api.preconditions import conditional
from app.api.session import SESSION_COOKIE, cookie_name, current_session
from app.api.signin_states import safe_return_path
from app.console.assets import VERSION, find_asset
from app.console.docs import render_reference
from app.console.preferences import LANGUAGE_COOKIE, MAX_AGE_SECONDS, asked_language, reading_language, theme
from app.console.problem_page import sign_in_path, signed_in_path
from app.console.texts import reference_texts, texts
from app.domain.identity import Session
from app.errors import LANGUAGES, ModelStoreUnavailableError, NotFoundError, UnauthenticatedError, catalogue

#: Changed texts and new codes reach browsers at most an hour late.
CATALOGUE_SECONDS = 3600
#: The address of a file contains the version, so its contents never change.
ASSET_SECONDS = 31_536_000

_REFERENCES = "visiona.references"

blueprint = Blueprint("console", __name__, template_folder="templates")


@blueprint.get("/")
def home() -> Response:
    """Return the console, or a welcome page for users who are not signed in."""
    return _page("console/home.html")


@blueprint.get("/console/signed-in")
def signed_in() -> Response:
    """Return the page that begins a sign-in in a second tab. Afterwards it tells the first tab, which then continues.

    With `then`, an address of the API, the page then leads there: a file is downloaded, and the page stays.
    """
    then = safe_return_path(request.args.get("then"))
    if not then.startswith("/api/"):
        return _page("console/signed_in.html", sign_in=sign_in_path(request.path))
    return _page("console/signed_in.html", sign_in=sign_in_path(signed_in_path(then)), then=then)


@blueprint.get("/docs")
def reference() -> Response:
    """Return the API reference (ADR 15)."""
    return _page("console/docs.html", reference=_rendered_reference(reading_language()))


@blueprint.get("/console/errors.json")
def errors() -> Response:
    """Return the error catalog in all languages, for frontends that switch languages."""
    document = {
        "languages": list(LANGUAGES),
        "errors": {
            code: {
                "status": entry.status,
                "i18n_key": entry.i18n_key,
                "blame": entry.blame.value,
                "retryable": entry.retryable,
                "title": dict(entry.title),
                "detail": dict(entry.detail),
            }
            for code, entry in catalogue().items()
        },
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    response = Response(body, mimetype="application/json")
    response.headers["Cache-Control"] = f"public, max-age={CATALOGUE_SECONDS}"
    return conditional(response, hashlib.sha256(body).hexdigest()[:32])


@blueprint.get("/console/<version>/<path:name>")
def asset(version: str, name: str) -> Response:
    """Return a file of the page. Under the current version, it may be cached forever."""
    found = find_asset(name)
    if found is None:
        raise NotFoundError
    response = Response(found.body, content_type=found.content_type)
    is_current = version == VERSION
    response.headers["Cache-Control"] = f"public, max-age={ASSET_SECONDS}, immutable" if is_current else "no-cache"
    return conditional(response, found.etag)


def _rendered_reference(language: str) -> str:
    """Return the reference in this language. It is slow to render, so that is done once."""
    rendered: dict[str, str] = current_app.extensions.setdefault(_REFERENCES, {})
    if language not in rendered:
        rendered[language] = render_reference(gateway().settings, language, reference_texts(language))
    return rendered[language]


def _page(template: str, **values: Any) -> Response:
    spoken = reading_language()
    session = _find_session()
    page = render_template(
        template,
        language=spoken,
        other_languages=[language for language in LANGUAGES if language != spoken],
        theme=theme(),
        text=texts(spoken),
        version=VERSION,
        session=session,
        session_expires_at=timestamp(session.expires_at) if session else None,
        settings=gateway().settings,
        cookie=cookie_name(SESSION_COOKIE, gateway().settings),
        is_enabled=gateway().conversions is not None,
        **values,
    )
    response = Response(page, mimetype="text/html")
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Language"] = spoken
    response.headers["Vary"] = "Accept-Language, Cookie"
    if asked_language() is not None:
        response.set_cookie(
            LANGUAGE_COOKIE, spoken, max_age=MAX_AGE_SECONDS, samesite="Lax", secure=gateway().settings.is_https
        )
    return response


def _find_session() -> Session | None:
    try:
        return current_session()
    except (UnauthenticatedError, ModelStoreUnavailableError):
        return None
