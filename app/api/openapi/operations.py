"""Every operation of the gateway, as data: what it takes, what it answers, and which failures it may end in.

What the guard and the sessions do to many operations alike (a wrong host, no session, another site, conversion not
configured) is not repeated here; `document` adds it by the same rules by which it happens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.api.openapi.schemas import BINARY, CREATED_AT, JOB_EXAMPLE, MODEL_EXAMPLE, reference

JSON = "application/json"
_PAGE: Mapping[str, Any] = {"text/html": {"schema": {"type": "string"}}}
# Any type may come. The first is for client generators that know no wildcard.
_FILE: Mapping[str, Any] = {media_type: {"schema": BINARY} for media_type in ("application/octet-stream", "*/*")}


@dataclass(frozen=True, slots=True)
class Answer:
    """One way in which an operation ends well: what it means, its content by media type, the headers it may have."""

    description: str
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route. `rule` is Flask's; `failures` are codes of the catalogue."""

    method: str
    rule: str
    operation_id: str
    tag: str
    summary: Mapping[str, str]
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: tuple[str, ...] = ()
    body: Mapping[str, Any] | None = None
    failures: tuple[str, ...] = ()


def _json(schema: str, example: Any) -> Mapping[str, Any]:
    return {JSON: {"schema": reference(schema), "example": example}}


# What any call to an upstream may end in: MC for a token, the converter for the job, the time for both.
_TOKEN = ("idp_unavailable", "idp_misconfigured")
_CONVERTER = (*_TOKEN, "converter_busy", "converter_unavailable", "deadline_exceeded")
# And what stands between a job and its result.
_RESULT = ("job_not_found", "job_not_completed", "job_failed", "promote_failed")

_UNCACHED = ("Cache-Control",)
_JOB_ANSWER = _json("Job", JOB_EXAMPLE)
_DONE_EXAMPLE = {**JOB_EXAMPLE, "status": "completed", "stage": "nef", "stage_index": 2, "progress": 100.0}
_DONE_EXAMPLE |= {"terminal": True, "updated_at": "2026-11-25T08:34:12.000Z", "library_model_id": MODEL_EXAMPLE["id"]}
_MODEL_ANSWER = _json("Model", MODEL_EXAMPLE)
_ONLY_NAVIGATION = (
    "For navigations only: a script (`Sec-Fetch-Mode` other than `navigate`) or a prefetch is refused, and HEAD is "
    "not allowed, because neither may begin or use up what a person has not asked for."
)

