"""Operations for operators and tools, and the pages for people."""

from app.api.openapi.json_schema import reference
from app.api.openapi.operation import JSON, Operation, ResponseDescription, json_content, text_content

_CACHED = ("ETag", "Cache-Control")
_NOT_MODIFIED = ResponseDescription("The caller's copy is current.", {}, _CACHED)
_CONDITIONS = ("If-None-Match", "If-Match")


def _readiness(description: str, status: str, storage: str) -> ResponseDescription:
    example = {
        "status": status,
        "checks": {"database": "ok", "storage": storage, "configuration": "ok"},
        "conversion": "enabled",
        "upstreams": {"converter": {"last": "answered", "seconds_ago": 1.5}},
    }
    return ResponseDescription(description, json_content("Readiness", example))


def _page(path: str, operation_id: str, summary: dict[str, str], description: str = "The page.") -> Operation:
    response = ResponseDescription(description, text_content("text/html"), ("Content-Language", "Cache-Control"))
    return Operation("GET", path, operation_id, summary, {200: response}, parameters=("lang",))


SERVICE = (
    Operation(
        "GET",
        "/healthz",
        "getHealth",
        {"en": "Check that the process is alive", "zh-TW": "檢查程序是否存活"},
        {
            200: ResponseDescription(
                "The process responds. Nothing else is checked.", json_content("Health", {"status": "ok"})
            )
        },
    ),
    Operation(
        "GET",
        "/readyz",
        "getReadiness",
        {"en": "Check that the process can serve requests", "zh-TW": "檢查程序是否可提供服務"},
        {
            200: _readiness("The process can serve requests.", "ready", "ok"),
            503: _readiness(
                "The process can't serve requests: its database or storage fails, or it is shutting down.",
                "unavailable",
                "storage_unavailable",
            ),
        },
    ),
    Operation(
        "GET",
        "/metrics",
        "getMetrics",
        {"en": "Get metrics for Prometheus", "zh-TW": "取得 Prometheus 指標"},
        {
            200: ResponseDescription(
                "The metrics of all workers together.", text_content("text/plain", "application/openmetrics-text")
            ),
            503: ResponseDescription(
                "The workers count separately, so there are no totals. See docs/operations.md.",
                text_content("text/plain"),
            ),
        },
        description="For scrapers in the internal network. nginx doesn't expose it.",
    ),
    Operation(
        "GET",
        "/openapi.json",
        "getDescription",
        {"en": "Get this description as OpenAPI", "zh-TW": "取得本文件的 OpenAPI 格式"},
        {200: ResponseDescription("OpenAPI 3.1.", {JSON: {"schema": {"type": "object"}}}, _CACHED), 304: _NOT_MODIFIED},
        parameters=_CONDITIONS,
        failures=("precondition_failed",),
    ),
)

CONSOLE = (
    _page(
        "/",
        "getConsole",
        {"en": "Open the console", "zh-TW": "開啟操作頁面"},
        "The console, or a welcome page for users who are not signed in.",
    ),
    _page(
        "/console/signed-in",
        "getSignedIn",
        {"en": "Show that a sign-in in a second tab worked", "zh-TW": "在另一分頁登入後的頁面"},
    ),
    _page("/docs", "getDocs", {"en": "Read this description", "zh-TW": "閱讀本文件"}),
    Operation(
        "GET",
        "/console/errors.json",
        "getErrorCatalogue",
        {"en": "Get the error catalog in all languages", "zh-TW": "取得各語言的錯誤目錄"},
        {
            200: ResponseDescription("All codes.", {JSON: {"schema": reference("ErrorCatalogue")}}, _CACHED),
            304: _NOT_MODIFIED,
        },
        parameters=_CONDITIONS,
        failures=("precondition_failed",),
    ),
    Operation(
        "GET",
        "/console/<version>/<path:name>",
        "getConsoleFile",
        {"en": "Get a file of the console", "zh-TW": "取得操作頁面的檔案"},
        {
            200: ResponseDescription(
                "The file. Under the current version it can be cached forever.",
                {
                    **text_content("text/css", "text/javascript", "image/svg+xml"),
                    JSON: {"schema": {"type": "object"}},
                },
                _CACHED,
            ),
            304: _NOT_MODIFIED,
        },
        parameters=_CONDITIONS,
        failures=("not_found", "precondition_failed"),
    ),
)
