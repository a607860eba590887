"""Routes for navigations only: a person follows a link there, and no script or prefetch does."""

from flask import request

from app.errors import MethodNotAllowedError, NavigationRequiredError


def require_navigation() -> None:
    """Return if the request is a navigation by GET.

    Raises MethodNotAllowedError for HEAD, which Flask adds to every GET, and NavigationRequiredError for scripts and
    prefetches. They would begin or use up a sign-in that nobody sees, or get an address with a download token.
    """
    if request.method != "GET":
        raise MethodNotAllowedError(allowed=("GET", "OPTIONS"))
    mode = request.headers.get("Sec-Fetch-Mode")
    # Browsers that don't send the mode still name the origin in a script's request to another origin, and never in a
    # navigation by GET (Fetch standard, section 3.2).
    if mode != "navigate" and (mode is not None or "Origin" in request.headers):
        raise NavigationRequiredError("the request comes from a script")
    purposes = (request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Moz"))
    if any("prefetch" in purpose.lower() for purpose in purposes):
        raise NavigationRequiredError("the request is a prefetch")