CONVERSION = (
    Operation(
        "POST",
        "/api/conversion/init",
        "startConversion",
        "conversion",
        {"en": "Upload a model and start its conversion", "zh-TW": "上傳模型並開始轉換"},
        {201: Answer("The job that the upload started.", _JOB_ANSWER, ("Location", *_UNCACHED))},
        description="The body passes through to the converter while it arrives. Who the upload is for comes from the "
        "session alone. An answer may come before the whole body was sent; the connection then ends.",
        body={
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": reference("Upload"),
                    "encoding": {
                        "model": {"contentType": "application/octet-stream"},
                        "ref_images": {"contentType": "image/png, image/jpeg, application/octet-stream"},
                    },
                }
            },
        },
        failures=(
            "invalid_request",
            "payload_too_large",
            "upload_timeout",
            "draining",
            "upload_capacity",
            "upload_in_progress",
            "active_job_conflict",
            "converter_rejected",
            "upload_outcome_unknown",
            *_CONVERTER,
        ),
    ),
    Operation(
        "POST",
        "/api/conversion/check",
        "checkUpload",
        "conversion",
        {"en": "Ask whether an upload would be taken now", "zh-TW": "詢問現在是否能上傳"},
        {
            200: Answer(
                "It would.",
                _json(
                    "UploadCheck",
                    {"ok": True, "max_upload_bytes": 5_368_709_120, "session_expires_at": CREATED_AT},
                ),
                _UNCACHED,
            )
        },
        description="Answers with the failure that the upload would run into. Stores nothing and starts nothing.",
        body={
            "required": False,
            "content": {
                media_type: {"schema": reference("UploadQuestion")}
                for media_type in ("application/x-www-form-urlencoded", "multipart/form-data")
            },
        },
        failures=(
            "invalid_request",
            "payload_too_large",
            "draining",
            "upload_capacity",
            "upload_in_progress",
            "active_job_conflict",
            *_CONVERTER,
        ),
    ),
    Operation(
        "GET",
        "/api/conversion/active",
        "getActiveJob",
        "conversion",
        {"en": "The caller's running job", "zh-TW": "目前正在執行的工作"},
        {
            200: Answer(
                "The job, or null. With one, Retry-After says when to poll.",
                _json("ActiveJob", {"active_job": JOB_EXAMPLE}),
                ("Retry-After", *_UNCACHED),
            )
        },
        failures=_CONVERTER,
    ),
    Operation(
        "GET",
        "/api/conversion/jobs",
        "listJobs",
        "conversion",
        {"en": "The caller's jobs, newest first", "zh-TW": "自己的工作紀錄，新的在前"},
        {
            200: Answer(
                "A page of jobs. What the converter cannot say at the moment is as it was last known.",
                _json("JobPage", {"jobs": [_DONE_EXAMPLE], "next_cursor": None}),
                _UNCACHED,
            )
        },
        parameters=("limit", "cursor"),
        failures=("invalid_request",),
    ),
    Operation(
        "GET",
        "/api/conversion/<job_id>",
        "getJob",
        "conversion",
        {"en": "Poll a job", "zh-TW": "查詢工作進度"},
        {
            200: Answer("The job as it is now.", _JOB_ANSWER, ("ETag", "Retry-After", *_UNCACHED)),
            304: Answer("It still is as the caller has it.", {}, ("ETag", "Retry-After", *_UNCACHED)),
        },
        description="Poll as often as Retry-After says; without that header the job has ended.",
        parameters=("If-None-Match", "If-Match"),
        failures=("job_not_found", "precondition_failed", *_CONVERTER),
    ),
    Operation(
        "POST",
        "/api/conversion/<job_id>/promote-to-models",
        "promoteToModels",
        "conversion",
        {"en": "Keep a job's result in the library", "zh-TW": "將轉換結果存入模型庫"},
        {
            200: Answer("It was kept already.", _MODEL_ANSWER, ("Location", *_UNCACHED)),
            201: Answer("It is kept now.", _MODEL_ANSWER, ("Location", *_UNCACHED)),
        },
        description="May be repeated: a job gives one model. A user has two of these requests at once on a host; one "
        "more is 429.",
        failures=(
            *_RESULT,
            "library_full",
            "upload_capacity",
            "file_service_unavailable",
            "result_missing",
            "result_corrupt",
            "storage_unavailable",
            *_CONVERTER,
        ),
    ),
    Operation(
        "GET",
        "/api/conversion/<job_id>/download",
        "downloadResult",
        "conversion",
        {"en": "Download a job's result", "zh-TW": "下載轉換結果"},
        {
            200: Answer(
                "With `check=1`: it could be downloaded.",
                _json("DownloadCheck", {"ready": True, "filename": "yolo.nef", "size": 5_242_880}),
                _UNCACHED,
            ),
            302: Answer(
                "Where the file is, with a token that is good for minutes. There is no body.",
                {},
                ("Location", "Referrer-Policy", *_UNCACHED),
            ),
        },
        description=_ONLY_NAVIGATION,
        parameters=("check",),
        failures=("navigation_required", *_RESULT, "download_token_failed", "mc_token_unavailable", *_CONVERTER),
    ),
    Operation(
        "HEAD",
        "/api/conversion/<job_id>/download",
        "downloadResultHead",
        "conversion",
        {"en": "Not allowed: it would mint a token", "zh-TW": "不允許：會產生下載權杖"},
        {},
        failures=("method_not_allowed",),
    ),
)

