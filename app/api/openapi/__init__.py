"""The API's description as an OpenAPI 3.1 document, made of what the code itself goes by.

Failures come from the error catalogue and the routes' rules from the same words as the URL map has; a test compares the
two, and `make test` compares both with the statuses that all tests have seen.
"""

import re
from functools import cache
from http import HTTPStatus
from typing import Any

from app.api.openapi.operations import OPERATIONS, PARAMETERS, Answer, Operation
from app.api.openapi.schemas import SCHEMAS, Schema
from app.errors.catalogue import Entry, catalogue
from app.version import VERSION

_ABOUT = (
    "Converts neural networks for Kneron NPUs: upload a model, watch its conversion, keep or download the result.\n\n"
    "Sign in by going to `/auth/login`; the session is a cookie. Whatever fails is a problem document (RFC 9457) with "
    "a stable `code`, in English or zh-TW by `Accept-Language`. Requests that change something must come from our own "
    "pages, from an allowed origin, or from no page at all."
)
_HEADERS: dict[str, Schema] = {
    "Location": {"description": "Where it is, or where to go.", "schema": {"type": "string"}},
    "ETag": {"description": "Stands for this very answer; for If-None-Match.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer", "minimum": 1}},
    "Accept-Ranges": {"schema": {"const": "bytes"}},
    "Content-Range": {"description": "RFC 9110, section 14.4.", "schema": {"type": "string"}},
    "Content-Disposition": {"description": "The file's name (RFC 6266).", "schema": {"type": "string"}},
    "X-Request-ID": {
        "description": "The caller's, if it was well-formed, or one of ours. Finds the request in our logs.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    },
}
#: Headers that an answer has only in some cases.
_AT_TIMES = {"Retry-After"}


@cache
def documented_statuses() -> dict[tuple[str, str], set[int]]:
    """Every status that an operation can answer with, by method and rule of the URL map."""
    return {(operation.method, operation.rule): {*operation.answers, *_failures(operation)} for operation in OPERATIONS}


def openapi_document(public_base_url: str, session_cookie: str) -> dict[str, Any]:
    """The document, for a gateway that is reached at that address and keeps its sessions in that cookie."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(path_of(operation.rule), {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "visionA conversion gateway", "version": VERSION, "description": _ABOUT},
        "servers": [{"url": public_base_url}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in OPERATIONS)],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "headers": _HEADERS,
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": session_cookie}},
        },
    }


def path_of(rule: str) -> str:
    """A rule of the URL map as OpenAPI writes it: `/a/<path:name>` is `/a/{name}`."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [
            PARAMETERS[name] for name in (*re.findall(r"<(?:\w+:)?(\w+)>", operation.rule), *operation.parameters)
        ],
        "responses": {
            **{str(status): _answer(answer) for status, answer in operation.answers.items()},
            **{str(status): _problem(status, entries) for status, entries in sorted(_failures(operation).items())},
        },
    }
    if operation.description:
        described["description"] = operation.description
    if operation.needs_session:
        described["security"] = [{"session": []}]
    if operation.request:
        described["requestBody"] = {
            "required": True,
            "content": {
                content_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}
                for content_type, name in operation.request.items()
            },
        }
    return described


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.meaning, "headers": _headers(*answer.headers)}
    if answer.schema is not None:
        described["content"] = {answer.content_type: {"schema": {"$ref": f"#/components/schemas/{answer.schema}"}}}
    return described


def _headers(*names: str) -> dict[str, Any]:
    return {
        name: {"$ref": f"#/components/headers/{name}"} if name in _AT_TIMES else {**_HEADERS[name], "required": True}
        for name in (*names, "X-Request-ID")
    }


def _failures(operation: Operation) -> dict[int, list[Entry]]:
    by_status: dict[int, list[Entry]] = {}
    for code in dict.fromkeys(operation.codes):
        entry = catalogue()[code]
        by_status.setdefault(entry.status, []).append(entry)
    return by_status


def _problem(status: int, entries: list[Entry]) -> dict[str, Any]:
    return {
        "description": " ".join([f"{HTTPStatus(status).phrase}:", ", ".join(f"`{entry.code}`" for entry in entries)]),
        "headers": _headers("Retry-After"),
        "content": {
            "application/problem+json": {
                "schema": {
                    "allOf": [
                        {"$ref": "#/components/schemas/Problem"},
                        {
                            "properties": {
                                "status": {"const": status},
                                "code": {"enum": [entry.code for entry in entries]},
                            }
                        },
                    ]
                },
                "examples": {entry.code: {"value": _example(entry)} for entry in entries},
            }
        },
    }


def _example(entry: Entry) -> dict[str, Any]:
    return {
        "type": f"urn:visiona:problem:{entry.code}",
        "title": entry.title["en"],
        "status": entry.status,
        "detail": entry.detail["en"],
        "code": entry.code,
        "i18n_key": entry.i18n_key,
        "retryable": entry.retryable,
        "blame": entry.blame.value,
        "request_id": "5c0d0f5e4a3b4c1d9e8f7a6b5c4d3e2f",
    }
