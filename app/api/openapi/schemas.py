"""The schemas of what goes over the wire, in JSON Schema 2020-12 as OpenAPI 3.1 has it."""

from typing import Any

from app.domain.job import STAGES, JobStatus
from app.errors.catalogue import Blame, catalogue

Schema = dict[str, Any]

_MOMENT: Schema = {"type": "string", "format": "date-time", "examples": ["2026-11-25T08:30:00.000Z"]}
_MOMENT_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
_SIZE: Schema = {"type": "integer", "minimum": 0, "description": "In bytes."}
_SIZE_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0, "description": "In bytes; null if unknown."}
_CURSOR: Schema = {"type": ["string", "null"], "description": "For the next page; null if this was the last."}


def _object(properties: Schema, *, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties, **more}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


JOB = _object(
    {
        "job_id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"},
        "status": {
            "enum": [status.value for status in JobStatus],
            "description": "A status that this gateway does not know passes as `running`.",
        },
        "stage": {"type": ["string", "null"], "description": f"One of {', '.join(STAGES)}, or null before the first."},
        "stage_index": {"type": ["integer", "null"], "minimum": 0, "description": "From 0."},
        "stage_count": {"type": "integer", "const": len(STAGES)},
        "progress": {"type": ["number", "null"], "minimum": 0, "maximum": 100, "description": "In percent."},
        "terminal": {"type": "boolean", "description": "Has it ended? Then nothing is left to poll for."},
        "created_at": _MOMENT_OR_NULL,
        "updated_at": _MOMENT_OR_NULL,
        "parameters": {"type": "object", "description": "What the upload's fields said, as the converter has it."},
        "filename": {"type": "string", "description": "The model's name on the uploader's machine; empty if unknown."},
        "size": _SIZE_OR_NULL,
        "stages": {
            "type": "array",
            "description": "When the gateway saw each stage begin and end.",
            "items": _object(
                {
                    "stage": {"type": "string"},
                    "started_at": _MOMENT,
                    "ended_at": _MOMENT_OR_NULL,
                    "approximate": {"type": "boolean", "description": "Had nobody looked shortly before it began?"},
                }
            ),
        },
        "error": {
            "type": "object",
            "description": "Why it failed, in the converter's words; absent if it has not.",
            "properties": {"code": {"type": ["string", "null"]}, "message": {"type": ["string", "null"]}},
        },
        "model_id": {"type": "string", "description": "Of the model in the library; absent until it is kept there."},
        "model_sha256": {"type": "string", "description": "In init's answer, where VISIONA_UPLOAD_DIGEST asks for it."},
    },
    optional=("error", "model_id", "model_sha256"),
)

MODEL = _object(
    {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "source_job_id": {"type": "string"},
        "platform": {"type": "string"},
        "filename": {"type": "string"},
        "size": _SIZE,
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "created_at": _MOMENT,
    }
)

PROBLEM = _object(
    {
        "type": {"type": "string", "format": "uri", "examples": ["urn:visiona:problem:job_not_found"]},
        "title": {"type": "string", "description": "In the language that Accept-Language prefers: en or zh-TW."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What to do next, in the same language."},
        "code": {"enum": sorted(catalogue())},
        "i18n_key": {"type": "string", "description": "For a frontend's own texts; several codes may share one."},
        "retryable": {"type": "boolean", "description": "May the same request, sent again later, succeed?"},
        "blame": {"enum": [blame.value for blame in Blame], "description": "Whose it is; `gateway` is ours."},
        "request_id": {"type": "string", "description": "Finds the request in our logs: quote it."},
        "active_job": {
            "description": "With `active_job_conflict`: the job that is running, where it is known.",
            "oneOf": [_reference("Job"), {"type": "null"}],
        },
        "job_error": {
            "description": "With `job_failed`: why, in the converter's words.",
            "type": ["object", "null"],
        },
    },
    optional=("active_job", "job_error"),
    description="RFC 9457. Further members may come with some codes.",
)

_CHECK_STATE: Schema = {"type": "string", "description": "`ok`, or the code of what is wrong."}

SCHEMAS: dict[str, Schema] = {
    "Text": {"type": "string"},
    "File": {"type": "string", "contentMediaType": "application/octet-stream"},
    "Description": {"type": "object", "required": ["openapi", "info", "paths"]},
    "Job": JOB,
    "Model": MODEL,
    "Problem": PROBLEM,
    "ActiveJob": _object({"active_job": {"oneOf": [_reference("Job"), {"type": "null"}]}}),
    "JobPage": _object({"jobs": {"type": "array", "items": _reference("Job")}, "next_cursor": _CURSOR}),
    "ModelPage": _object({"models": {"type": "array", "items": _reference("Model")}, "next_cursor": _CURSOR}),
    "Account": _object(
        {
            "user_id": {"type": "string"},
            "name": {"type": "string"},
            "email": {"type": "string"},
            "session_expires_at": _MOMENT,
        }
    ),
    "UploadWelcome": _object(
        {"ok": {"const": True}, "max_upload_bytes": _SIZE, "session_expires_at": _MOMENT},
    ),
    "DownloadReady": _object({"ready": {"const": True}, "filename": {"type": "string"}, "size": _SIZE_OR_NULL}),
    "Logout": _object({"logout_url": {"type": "string", "format": "uri", "description": "Ends it at MC."}}),
    "Health": _object({"status": {"const": "ok"}}),
    "Readiness": _object(
        {
            "status": {"enum": ["ready", "draining", "unavailable"]},
            "checks": _object({"database": _CHECK_STATE, "storage": _CHECK_STATE, "configuration": _CHECK_STATE}),
            "conversion": {"enum": ["enabled", "disabled"]},
            "upstreams": {
                "type": "object",
                "description": "How each last answered this worker. Shown, and not decisive.",
                "additionalProperties": _object(
                    {"last": {"type": ["string", "null"]}, "seconds_ago": {"type": ["number", "null"]}}
                ),
            },
        }
    ),
    "Catalogue": _object(
        {
            "languages": {"type": "array", "items": {"type": "string"}},
            "errors": {"type": "object", "additionalProperties": {"type": "object"}},
        }
    ),
    "Upload": {
        "type": "object",
        "required": ["model"],
        "description": "Everything but claims to be somebody passes on to the converter, in the order of the message.",
        "properties": {
            "model": {"type": "string", "contentMediaType": "application/octet-stream", "description": "The model."},
            "ref_images": {
                "type": "array",
                "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                "description": "Images like those that the network will see.",
            },
            "model_id": {"type": "string", "examples": ["32769"], "description": "32768 to 65535."},
            "version": {"type": "string", "examples": ["0001"], "description": "Four hexadecimal digits."},
            "platform": {"type": "string", "examples": ["720"], "description": "520, 720, 530, 630 or 730."},
        },
    },
    "Announcement": {
        "type": "object",
        "description": "What the upload will be; other fields as it will have them.",
        "properties": {
            "filename": {"type": "string"},
            "size": {"type": "integer", "minimum": 0, "description": "Of all parts together, in bytes."},
            "parts": {"type": "integer", "minimum": 0, "description": "How many parts it will have."},
            "head": {
                "type": "string",
                "contentMediaType": "application/octet-stream",
                "description": "The model's first bytes, at most 4 MiB.",
            },
            "model_id": {"type": "string"},
            "version": {"type": "string"},
            "platform": {"type": "string"},
        },
    },
    "NewName": _object({"name": {"type": "string", "minLength": 1, "examples": ["Yolo, second try"]}}),
}
