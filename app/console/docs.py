"""The reference at `/docs`: what `/openapi.json` describes, rendered for people (ADR 15)."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import render_template
from markupsafe import Markup, escape

from app.api.openapi.document import ABOUT, OPENAPI
from app.api.openapi.operation import Operation
from app.api.openapi.operations import SECTIONS
from app.api.openapi.parameters import PARAMETERS
from app.api.openapi.problems import by_status, header_names
from app.api.openapi.schemas import SCHEMAS
from app.api.session import SESSION_COOKIE, cookie_name
from app.config import Settings
from app.console.texts import texts
from app.version import VERSION

Schema = Mapping[str, Any]

_BULLET = "- "
_CURL_WIDTH = 100
_MAX_ENUM_MEMBERS = 6
#: What the curl examples have for the parameters of paths.
_PLACEHOLDERS = {"job_id": "$JOB_ID", "library_model_id": "$MODEL_ID"}


def render_reference(settings: Settings, language: str, translations: Mapping[str, str]) -> str:
    """Return the part of `/docs` that is the same for all users.

    `translations` has the lines of the description by their English text. Without a translation, a line stays English.
    """

    def translate(text: str) -> str:
        return "\n".join(translate_line(line) for line in text.split("\n"))

    def translate_line(line: str) -> str:
        content = line.removeprefix(_BULLET)
        return line.removesuffix(content) + translations.get(content, content) if content else line

    def translate_example(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: translate_example(member) for name, member in value.items()}
        if isinstance(value, list):
            return [translate_example(item) for item in value]
        return translate(value) if isinstance(value, str) else value

    session_cookie = cookie_name(SESSION_COOKIE, settings)
    return render_template(
        "console/reference.html",
        text=texts(language),
        language=language,
        version=VERSION,
        openapi=OPENAPI,
        about=ABOUT,
        base_url=settings.public_base_url,
        cookie=session_cookie,
        sections=SECTIONS,
        schemas=SCHEMAS,
        parameters=parameters,
        by_status=by_status,
        header_names=header_names,
        phrase=lambda status: HTTPStatus(status).phrase,
        curl=lambda operation: curl_command(operation, settings.public_base_url, session_cookie),
        example=lambda value: json.dumps(translate_example(value), ensure_ascii=False, indent=2),
        prose=lambda text: prose(translate(text)),
        inline=lambda text: inline(translate(text)),
        with_code=inline,
        type_in_words=type_in_words,
        schema_name=schema_name,
    )


def parameters(operation: Operation) -> list[dict[str, Any]]:
    """Return the OpenAPI parameter objects of an operation, those in the path first."""
    return operation.path_parameters + [PARAMETERS[name] for name in operation.parameters]


def curl_command(operation: Operation, base_url: str, cookie: str) -> str | None:
    """Return a call of the operation by curl, or None if only browsers can make one.

    The shell's variables SESSION, JOB_ID and MODEL_ID stand for the session cookie and for ids; other variables have
    the names of required parameters of the query.
    """
    if operation.curl is None:
        return None
    path = operation.path
    for parameter in operation.path_parameters:
        name = parameter["name"]
        path = path.replace(f"{{{name}}}", _PLACEHOLDERS.get(name, parameter["example"]))
    needed = [PARAMETERS[name] for name in operation.parameters if PARAMETERS[name].get("required")]
    query = "&".join(f"{parameter['name']}=${parameter['name'].upper()}" for parameter in needed)
    path = f"{path}?{query}" if query else path
    parts = ["curl"]
    if operation.method != "GET" and not (operation.method == "POST" and operation.body):
        parts.append(f"-X {operation.method}")
    if operation.needs_session:
        # With -b, curl would send the cookie to the host of a redirect, too.
        parts.append(f'-H "Cookie: {cookie}=$SESSION"')
    parts += [*filter(None, [operation.curl]), f'"{base_url}{path}"']
    command = " ".join(parts)
    return command if len(command) <= _CURL_WIDTH else " \\\n  ".join(parts)


def prose(text: str) -> Markup:
    """Return a description as HTML. Knows paragraphs, flat lists and `code`, which is all that descriptions use."""
    blocks = Markup()
    for block in text.split("\n\n"):
        lines = block.split("\n")
        if lines[0].startswith(_BULLET):
            items = Markup().join(Markup("<li>{}</li>").format(inline(line.removeprefix(_BULLET))) for line in lines)
            blocks += Markup('<ul class="bullets">{}</ul>').format(items)
        else:
            blocks += Markup("<p>{}</p>").format(inline(block))
    return blocks


def inline(text: str) -> Markup:
    """Return one line of a description as HTML, with text between backticks as code."""
    pieces = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces)
    )


def schema_name(schema: Schema) -> str | None:
    """Return the name of the schema that this one refers to, directly, as an item or as an alternative."""
    for part in (schema, schema.get("items", {}), *schema.get("oneOf", ())):
        if "$ref" in part:
            return str(part["$ref"]).rpartition("/")[2]
    return None


def type_in_words(schema: Schema) -> str:
    """Return a schema's type in a few words."""
    if "$ref" in schema:
        return str(schema_name(schema))
    if "oneOf" in schema:
        return " | ".join(type_in_words(part) for part in schema["oneOf"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        shown = [json.dumps(value) for value in schema["enum"][:_MAX_ENUM_MEMBERS]]
        return " | ".join(shown) + (" | …" if len(schema["enum"]) > len(shown) else "")
    if "contentMediaType" in schema:
        return "file"
    kinds = schema["type"]
    if kinds == "array":
        return f"{type_in_words(schema['items'])}[]"
    words = " | ".join([kinds] if isinstance(kinds, str) else kinds).replace("string", schema.get("format", "string"))
    if "minimum" in schema and "maximum" in schema:
        words += f" {schema['minimum']}–{schema['maximum']}"
    return words
