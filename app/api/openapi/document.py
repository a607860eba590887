"""The OpenAPI 3.1 document, composed from the operations, the error catalog and the guard's rules.

Two things hold for every route, so `ABOUT` says them once: HEAD works like GET unless it has an operation of its own,
and a method that an address doesn't have gets 405.
"""

from typing import Any

from app.api.openapi.json_schema import reference
from app.api.openapi.operation import Operation
from app.api.openapi.operations import OPERATIONS, SECTIONS
from app.api.openapi.parameters import PARAMETERS
from app.api.openapi.problems import by_status, problem_response
from app.api.openapi.schemas import HEADERS, SCHEMAS, header_references
from app.api.session import SESSION_COOKIE, cookie_name
from app.config import Settings
from app.version import VERSION

OPENAPI = "3.1.0"
ABOUT = """\
The gateway between browsers and the conversion service. Upload a model, follow its conversion, then download the \
result or save it to the library.

- Sign in at `/auth/login`. The session is a cookie. Without a session, everything under `/api` returns 401 and never \
redirects.
- Failures are RFC 9457 problem documents (`application/problem+json`). Programs should use `code`. `title` and \
`detail` are for people, in the language that Accept-Language prefers (English or Traditional Chinese). Most technical \
reasons in `detail` are in English only.
- To a browser that opens an address (GET with `Sec-Fetch-Mode: navigate` and `text/html` in Accept), a failure is an \
HTML page instead, with the same status and headers.
- For a job or model of another user, the response is the same as for one that doesn't exist.
- POST, PATCH and DELETE are accepted from our own pages and from clients that are not browsers, such as curl.
- HEAD works like GET, without the body, except where this description says that it is not allowed. An unsupported \
method gets 405 `method_not_allowed`, and an unknown address 404 `not_found`.
- Ignore members and headers that you don't know. More may be added."""


def documented_statuses() -> dict[tuple[str, str], set[int]]:
    """Return every described status by method and Flask rule: ("GET", "/api/conversion/<job_id>")."""
    return {
        (operation.method, operation.rule): {*operation.responses, *by_status(operation.codes)}
        for operation in OPERATIONS
    }


def build_document(settings: Settings) -> dict[str, Any]:
    """Return the whole document, with the public address and the name of the session cookie from the settings."""
    paths: dict[str, dict[str, Any]] = {}
    for section in SECTIONS:
        for operation in section.operations:
            item = paths.setdefault(operation.path, {})
            if operation.path_parameters:
                item["parameters"] = operation.path_parameters
            item[operation.method.lower()] = _operation(operation, section.name)
    return {
        "openapi": OPENAPI,
        "info": {"title": "visionA conversion gateway", "version": VERSION, "description": ABOUT},
        "servers": [{"url": settings.public_base_url}],
        "tags": [{"name": section.name, "x-title": dict(section.title)} for section in SECTIONS],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": cookie_name(SESSION_COOKIE, settings),
                    "description": "Set by signing in at `/auth/login`. HttpOnly and signed.",
                }
            },
        },
    }


def _operation(operation: Operation, tag: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.operation_id,
        "tags": [tag],
        "summary": operation.summary["en"],
        "x-summary": dict(operation.summary),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in operation.parameters]
    if body := operation.body:
        media_type = {"schema": reference(body.schema), **body.details}
        described["requestBody"] = {
            "required": body.is_required,
            "content": dict.fromkeys(body.media_types, media_type),
        }
    described["security"] = [{"session": []}] if operation.needs_session else []
    responses: dict[int, dict[str, Any]] = {}
    for status, response in operation.responses.items():
        responses[status] = {"description": response.description, "headers": header_references(response.headers)}
        if response.content:
            responses[status]["content"] = dict(response.content)
    for status, entries in by_status(operation.codes).items():
        responses[status] = problem_response(operation, entries)
    described["responses"] = {str(status): responses[status] for status in sorted(responses)}
    return described
