"""The failures of an operation as OpenAPI responses, made from the error catalog.

An operation names codes. Their statuses, texts and keys come from the catalog.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from app.api.openapi.json_schema import reference
from app.api.openapi.operation import Operation
from app.api.openapi.schemas import JOB_EXAMPLE, RUNNING_UPLOAD_EXAMPLE, header_references
from app.errors import LANGUAGES, Entry, Phrase, catalogue

#: Values for the placeholders of detail texts in the examples.
_EXAMPLE_TEXTS: Mapping[str, Phrase] = {
    "problem": "limit must be a number from 1 to 100",
    "limit": {"en": "at most 5368709120 bytes in total", "zh-TW": "總計最多 5368709120 位元組"},
    "upstream_message": "This chip doesn't support an operator in the model.",
}
#: The members that failures add to the problem document (RFC 9457, section 3.2).
_EXAMPLE_EXTENSIONS: Mapping[str, Mapping[str, Any]] = {
    "active_job_conflict": {"active_job": JOB_EXAMPLE},
    "upload_in_progress": {"upload": RUNNING_UPLOAD_EXAMPLE},
    "job_failed": {"job_error": {"code": "quantization_failed", "message": "No reference image could be read."}},
    "library_full": {"quota_bytes": 10_737_418_240},
    "converter_rejected": {
        "upstream_code": "unsupported_operator",
        "upstream_message": _EXAMPLE_TEXTS["upstream_message"],
    },
}
_REQUEST_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
_OWN_HEADERS = {
    "method_not_allowed": "Allow",
    "range_not_satisfiable": "Content-Range",
    "unsupported_media_type": "Accept-Encoding",
}


def by_status(codes: Iterable[str]) -> dict[int, list[Entry]]:
    """Return the catalog's entries for these codes by status, in the catalog's order.

    Raises KeyError for a code that the catalog doesn't have.
    """
    wanted = {catalogue()[code].code for code in codes}
    found: dict[int, list[Entry]] = {}
    for code, entry in catalogue().items():
        if code in wanted:
            found.setdefault(entry.status, []).append(entry)
    return dict(sorted(found.items()))


def header_names(entries: list[Entry]) -> list[str]:
    """Return the headers that a response with one of these failures may have."""
    names = ["Cache-Control", "Content-Language"]
    if any(entry.retry_after_seconds is not None for entry in entries):
        names.append("Retry-After")
    return names + [_OWN_HEADERS[entry.code] for entry in entries if entry.code in _OWN_HEADERS]


def problem_response(operation: Operation, entries: list[Entry]) -> dict[str, Any]:
    """Return the OpenAPI response for one status; `entries` are all failures of the operation with that status."""
    response: dict[str, Any] = {
        "description": "\n".join(f"- `{entry.code}`: {entry.title[LANGUAGES[0]]}" for entry in entries),
        "headers": header_references(header_names(entries)),
    }
    if operation.method == "HEAD":
        return response
    response["content"] = {
        "application/problem+json": {
            "schema": {
                "allOf": [reference("Problem")],
                "properties": {
                    "status": {"const": entries[0].status},
                    "code": {"enum": [entry.code for entry in entries]},
                },
            },
            "examples": {
                f"{entry.code}.{language}": {"summary": entry.title[language], "value": _example(entry, language)}
                for entry in entries
                for language in LANGUAGES
            },
        }
    }
    # Also for browsers that don't send Sec-Fetch-Mode. For the other operations, the description says it once.
    if operation.rule.startswith("/auth/") and any(
        entry.code in {"sign_in_failed", "idp_unavailable"} for entry in entries
    ):
        response["content"]["text/html"] = {"schema": {"type": "string"}}
    return response


def _example(entry: Entry, language: str) -> dict[str, Any]:
    return {
        **entry.as_problem(language, texts=_EXAMPLE_TEXTS, request_id=_REQUEST_ID),
        **_EXAMPLE_EXTENSIONS.get(entry.code, {}),
    }
