"""The parameters of all operations, in paths, queries and headers."""

from collections.abc import Iterable
from typing import Any

from app.advice.toolchain import toolchain
from app.api.filters import MAX_TEXT_CHARACTERS, STATUSES
from app.api.openapi.json_schema import ID, UPLOAD_ID, Schema, text
from app.api.openapi.schemas import JOB_ID, MODEL_ID, SHA256
from app.errors import LANGUAGES
from app.services.paging import DEFAULT_LIMIT, MAX_LIMIT


def _path(name: str, example: str, **details: Any) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": text(minLength=1), "example": example, **details}


#: Parameters in paths, by their names in Flask's rules.
PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "job_id": _path("job_id", JOB_ID, schema=ID),
    # Everywhere else `model_id` is the number of a model on the chip.
    "model_id": _path("library_model_id", MODEL_ID, schema=ID),
    "version": _path("version", "0123456789ab"),
    "name": _path("name", "css/base.css", description="May contain slashes."),
}


def _named(location: str, parameters: Iterable[tuple[str, str, Schema]]) -> dict[str, Any]:
    return {
        name: {"name": name, "in": location, "description": description, "schema": schema}
        for name, description, schema in parameters
    }


#: All other parameters.
PARAMETERS: dict[str, Any] = _named(
    "query",
    (
        (
            "limit",
            "Maximum number of items.",
            {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        ),
        ("cursor", "`next_cursor` of the previous page. Omit it for the first page.", text()),
        (
            "q",
            "Only items with each of these words in the name, file name, model ID or version, in upper or lower case.",
            text(maxLength=MAX_TEXT_CHARACTERS),
        ),
        ("platform", "Only items for this chip.", text(enum=list(toolchain().chips))),
        (
            "status",
            "Only jobs in this state, as the response shows it. `active` means queued or running.",
            text(enum=list(STATUSES)),
        ),
        ("filename", "Only jobs of a model with exactly this file name.", text(maxLength=MAX_TEXT_CHARACTERS)),
        ("model_id", "Only jobs with this `model_id`.", {"type": "integer", "minimum": 0}),
        ("check", "1: check whether the download would work, and issue no token.", text(enum=["1"])),
        (
            "next",
            "Path to return to after signing in. Anything that leads to another site counts as `/`.",
            text(default="/"),
        ),
        ("state", "Identifies the sign-in that this callback belongs to.", text()),
        ("code", "Member Center's authorization code.", text()),
        ("error", "Why Member Center did not issue a code (RFC 6749, section 4.1.2.1).", text()),
        ("iss", "The issuer that sent the callback (RFC 9207).", text()),
        ("lang", "Show the page in this language, and remember it.", text(enum=list(LANGUAGES))),
    ),
) | _named(
    "header",
    (
        ("If-Match", "An ETag. If the current one differs, the response is 412.", text(examples=[f'"{SHA256}"'])),
        ("If-None-Match", "An ETag. If it is still current, the response is 304.", text(examples=['"d1a8"'])),
        (
            "If-Modified-Since",
            "If the resource hasn't changed since then, the response is 304.",
            text(examples=["Wed, 25 Nov 2026 08:34:41 GMT"]),
        ),
        (
            "If-Unmodified-Since",
            "If the resource has changed since then, the response is 412.",
            text(examples=["Wed, 25 Nov 2026 08:34:41 GMT"]),
        ),
        ("Range", "One range of bytes. Other kinds of ranges are ignored.", text(examples=["bytes=0-99"])),
        ("If-Range", "Apply Range only if this ETag or date is still current.", text(examples=[f'"{SHA256}"'])),
        (
            "X-Upload-ID",
            "Names this upload, so that it can be ended. Choose a new random one for each request.",
            UPLOAD_ID,
        ),
    ),
)
PARAMETERS["upload_id"] = {
    "name": "upload_id",
    "in": "query",
    "required": True,
    "description": "The X-Upload-ID of the upload, or the `upload_id` in a 409 `upload_in_progress`.",
    "schema": UPLOAD_ID,
}
