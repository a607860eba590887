"""The operations below `/api/models`."""

from app.api.openapi.operation import JSON, Body, Operation, ResponseDescription, json_content
from app.api.openapi.schemas import BINARY, MODEL_EXAMPLE

_MODEL = json_content("Model", MODEL_EXAMPLE)
# Any type is possible. The first one is for client generators that don't know wildcards.
_FILE = {media_type: {"schema": BINARY} for media_type in ("application/octet-stream", "*/*")}
_FILE_HEADERS = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Disposition", "Cache-Control")

MODELS = (
    Operation(
        "GET",
        "/api/models",
        "listModels",
        {"en": "List models, newest first", "zh-TW": "列出模型（由新到舊）"},
        {
            200: ResponseDescription(
                "A page of models.", json_content("ModelPage", {"models": [MODEL_EXAMPLE], "next_cursor": None})
            )
        },
        parameters=("limit", "cursor", "q", "platform"),
        failures=("invalid_request",),
    ),
    Operation(
        "GET",
        "/api/models/<model_id>",
        "getModel",
        {"en": "Get a model", "zh-TW": "取得單一模型"},
        {200: ResponseDescription("The model.", _MODEL)},
        failures=("model_not_found",),
    ),
    Operation(
        "PATCH",
        "/api/models/<model_id>",
        "renameModel",
        {"en": "Rename a model", "zh-TW": "重新命名模型"},
        {200: ResponseDescription("The model with its new name.", _MODEL)},
        body=Body("ModelChanges", (JSON,), details={"example": {"name": "yolo for the front door"}}),
        failures=("invalid_request", "model_not_found", "payload_too_large"),
        curl='-H "Content-Type: application/json" -d \'{"name": "yolo for the front door"}\'',
    ),
    Operation(
        "DELETE",
        "/api/models/<model_id>",
        "deleteModel",
        {"en": "Delete a model and its file", "zh-TW": "刪除模型與檔案"},
        {204: ResponseDescription("The model was deleted.", headers=())},
        failures=("model_not_found", "deadline_exceeded"),
    ),
    Operation(
        "GET",
        "/api/models/<model_id>/file",
        "getModelFile",
        {"en": "Download a model's file, or a range of it", "zh-TW": "下載模型檔案，可指定範圍"},
        {
            200: ResponseDescription(
                "The whole file. Its media type is the one that the converter reported, if any.", _FILE, _FILE_HEADERS
            ),
            206: ResponseDescription("The requested bytes.", _FILE, ("Content-Range", *_FILE_HEADERS)),
            304: ResponseDescription("The file has not changed.", {}, ("ETag", "Cache-Control")),
        },
        description="The file is sent as an attachment with `Content-Security-Policy: sandbox`, so that a browser "
        "never runs its contents. HEAD returns the headers for the whole file. Each user can run two downloads at a "
        "time on each host. Further requests get 429. The gateway disconnects a client that reads too slowly. The "
        "client can then request the rest with Range.",
        parameters=("Range", "If-Range", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"),
        failures=(
            "model_not_found",
            "precondition_failed",
            "range_not_satisfiable",
            "upload_capacity",
            "storage_unavailable",
        ),
        curl="-f -o model.nef",
    ),
)
