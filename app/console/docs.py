"""What `/docs` shows: the OpenAPI document, turned into what a template can go through without thinking.

Nothing is told here that the document does not say; the page is the document, for people (ADR 15).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from markupsafe import Markup, escape

Document = Mapping[str, Any]

_METHODS = ("get", "head", "post", "patch", "delete")
_PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Member:
    """A parameter, a field of a form, or a member of a JSON document."""

    name: str
    type: str
    place: str
    is_required: bool
    description: str
    schema: str | None


@dataclass(frozen=True, slots=True)
class Content:
    """A body: its media type, the schema that it follows (by name, where it has one) and an example of it."""

    media_type: str
    schema: str | None
    example: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure of an operation, in the reader's language."""

    code: str
    title: str
    detail: str
    is_retryable: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """One status of an operation. Those that are failures have these; the others a description and a body."""

    status: str
    phrase: str
    description: str
    headers: tuple[str, ...]
    contents: tuple[Content, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    needs_session: bool
    parameters: tuple[Member, ...]
    body: tuple[Content, ...]
    fields: tuple[Member, ...]
    successes: tuple[Answer, ...]
    failures: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The operations of one tag."""

    id: str
    title: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """A named JSON document."""

    name: str
    description: str
    members: tuple[Member, ...]


def sections(document: Document, language: str) -> list[Section]:
    """The operations by tag, both in the document's order, with titles and failures in `language`."""
    found: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                found[item[method]["tags"][0]].append(_operation(document, path, method, item, language))
    return [Section(tag["name"], tag["x-title"][language], tuple(found[tag["name"]])) for tag in document["tags"]]


def schemas(document: Document) -> list[Schema]:
    """All named JSON documents, with their members."""
    return [
        Schema(name, schema.get("description", ""), tuple(_members(schema)))
        for name, schema in document["components"]["schemas"].items()
    ]


def prose(text: str) -> Markup:
    """A description as HTML: paragraphs, lists of one level and `code`, which is all of Markdown that they use."""
    blocks = Markup()
    for block in text.split("\n\n"):
        lines = block.split("\n")
        if lines[0].startswith("- "):
            items = Markup().join(Markup("<li>{}</li>").format(inline(line.removeprefix("- "))) for line in lines)
            blocks += Markup('<ul class="bullets">{}</ul>').format(items)
        else:
            blocks += Markup("<p>{}</p>").format(inline(block))
    return blocks


def inline(text: str) -> Markup:
    """One line of a description, with what stands between backticks as code."""
    pieces = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces)
    )


def _operation(document: Document, path: str, method: str, item: Mapping[str, Any], language: str) -> Operation:
    described = item[method]
    given = [
        _resolved(document, parameter) for parameter in (*item.get("parameters", ()), *described.get("parameters", ()))
    ]
    answers = [_answer(status, answer, language) for status, answer in described["responses"].items()]
    body = described.get("requestBody", {}).get("content", {})
    return Operation(
        id=described["operationId"],
        method=method.upper(),
        path=path,
        summary=described["x-summary"][language],
        description=described.get("description", ""),
        needs_session=bool(described["security"]),
        parameters=tuple(_parameter(parameter) for parameter in given),
        body=tuple(_contents(body)),
        fields=tuple(_fields(document, body)),
        successes=tuple(answer for answer in answers if not _is_failure(answer)),
        failures=tuple(answer for answer in answers if _is_failure(answer)),
    )


def _is_failure(answer: Answer) -> bool:
    # /readyz answers 503 with a document that is no problem.
    return bool(answer.failures) or (answer.status >= "400" and not answer.contents)


def _parameter(parameter: Mapping[str, Any]) -> Member:
    return Member(
        name=parameter["name"],
        type=_type(parameter["schema"]),
        place=parameter["in"],
        is_required=parameter.get("required", False),
        description=parameter.get("description", ""),
        schema=None,
    )


def _fields(document: Document, body: Mapping[str, Any]) -> Iterator[Member]:
    """The fields of the first kind of body; further kinds have the same."""
    for media_type in list(body.values())[:1]:
        yield from _members(_resolved(document, media_type["schema"]))


def _members(schema: Mapping[str, Any]) -> Iterator[Member]:
    required = schema.get("required", ())
    for name, member in schema["properties"].items():
        yield Member(
            name=name,
            type=_type(member),
            place="",
            is_required=name in required,
            description=member.get("description", ""),
            schema=_schema_name(member),
        )


def _answer(status: str, answer: Mapping[str, Any], language: str) -> Answer:
    content = answer.get("content", {})
    examples = content.get(_PROBLEM, {}).get("examples", {})
    failures = tuple(
        Failure(value["code"], value["title"], value["detail"], value["retryable"])
        for name, value in ((name, example["value"]) for name, example in examples.items())
        if name.endswith(f".{language}")
    )
    return Answer(
        status=status,
        phrase=HTTPStatus(int(status)).phrase,
        description=answer["description"],
        # Every answer has the request's id; it is told once, at the top.
        headers=tuple(name for name in answer["headers"] if name != "X-Request-ID"),
        contents=() if failures else tuple(_contents(content)),
        failures=failures,
    )


def _contents(content: Mapping[str, Any]) -> Iterator[Content]:
    for media_type, described in content.items():
        example = described.get("example")
        shown = None if example is None else json.dumps(example, ensure_ascii=False, indent=2)
        yield Content(media_type, _schema_name(described["schema"]), shown)


def _resolved(document: Document, described: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in described:
        return described
    found: Mapping[str, Any] = document
    for step in described["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def _schema_name(schema: Mapping[str, Any]) -> str | None:
    """The name of the schema that this one is, may be, or is a list of; None where it has none."""
    for part in (schema, schema.get("items", {}), *schema.get("oneOf", ())):
        if "$ref" in part:
            return str(part["$ref"]).rpartition("/")[2]
    return None


def _type(schema: Mapping[str, Any]) -> str:
    """A schema's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "oneOf" in schema:
        return " | ".join(_type(part) for part in schema["oneOf"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        # A long list is the error catalogue's.
        shown = [str(json.dumps(value)) for value in schema["enum"][:6]]
        return " | ".join(shown) + (" | …" if len(schema["enum"]) > len(shown) else "")
    if "contentMediaType" in schema:
        return "file"
    if schema.get("type") == "array":
        return f"{_type(schema['items'])}[]"
    kinds = schema.get("type", "any")
    named = [kinds] if isinstance(kinds, str) else list(kinds)
    bounds = ""
    if "minimum" in schema and "maximum" in schema:
        bounds = f" {schema['minimum']}–{schema['maximum']}"
    return (
        " | ".join(f"{schema['format']}" if kind == "string" and "format" in schema else kind for kind in named)
        + bounds
    )
