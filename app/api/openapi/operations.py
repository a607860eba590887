"""What each route does, takes and answers: one entry for each method and rule of the URL map.

Of failures only the codes stand here; what they mean, and by which status they are told, is the catalogue's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_HTML, _JSON, _TEXT = "text/html", "application/json", "text/plain"

#: What every route under its guard may answer.
_HOST = ("bad_host",)
_SESSION = (*_HOST, "unauthenticated", "model_store_unavailable", "internal_error")
_UNSAFE = ("cross_site_request",)
#: What asking the converter may come to, the token for it included.
_TOKEN = ("idp_unavailable", "idp_misconfigured", "deadline_exceeded")
_CONVERTER = ("conversion_disabled", "converter_unavailable", "converter_busy", *_TOKEN)
_JOB = ("job_not_found", *_CONVERTER)
_RESULT = ("job_not_completed", "job_failed", "promote_failed")


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: what it means, its body if there is one, and the headers that matter to a caller."""

    meaning: str
    schema: str | None = None
    content_type: str = _JSON
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route. `request` maps content types to the names of schemas."""

    method: str
    rule: str
    name: str
    summary: str
    tag: str
    answers: Mapping[int, Answer]
    codes: tuple[str, ...]
    description: str = ""
    parameters: tuple[str, ...] = ()
    request: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_session(self) -> bool:
        """Is it answered only to somebody who is signed in?"""
        return self.rule.startswith("/api/")


#: Parameters by a name of ours; those of paths are found by the rule.
PARAMETERS: dict[str, dict[str, Any]] = {
    "job_id": {"in": "path", "name": "job_id", "required": True, "schema": {"type": "string", "maxLength": 128}},
    "model_id": {"in": "path", "name": "model_id", "required": True, "schema": {"type": "string", "maxLength": 128}},
    "version": {"in": "path", "name": "version", "required": True, "schema": {"type": "string"}},
    "name": {"in": "path", "name": "name", "required": True, "schema": {"type": "string"}},
    "limit": {
        "in": "query",
        "name": "limit",
        "description": "How many at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    },
    "cursor": {
        "in": "query",
        "name": "cursor",
        "description": "The last page's `next_cursor`.",
        "schema": {"type": "string"},
    },
    "check": {
        "in": "query",
        "name": "check",
        "description": "`1`: say whether it would work, as JSON, instead of doing it.",
        "schema": {"enum": ["1"]},
    },
    "next": {
        "in": "query",
        "name": "next",
        "description": "Where to go then: a path of this service; anything else leads home.",
        "schema": {"type": "string"},
    },
    "code": {"in": "query", "name": "code", "schema": {"type": "string"}},
    "state": {"in": "query", "name": "state", "schema": {"type": "string"}},
    "If-None-Match": {
        "in": "header",
        "name": "If-None-Match",
        "description": "The last answer's ETag: 304 where nothing has changed.",
        "schema": {"type": "string"},
    },
    "Range": {"in": "header", "name": "Range", "description": "One range of bytes.", "schema": {"type": "string"}},
    "lang": {"in": "query", "name": "lang", "description": "The page's language.", "schema": {"enum": ["en", "zh-TW"]}},
}

_ID = "Ids that are malformed, absent or somebody else's are the same 404."

OPERATIONS: tuple[Operation, ...] = (
    # --- signing in
    Operation(
        "GET",
        "/auth/login",
        "sign_in",
        "Begin to sign in",
        "Signing in",
        {302: Answer("To MC's login page.", headers=("Location",))},
        (*_HOST, "navigation_required", "idp_unavailable"),
        "For a browser that goes there; not for scripts.",
        ("next",),
    ),
    Operation(
        "GET",
        "/auth/authorize",
        "finish_sign_in",
        "MC sends the browser back here",
        "Signing in",
        {302: Answer("Signed in; on to where the sign-in was to lead.", headers=("Location",))},
        (*_HOST, "sign_in_failed", "navigation_required", "idp_unavailable"),
        "A failure is a page for whoever prefers HTML, and a problem document for others.",
        ("code", "state"),
    ),
    Operation(
        "POST",
        "/auth/logout",
        "sign_out",
        "Sign out",
        "Signing in",
        {204: Answer("Signed out."), 200: Answer("Signed out here; go to `logout_url` to end it at MC.", "Logout")},
        (*_HOST, *_UNSAFE, "model_store_unavailable"),
    ),
    Operation(
        "GET",
        "/api/me",
        "account",
        "Who is signed in",
        "Signing in",
        {200: Answer("The caller.", "Account")},
        _SESSION,
    ),
    # --- conversion
    Operation(
        "POST",
        "/api/conversion/init",
        "start_conversion",
        "Upload a model and start its conversion",
        "Conversion",
        {201: Answer("Started.", "Job", headers=("Location",))},
        (
            *_SESSION,
            *_UNSAFE,
            *_CONVERTER,
            "unsupported_media_type",
            "payload_too_large",
            "draining",
            "upload_capacity",
            "upload_in_progress",
            "active_job_conflict",
            "invalid_request",
            "upload_timeout",
            "converter_rejected",
            "upload_outcome_unknown",
        ),
        "Streams through: nothing is stored here. It may be refused while it is under way: ask `check` first, and "
        "read the answer before you give up sending. Parts that claim to say who the user or tenant is are dropped.",
        request={"multipart/form-data": "Upload"},
    ),
    Operation(
        "POST",
        "/api/conversion/check",
        "check_upload",
        "Would an upload be taken now?",
        "Conversion",
        {200: Answer("It would.", "UploadWelcome")},
        (
            *_SESSION,
            *_UNSAFE,
            *_CONVERTER,
            "payload_too_large",
            "draining",
            "upload_capacity",
            "upload_in_progress",
            "active_job_conflict",
            "invalid_request",
        ),
        "Answers as the upload would be refused; stores nothing and starts nothing.",
        request={"multipart/form-data": "Announcement", "application/x-www-form-urlencoded": "Announcement"},
    ),
    Operation(
        "GET",
        "/api/conversion/active",
        "active_job",
        "The running job",
        "Conversion",
        {200: Answer("It, or null.", "ActiveJob", headers=("Retry-After",))},
        (*_SESSION, *_CONVERTER),
    ),
    Operation(
        "GET",
        "/api/conversion/jobs",
        "job_history",
        "All jobs, newest first",
        "Conversion",
        {200: Answer("A page of them.", "JobPage")},
        (*_SESSION, "conversion_disabled", "invalid_request"),
        parameters=("limit", "cursor"),
    ),
    Operation(
        "GET",
        "/api/conversion/<job_id>",
        "get_job",
        "One job, to poll",
        "Conversion",
        {
            200: Answer("The job as it is now.", "Job", headers=("ETag", "Retry-After")),
            304: Answer("As the caller has it already.", headers=("ETag", "Retry-After")),
        },
        (*_SESSION, *_JOB),
        f"Ask again after `Retry-After` seconds, with the last `ETag` in `If-None-Match`, until `terminal`. {_ID}",
        ("If-None-Match",),
    ),
    Operation(
        "POST",
        "/api/conversion/<job_id>/promote-to-models",
        "keep_result",
        "Keep the result in the library",
        "Conversion",
        {
            201: Answer("Kept.", "Model", headers=("Location",)),
            200: Answer("It was there already.", "Model", headers=("Location",)),
        },
        (
            *_SESSION,
            *_UNSAFE,
            *_JOB,
            *_RESULT,
            "library_full",
            "upload_capacity",
            "file_service_unavailable",
            "result_missing",
            "result_corrupt",
            "storage_unavailable",
        ),
        f"May be repeated. Takes as long as fetching the file does. {_ID}",
    ),
    Operation(
        "GET",
        "/api/conversion/<job_id>/download",
        "download_result",
        "Go to the result",
        "Conversion",
        {
            302: Answer("To the file service, with a token that lives for minutes.", headers=("Location",)),
            200: Answer("With `check=1`: it would work.", "DownloadReady"),
        },
        (*_SESSION, *_JOB, *_RESULT, "navigation_required", "download_token_failed", "mc_token_unavailable"),
        f"A link to follow, and nothing for a script: requests that are no navigation are refused. {_ID}",
        ("check",),
    ),
    # --- library
    Operation(
        "GET",
        "/api/models",
        "list_models",
        "The models in the library",
        "Library",
        {200: Answer("A page of them, newest first.", "ModelPage")},
        (*_SESSION, "invalid_request"),
        parameters=("limit", "cursor"),
    ),
    Operation(
        "GET",
        "/api/models/<model_id>",
        "get_model",
        "One model",
        "Library",
        {200: Answer("The model.", "Model")},
        (*_SESSION, "model_not_found"),
        _ID,
    ),
    Operation(
        "PATCH",
        "/api/models/<model_id>",
        "rename_model",
        "Give a model another name",
        "Library",
        {200: Answer("The model under its new name.", "Model")},
        (*_SESSION, *_UNSAFE, "model_not_found", "invalid_request", "payload_too_large"),
        _ID,
        request={"application/json": "NewName"},
    ),
    Operation(
        "DELETE",
        "/api/models/<model_id>",
        "delete_model",
        "Remove a model and its file",
        "Library",
        {204: Answer("Gone.")},
        (*_SESSION, *_UNSAFE, "model_not_found"),
        _ID,
    ),
    Operation(
        "GET",
        "/api/models/<model_id>/file",
        "model_file",
        "A model's bytes",
        "Library",
        {
            200: Answer(
                "All of them.",
                "File",
                "application/octet-stream",
                ("ETag", "Accept-Ranges", "Content-Disposition"),
            ),
            206: Answer("The range that was asked for.", "File", "application/octet-stream", ("ETag", "Content-Range")),
            304: Answer("As the caller has it already.", headers=("ETag",)),
        },
        (*_SESSION, "model_not_found", "range_not_satisfiable", "upload_capacity", "storage_unavailable"),
        _ID,
        ("Range", "If-None-Match"),
    ),
    # --- running it
    Operation("GET", "/healthz", "health", "Is the process alive?", "Operation", {200: Answer("It is.", "Health")}, ()),
    Operation(
        "GET",
        "/readyz",
        "readiness",
        "Can it serve?",
        "Operation",
        {200: Answer("It can.", "Readiness"), 503: Answer("It cannot, or is about to stop.", "Readiness")},
        (),
    ),
    Operation(
        "GET",
        "/metrics",
        "metrics",
        "What it has counted, for Prometheus",
        "Operation",
        {
            200: Answer("The exposition format, or OpenMetrics.", "Text", _TEXT),
            503: Answer("Several workers count, each for itself: see docs/operations.md.", "Text", _TEXT),
        },
        (),
        "Not for the world: the nginx configuration that comes with it closes it.",
    ),
    # --- pages and descriptions
    Operation(
        "GET",
        "/",
        "console",
        "The console",
        "Pages",
        {200: Answer("A page.", "Text", _HTML)},
        _HOST,
        parameters=("lang",),
    ),
    Operation(
        "GET",
        "/console/signed-in",
        "signed_in",
        "Where a sign-in in a second tab ends",
        "Pages",
        {200: Answer("A page.", "Text", _HTML)},
        _HOST,
        parameters=("lang",),
    ),
    Operation(
        "GET",
        "/console/errors.json",
        "error_catalogue",
        "Every error code, with its texts",
        "Pages",
        {
            200: Answer("The catalogue in all languages.", "Catalogue", headers=("ETag",)),
            304: Answer("As the caller has it already.", headers=("ETag",)),
        },
        _HOST,
        parameters=("If-None-Match",),
    ),
    Operation(
        "GET",
        "/console/<version>/<path:name>",
        "console_file",
        "A file of the console",
        "Pages",
        {
            200: Answer("The file.", "File", "*/*", ("ETag",)),
            304: Answer("As the caller has it already.", headers=("ETag",)),
        },
        (*_HOST, "not_found"),
        parameters=("If-None-Match",),
    ),
    Operation(
        "GET",
        "/openapi.json",
        "description",
        "This description",
        "Pages",
        {
            200: Answer("An OpenAPI 3.1 document.", "Description", headers=("ETag",)),
            304: Answer("As the caller has it already.", headers=("ETag",)),
        },
        _HOST,
        parameters=("If-None-Match",),
    ),
    Operation(
        "GET",
        "/docs",
        "readable_description",
        "This description, to be read",
        "Pages",
        {200: Answer("A page.", "Text", _HTML)},
        _HOST,
        parameters=("lang",),
    ),
)
