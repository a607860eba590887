"""What the description says of one operation, and what follows from its route and from the guard."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.api.guard import HOSTLESS_PATHS, SAFE_METHODS
from app.api.openapi.json_schema import reference
from app.api.openapi.parameters import PATH_PARAMETERS

JSON = "application/json"

_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True, slots=True)
class ResponseDescription:
    """One response of an operation that is not a problem document."""

    description: str
    #: OpenAPI's media type objects, by media type.
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ("Cache-Control",)


@dataclass(frozen=True, slots=True)
class Body:
    """A request body: one schema, in one or several media types."""

    schema: str
    media_types: tuple[str, ...]
    is_required: bool = True
    #: Further members of each media type object, such as `example`.
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route.

    `rule` is Flask's, `summary` has every language, `parameters` are names in PARAMETERS, and `failures` are codes of
    the catalog. Leave out what the guard refuses: `codes` adds it. `curl` has the arguments that the example in `/docs`
    needs beside method, session and address; None means that only a browser can call the operation.
    """

    method: str
    rule: str
    operation_id: str
    summary: Mapping[str, str]
    responses: Mapping[int, ResponseDescription]
    description: str = ""
    parameters: tuple[str, ...] = ()
    body: Body | None = None
    failures: tuple[str, ...] = ()
    curl: str | None = ""

    @property
    def path(self) -> str:
        """The rule as OpenAPI writes it: `/api/models/{library_model_id}`."""
        return _PLACEHOLDER.sub(lambda found: f"{{{PATH_PARAMETERS[found[1]]['name']}}}", self.rule)

    @property
    def path_parameters(self) -> list[dict[str, Any]]:
        """The parameters in the path, as OpenAPI parameter objects."""
        return [PATH_PARAMETERS[name] for name in _PLACEHOLDER.findall(self.rule)]

    @property
    def needs_session(self) -> bool:
        """Whether the guard requires a session."""
        return self.rule.startswith("/api/")

    @property
    def codes(self) -> set[str]:
        """The codes of all failures of the operation: its own, and those of the guard."""
        # A header that is too long and a Content-Encoding are refused everywhere.
        codes = {"invalid_request", "unsupported_media_type", *self.failures}
        if self.rule not in HOSTLESS_PATHS:
            codes.add("bad_host")
        if self.needs_session:
            codes |= {"unauthenticated", "too_many_requests", "model_store_unavailable", "internal_error"}
        if self.method not in SAFE_METHODS:
            codes.add("cross_site_request")
        if self.rule.startswith("/api/conversion/"):
            codes.add("conversion_disabled")
        return codes


@dataclass(frozen=True, slots=True)
class Section:
    """The operations of one OpenAPI tag, with its title in every language."""

    name: str
    title: Mapping[str, str]
    operations: tuple[Operation, ...]


def json_content(schema: str, example: Any) -> Mapping[str, Any]:
    """Return the content of a JSON response."""
    return {JSON: {"schema": reference(schema), "example": example}}


def text_content(*media_types: str) -> Mapping[str, Any]:
    """Return the content of a response that is text in one of these media types."""
    return {media_type: {"schema": {"type": "string"}} for media_type in media_types}


def no_head(rule: str, operation_id: str, reason: Mapping[str, str]) -> Operation:
    """Describe that HEAD is not allowed where GET is."""
    return Operation("HEAD", rule, operation_id, reason, {}, failures=("method_not_allowed",), curl=None)
