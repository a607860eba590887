"""The failures of an operation as responses of its description, made from the one catalogue.

An operation names codes; statuses, texts, keys and whether a retry may help are the catalogue's, so that nothing is
told twice.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.api.openapi.schemas import JOB_EXAMPLE, reference
from app.errors import LANGUAGES, ActiveJobConflictError, Entry, GatewayError, catalogue

#: What fills the placeholders of detail texts in the examples.
_EXAMPLE_TEXTS = {
    "problem": "limit must be a number from 1 to 100",
    "limit": "at most 5368709120 bytes in total",
    "upstream_message": "The model has an operator that this chip does not know.",
}
#: The members that failures add to the problem document (RFC 9457, section 3.2).
_EXAMPLE_EXTENSIONS: Mapping[str, Mapping[str, Any]] = {
    "active_job_conflict": {"active_job": JOB_EXAMPLE},
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
    """The catalogue's entries for these codes, by status, in the catalogue's order.

    Raises KeyError for a code that the catalogue does not have.
    """
    wanted = {catalogue()[code].code for code in codes}
    found: dict[int, list[Entry]] = {}
    for code, entry in catalogue().items():
        if code in wanted:
            found.setdefault(entry.status, []).append(entry)
    return dict(sorted(found.items()))


def problem_response(entries: list[Entry], *, has_body: bool, is_page_possible: bool) -> dict[str, Any]:
    """The response for one status: `entries` are all the failures with that status that the operation has."""
    names = ["X-Request-ID", "Cache-Control", "Content-Language"]
    if any(entry.code in _codes_with_retry_after() for entry in entries):
        names.append("Retry-After")
    names += [_OWN_HEADERS[entry.code] for entry in entries if entry.code in _OWN_HEADERS]
    response: dict[str, Any] = {
        "description": "\n".join(f"- `{entry.code}`: {entry.title[LANGUAGES[0]]}" for entry in entries),
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    if has_body:
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
        if is_page_possible:
            response["content"]["text/html"] = {"schema": {"type": "string"}}
    return response


def _example(entry: Entry, language: str) -> dict[str, Any]:
    return {
        **entry.as_problem(language, texts=_EXAMPLE_TEXTS, request_id=_REQUEST_ID),
        **_EXAMPLE_EXTENSIONS.get(entry.code, {}),
    }


def _codes_with_retry_after() -> frozenset[str]:
    # A conflict gets its Retry-After where it is raised, the others in the tree.
    return frozenset(
        {failure.code for failure in _tree(GatewayError) if failure.default_retry_after_seconds is not None}
        | {ActiveJobConflictError.code}
    )


def _tree(root: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)