MODELS = (
    Operation(
        "GET",
        "/api/models",
        "listModels",
        "models",
        {"en": "The caller's models, newest first", "zh-TW": "自己的模型，新的在前"},
        {
            200: Answer(
                "A page of models.", _json("ModelPage", {"models": [MODEL_EXAMPLE], "next_cursor": None}), _UNCACHED
            )
        },
        parameters=("limit", "cursor"),
        failures=("invalid_request",),
    ),
    Operation(
        "GET",
        "/api/models/<model_id>",
        "getModel",
        "models",
        {"en": "One model", "zh-TW": "單一模型"},
        {200: Answer("The model.", _MODEL_ANSWER, _UNCACHED)},
        failures=("model_not_found",),
    ),
    Operation(
        "PATCH",
        "/api/models/<model_id>",
        "renameModel",
        "models",
        {"en": "Rename a model", "zh-TW": "重新命名模型"},
        {200: Answer("The model with its new name.", _MODEL_ANSWER, _UNCACHED)},
        body={
            "required": True,
            "content": {JSON: {"schema": reference("ModelChanges"), "example": {"name": "yolo for the front door"}}},
        },
        failures=("invalid_request", "model_not_found", "payload_too_large"),
    ),
    Operation(
        "DELETE",
        "/api/models/<model_id>",
        "deleteModel",
        "models",
        {"en": "Delete a model and its file", "zh-TW": "刪除模型與檔案"},
        {204: Answer("It is gone.")},
        failures=("model_not_found", "deadline_exceeded"),
    ),
    Operation(
        "GET",
        "/api/models/<model_id>/file",
        "getModelFile",
        "models",
        {"en": "A model's file, or a range of it", "zh-TW": "模型檔案，可指定範圍"},
        {
            200: Answer(
                "The whole file, in the type that the converter named, if any.",
                _FILE,
                ("ETag", "Last-Modified", "Accept-Ranges", "Content-Disposition", *_UNCACHED),
            ),
            206: Answer(
                "The bytes that were asked for.",
                _FILE,
                ("Content-Range", "ETag", "Last-Modified", "Accept-Ranges", "Content-Disposition", *_UNCACHED),
            ),
            304: Answer("The caller has it already.", {}, ("ETag", *_UNCACHED)),
        },
        description="HEAD answers what GET would for the whole file, without its bytes. Whatever its type, "
        "nothing in it runs: it comes as an attachment, in a sandbox. A user has two downloads at once on a host; one "
        "more is 429. A client that reads too slowly is disconnected, and may ask for the rest by Range.",
        parameters=("Range", "If-Range", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"),
        failures=(
            "model_not_found",
            "precondition_failed",
            "range_not_satisfiable",
            "upload_capacity",
            "storage_unavailable",
        ),
    ),
)

ACCOUNT = (
    Operation(
        "GET",
        "/auth/login",
        "signIn",
        "account",
        {"en": "Go to the Member Center to sign in", "zh-TW": "前往會員中心登入"},
        {302: Answer("To the Member Center's login page.", {}, ("Location", "Set-Cookie", *_UNCACHED))},
        description=f"Authorization code with PKCE. {_ONLY_NAVIGATION}",
        parameters=("next",),
        failures=("navigation_required", "idp_unavailable"),
    ),
    Operation(
        "HEAD",
        "/auth/login",
        "signInHead",
        "account",
        {"en": "Not allowed: it would begin a sign-in", "zh-TW": "不允許：會開始登入"},
        {},
        failures=("method_not_allowed",),
    ),
    Operation(
        "GET",
        "/auth/authorize",
        "completeSignIn",
        "account",
        {"en": "Come back from the Member Center", "zh-TW": "從會員中心返回"},
        {
            302: Answer(
                "Signed in, or signed in already and the callback came again; back to where it began.",
                {},
                ("Location", "Set-Cookie", *_UNCACHED),
            )
        },
        description=_ONLY_NAVIGATION,
        parameters=("state", "code", "error", "iss"),
        failures=("sign_in_failed", "navigation_required", "idp_unavailable", "idp_misconfigured"),
    ),
    Operation(
        "HEAD",
        "/auth/authorize",
        "completeSignInHead",
        "account",
        {"en": "Not allowed: it would use a sign-in up", "zh-TW": "不允許：會用掉一次登入"},
        {},
        failures=("method_not_allowed",),
    ),
    Operation(
        "POST",
        "/auth/logout",
        "signOut",
        "account",
        {"en": "Sign out", "zh-TW": "登出"},
        {
            200: Answer(
                "Signed out here; the browser goes on to end the session at the Member Center, too.",
                _json("SignedOut", {"logout_url": "https://mc.example/logout?client_id=visiona"}),
                ("Set-Cookie", *_UNCACHED),
            ),
            204: Answer("Signed out, or there was no session.", {}, _UNCACHED),
        },
        failures=("model_store_unavailable",),
    ),
    Operation(
        "GET",
        "/api/me",
        "getAccount",
        "account",
        {"en": "Who is signed in, and until when", "zh-TW": "登入者與有效期限"},
        {
            200: Answer(
                "The caller.",
                _json(
                    "Account",
                    {
                        "user_id": "alice",
                        "name": "Alice Chen",
                        "email": "alice@example.com",
                        "session_expires_at": "2026-11-25T20:30:00.000Z",
                    },
                ),
                _UNCACHED,
            )
        },
    ),
)

_CACHED = ("ETag", "Cache-Control")
_STILL = Answer("The caller has it already.", {}, _CACHED)

OPERATIONS_OF_THE_SERVICE = (
    Operation(
        "GET",
        "/healthz",
        "getHealth",
        "operations",
        {"en": "Is the process alive?", "zh-TW": "程序是否存活"},
        {200: Answer("It answers; nothing else is asked.", _json("Health", {"status": "ok"}), _UNCACHED)},
    ),
    Operation(
        "GET",
        "/readyz",
        "getReadiness",
        "operations",
        {"en": "Can the process serve?", "zh-TW": "程序是否可提供服務"},
        {
            status: Answer(
                meaning,
                _json(
                    "Readiness",
                    {
                        "status": word,
                        "checks": {
                            "database": "ok",
                            "storage": "ok" if status == 200 else "storage_unavailable",
                            "configuration": "ok",
                        },
                        "conversion": "enabled",
                        "upstreams": {"converter": {"last": "ok", "seconds_ago": 1.5}},
                    },
                ),
                _UNCACHED,
            )
            for status, word, meaning in (
                (200, "ready", "It can."),
                (503, "unavailable", "It cannot: its database or storage fails, or it is about to stop."),
            )
        },
    ),
    Operation(
        "GET",
        "/metrics",
        "getMetrics",
        "operations",
        {"en": "Figures for Prometheus", "zh-TW": "Prometheus 指標"},
        {
            200: Answer(
                "All figures, of all workers together.",
                {
                    media_type: {"schema": {"type": "string"}}
                    for media_type in ("text/plain", "application/openmetrics-text")
                },
                _UNCACHED,
            ),
            503: Answer(
                "Several workers count, each for itself only: see docs/operations.md.",
                {"text/plain": {"schema": {"type": "string"}}},
                _UNCACHED,
            ),
        },
        description="For scrapers on the inside; nginx does not pass it on.",
    ),
    Operation(
        "GET",
        "/openapi.json",
        "getDescription",
        "operations",
        {"en": "This description", "zh-TW": "本說明文件（OpenAPI）"},
        {
            200: Answer("OpenAPI 3.1.", {JSON: {"schema": {"type": "object"}}}, _CACHED),
            304: _STILL,
        },
        parameters=("If-None-Match", "If-Match"),
        failures=("precondition_failed",),
    ),
)

CONSOLE = (
    Operation(
        "GET",
        "/",
        "getConsole",
        "console",
        {"en": "The console", "zh-TW": "操作頁面"},
        {200: Answer("The page, or the way to sign in.", _PAGE, ("Content-Language", *_UNCACHED))},
        parameters=("lang",),
    ),
    Operation(
        "GET",
        "/console/signed-in",
        "getSignedIn",
        "console",
        {"en": "Where a sign-in in a second tab ends", "zh-TW": "在另一分頁登入後的頁面"},
        {200: Answer("The page.", _PAGE, ("Content-Language", *_UNCACHED))},
        parameters=("lang",),
    ),
    Operation(
        "GET",
        "/docs",
        "getDocs",
        "console",
        {"en": "This description, for people", "zh-TW": "本說明文件，供人閱讀"},
        {200: Answer("The page.", _PAGE, ("Content-Language", *_UNCACHED))},
        parameters=("lang",),
    ),
    Operation(
        "GET",
        "/console/errors.json",
        "getErrorCatalogue",
        "console",
        {"en": "The error catalogue in all languages", "zh-TW": "各語言的錯誤目錄"},
        {
            200: Answer("All codes.", {JSON: {"schema": reference("ErrorCatalogue")}}, _CACHED),
            304: _STILL,
        },
        parameters=("If-None-Match", "If-Match"),
        failures=("precondition_failed",),
    ),
    Operation(
        "GET",
        "/console/<version>/<path:name>",
        "getConsoleFile",
        "console",
        {"en": "A file of the console", "zh-TW": "操作頁面的檔案"},
        {
            200: Answer(
                "The file. Under its own version it may be kept for ever.",
                {
                    media_type: {"schema": {"type": "string"}}
                    for media_type in ("text/css", "text/javascript", "image/svg+xml")
                }
                | {JSON: {"schema": {"type": "object"}}},
                _CACHED,
            ),
            304: _STILL,
        },
        parameters=("If-None-Match", "If-Match"),
        failures=("not_found", "precondition_failed"),
    ),
)

OPERATIONS: tuple[Operation, ...] = CONVERSION + MODELS + ACCOUNT + OPERATIONS_OF_THE_SERVICE + CONSOLE

#: What the tags are called, in the order in which they are read.
TAGS: Mapping[str, Mapping[str, str]] = {
    "conversion": {"en": "Conversion", "zh-TW": "轉換"},
    "models": {"en": "Model library", "zh-TW": "模型庫"},
    "account": {"en": "Account", "zh-TW": "帳號"},
    "operations": {"en": "Operations", "zh-TW": "維運"},
    "console": {"en": "Console", "zh-TW": "操作頁面"},
}
