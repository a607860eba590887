"""The page that people get instead of a problem document when a link or an address fails.

It has the texts of the error catalog, works without JavaScript, and repeats nothing of the request but its path.
Scripts and programs still get the problem document.
"""

import math
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from flask import Flask, Response, g, render_template, request

from app.api.context import gateway
from app.api.problem import request_id
from app.api.requests import MAX_HEADER_BYTES
from app.api.signin import auth
from app.api.signin_states import HOME, safe_return_path
from app.console.assets import VERSION
from app.console.preferences import reading_language, theme
from app.console.texts import texts
from app.errors import (
    BadHostError,
    GatewayError,
    IDPMisconfiguredError,
    IDPUnavailableError,
    JobNotFoundError,
    SignInFailedError,
    UnauthenticatedError,
)

_HTML, _JSON = "text/html", ("application/json", "application/problem+json")
_LONGEST_WAIT_IN_SECONDS = 90


def register(app: Flask) -> None:
    """Let failed navigations to `app` respond with a page. The status and the other headers stay as they are."""

    @app.after_request
    def _explain_to_people(response: Response) -> Response:
        failure: GatewayError | None = g.get("failure")
        if failure is not None and request.method == "GET":
            response.vary.update(("Accept", "Sec-Fetch-Mode"))
            if _is_navigation() or (_is_failed_sign_in(failure) and _is_html_preferred()):
                _show_page(response, failure)
        return response


def sign_in_path(return_path: str) -> str:
    """Return the address of a sign-in that leads to `return_path`."""
    return "/auth/login?" + urlencode({"next": return_path}, safe="/")


def signed_in_path(then: str) -> str:
    """Return the address of the page that begins a sign-in and leads to `then` after it.

    A download does not replace the page in the browser, and without this one that would be MC's login page.
    """
    return "/console/signed-in?" + urlencode({"then": then}, safe="/")


def _show_page(response: Response, failure: GatewayError) -> None:
    spoken = reading_language()
    entry, text = failure.entry, texts(spoken)
    problem = entry.as_problem(spoken, texts=failure.texts, request_id=request_id())
    page = render_template(
        "console/problem.html",
        language=spoken,
        theme=theme(),
        text=text,
        version=VERSION,
        session=None,
        title=problem["title"],
        detail=problem["detail"],
        wait=_wait(failure, text),
        links=_links(failure),
        is_signed_out=isinstance(failure, UnauthenticatedError),
        request_id=request_id(),
    )
    response.set_data(page)
    response.content_type = "text/html; charset=utf-8"
    response.headers["Content-Language"] = spoken


def _links(failure: GatewayError) -> list[tuple[str, str]]:
    """Return the ways on, the best one first, as addresses with the keys of their texts."""
    to_console = (_console_address(failure), "problem.back")
    path = safe_return_path(quote(request.path))
    if _is_failed_sign_in(failure):
        return [(sign_in_path(g.get("return_path", HOME)), "session.sign_in"), to_console]
    if isinstance(failure, UnauthenticatedError):
        return [(signed_in_path(path), "account.sign_in"), to_console]
    if failure.entry.retryable and path != HOME:
        return [(path, "retry"), to_console]
    return [to_console]


def _console_address(failure: GatewayError) -> str:
    """Return the address of the view that has the failed link: the job, the library, or the first view."""
    if isinstance(failure, BadHostError):
        return gateway().settings.public_base_url + HOME
    if request.blueprint == "models":
        return HOME + "#/models"
    job_id = (request.view_args or {}).get("job_id")
    if job_id is None or isinstance(failure, JobNotFoundError):
        return HOME
    return f"{HOME}#/jobs/{quote(job_id, safe='')}"


def _wait(failure: GatewayError, text: Mapping[str, str]) -> str | None:
    """Return the time after which a retry makes sense, in words."""
    if failure.retry_after_seconds is None:
        return None
    seconds = max(1, math.ceil(failure.retry_after_seconds))
    if seconds > _LONGEST_WAIT_IN_SECONDS:
        return text["problem.wait.minutes"].replace("{n}", str(math.ceil(seconds / 60)))
    return text["problem.wait.seconds.one" if seconds == 1 else "problem.wait.seconds"].replace("{n}", str(seconds))


def _is_failed_sign_in(failure: GatewayError) -> bool:
    kinds = SignInFailedError | IDPUnavailableError | IDPMisconfiguredError
    return request.blueprint == auth.name and isinstance(failure, kinds)


def _is_navigation() -> bool:
    """Return whether a browser will show the response as a page (Fetch Metadata, section 2.2)."""
    if request.headers.get("Sec-Fetch-Mode") != "navigate" or not _has_short_accept():
        return False
    return any(kind.lower() == _HTML and quality > 0 for kind, quality in request.accept_mimetypes)


def _is_html_preferred() -> bool:
    """Return whether the caller prefers HTML to JSON.

    A sign-in is always a navigation, so this also serves browsers that do not send Sec-Fetch-Mode. curl and XHR accept
    everything alike.
    """
    accepted = request.accept_mimetypes
    return _has_short_accept() and accepted[_HTML] > max(accepted[kind] for kind in _JSON)


def _has_short_accept() -> bool:
    """Return whether the header may be parsed. The failure itself may be that it is too long."""
    return len(request.headers.get("Accept", "")) <= MAX_HEADER_BYTES
