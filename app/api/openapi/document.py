"""The description of the API as an OpenAPI 3.1 document, composed from the operations, the catalogue and the guard.

Deliberately not in it, because it is the same for every route: HEAD answers what GET would without the body (where it
does not, it has an operation of its own), OPTIONS names the methods, any other method is 405 `method_not_allowed`.
"""

import re
from typing import Any

from app.api.guard import HOSTLESS_PATHS, SAFE_METHODS
from app.api.openapi.operations import OPERATIONS, TAGS, Answer, Operation
from app.api.openapi.problems import by_status, problem_response
from app.api.openapi.schemas import ID_PATTERN, JOB_ID, MODEL_ID, headers, parameters, schemas
from app.api.session import SESSION_COOKIE, cookie_name
from app.config import Settings
from app.version import VERSION

OPENAPI = "3.1.0"

_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")
_PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "job_id": {"schema": {"type": "string", "pattern": ID_PATTERN}, "example": JOB_ID},
    # Everywhere else `model_id` is the number that a model has on the chip.
    "model_id": {
        "name": "library_model_id",
        "schema": {"type": "string", "pattern": ID_PATTERN},
        "example": MODEL_ID,
    },
    "version": {"schema": {"type": "string", "minLength": 1}, "example": "0123456789ab"},
    "name": {
        "schema": {"type": "string", "minLength": 1},
        "description": "May have slashes in it.",
        "example": "console.css",
    },
}
_ABOUT = """\
The one door between browsers and the conversion service: upload a model, watch its conversion, keep or download the \
result.

- Sign in at `/auth/login`; the session is a cookie. Without one, all under `/api` answers 401, never a redirect.
- Failures are RFC 9457 problem documents (`application/problem+json`). Tell them apart by `code`; `title` and \
`detail` are texts for people, in the language that Accept-Language prefers (English or Chinese as written in Taiwan).
- A job or model that is somebody else's is answered exactly as one that does not exist.
- What changes something is taken from our own pages, or from no page at all (curl), only.
- HEAD answers as GET does, without the body. A method that an address does not have gives 405 \
`method_not_allowed`, an address that does not exist 404 `not_found`.
- Clients ignore members and headers that they do not know."""


def needs_session(operation: Operation) -> bool:
    """Does the guard ask for a session before it?"""
    return operation.rule.startswith("/api/")


def failures_of(operation: Operation) -> set[str]:
    """The codes of all failures that the operation may end in: its own, and what the guard refuses."""
    # Of every operation: a header that is too long, and a body that is encoded.
    codes = {"invalid_request", "unsupported_media_type", *operation.failures}
    if operation.rule not in HOSTLESS_PATHS:
        codes.add("bad_host")
    if needs_session(operation):
        codes |= {"unauthenticated", "too_many_requests", "model_store_unavailable", "internal_error"}
    if operation.method not in SAFE_METHODS:
        codes.add("cross_site_request")
    if operation.rule.startswith("/api/conversion/"):
        codes.add("conversion_disabled")
    return codes


def documented_statuses() -> dict[tuple[str, str], set[int]]:
    """Every status that the description names, by method and Flask rule: ("GET", "/api/conversion/<job_id>")."""
    return {
        (operation.method, operation.rule): {*operation.answers, *by_status(failures_of(operation))}
        for operation in OPERATIONS
    }


def build_document(settings: Settings) -> dict[str, Any]:
    """The whole description, for the address and the cookie that the settings give."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        path, names = _path(operation.rule)
        item = paths.setdefault(path, {})
        if names:
            item["parameters"] = [
                {"name": name, "in": "path", "required": True, **_PATH_PARAMETERS[name]} for name in names
            ]
        item[operation.method.lower()] = _operation(operation)
    return {
        "openapi": OPENAPI,
        "info": {"title": "visionA conversion gateway", "version": VERSION, "description": _ABOUT},
        "servers": [{"url": settings.public_base_url}],
        "tags": [{"name": tag, "x-title": dict(titles)} for tag, titles in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "headers": headers(),
            "parameters": parameters(),
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


def _path(rule: str) -> tuple[str, list[str]]:
    """OpenAPI's form of a Flask rule, and the names of the parameters in it."""
    path = _PLACEHOLDER.sub(lambda found: f"{{{_PATH_PARAMETERS[found[1]].get('name', found[1])}}}", rule)
    return path, _PLACEHOLDER.findall(rule)


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.operation_id,
        "tags": [operation.tag],
        "summary": operation.summary["en"],
        "x-summary": dict(operation.summary),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = dict(operation.body)
    described["security"] = [{"session": []}] if needs_session(operation) else []
    responses = {status: _answer(answer) for status, answer in operation.answers.items()}
    for status, entries in by_status(failures_of(operation)).items():
        responses[status] = problem_response(
            entries,
            has_body=operation.method != "HEAD",
            is_page_possible=operation.rule.startswith("/auth/")
            and any(entry.code in {"sign_in_failed", "idp_unavailable"} for entry in entries),
        )
    described["responses"] = {str(status): responses[status] for status in sorted(responses)}
    return described


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": answer.description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-ID", *answer.headers)},
    }
    if answer.content:
        described["content"] = dict(answer.content)
    return described
