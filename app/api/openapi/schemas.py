"""The components of the description: what documents, headers and parameters look like (JSON Schema 2020-12)."""

from typing import Any

from app.api.announcement import MAX_FIELDS, MAX_FORM_BYTES
from app.api.requests import MAX_SMALL_BODY_BYTES
from app.domain.job import MAX_ERROR_CHARACTERS, STAGES, JobStatus
from app.domain.model import MAX_NAME_CHARACTERS
from app.errors import Blame, catalogue
from app.services.paging import DEFAULT_LIMIT, MAX_LIMIT

Schema = dict[str, Any]

ID_PATTERN = "^[A-Za-z0-9_-]{1,128}$"
_SHA256_PATTERN = "^[0-9a-f]{64}$"
# Examples, used wherever the same thing is shown, so that one story runs through the whole description.
JOB_ID = "job-5f2c9a31"
MODEL_ID = "0d5e9c1b7f3a4a4e9a3d3c5f0c7b1e42"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
CREATED_AT = "2026-11-25T08:30:00.000Z"

JOB_EXAMPLE: dict[str, Any] = {
    "job_id": JOB_ID,
    "status": "running",
    "stage": "bie",
    "stage_index": 1,
    "stage_count": len(STAGES),
    "progress": 40.0,
    "terminal": False,
    "created_at": CREATED_AT,
    "updated_at": "2026-11-25T08:30:12.000Z",
    "parameters": {"model_id": 32_769, "version": "0001", "platform": "720"},
    "filename": "yolo.onnx",
    "size": 7_340_032,
    "stages": [
        {"stage": "onnx", "started_at": CREATED_AT, "ended_at": "2026-11-25T08:30:10.000Z", "approximate": False},
        {"stage": "bie", "started_at": "2026-11-25T08:30:10.000Z", "ended_at": None, "approximate": False},
    ],
}
MODEL_EXAMPLE: dict[str, Any] = {
    "id": MODEL_ID,
    "name": "yolo",
    "source_job_id": JOB_ID,
    "platform": "720",
    "filename": "yolo.nef",
    "size": 5_242_880,
    "sha256": SHA256,
    "created_at": "2026-11-25T08:34:41.120Z",
}


def _object(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), description: str = "") -> Schema:
    required = [name for name in properties if name not in optional]
    described = {"description": description} if description else {}
    return {"type": "object", **described, "properties": properties, "required": required}


def reference(name: str) -> Schema:
    """A reference to the schema of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Schema) -> Schema:
    """That schema, or null."""
    return {"oneOf": [schema, {"type": "null"}]}


_MOMENT: Schema = {"type": "string", "format": "date-time"}
_OPTIONAL_MOMENT: Schema = {"type": ["string", "null"], "format": "date-time"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
#: A file. `format` is OpenAPI 3.0's word, which client generators still go by; the media type is OpenAPI 3.1's.
BINARY: Schema = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
# The number that a model has on the chip, as the converter takes it.
_CHIP_MODEL_ID: Schema = {
    "type": "integer",
    "minimum": 32_768,
    "maximum": 65_535,
    "description": "The number that the model gets on the chip.",
    "examples": [32_769],
}
_VERSION: Schema = {"type": "string", "description": "Four hexadecimal digits.", "examples": ["0001"]}
_PLATFORM: Schema = {
    "type": "string",
    "description": "The chip: 520, 720, 530, 630 or 730.",
    "examples": ["720"],
}
_CURSOR: Schema = {
    "type": ["string", "null"],
    "description": "Pass it as `cursor` for the page that follows; null: this is the last one. Opaque.",
}


def schemas() -> dict[str, Schema]:
    """All named schemas. Unknown members may be added to any of them later: a client ignores them."""
    problem_texts = {"type": "string", "description": "For people, in the language that Accept-Language prefers."}
    return {
        "Job": _object(
            {
                "job_id": {"type": "string", "pattern": ID_PATTERN},
                "status": {
                    "enum": [status.value for status in JobStatus],
                    "description": "A status that the gateway does not know counts as running.",
                },
                "stage": {"enum": [*STAGES, None], "description": "Null before the first stage."},
                "stage_index": {"type": ["integer", "null"], "minimum": 0, "maximum": len(STAGES) - 1},
                "stage_count": {"const": len(STAGES)},
                "progress": {"type": ["number", "null"], "minimum": 0, "maximum": 100, "description": "Percent."},
                "terminal": {"type": "boolean", "description": "True: the job has ended, and polling can stop."},
                "created_at": _OPTIONAL_MOMENT,
                "updated_at": _OPTIONAL_MOMENT,
                "parameters": reference("JobParameters"),
                "filename": {"type": "string"},
                "size": {"type": ["integer", "null"], "minimum": 0, "description": "The model's, in bytes."},
                "stages": {
                    "type": "array",
                    "description": "When the gateway saw each stage begin and end, in order.",
                    "items": _object(
                        {
                            "stage": {"enum": list(STAGES)},
                            "started_at": _MOMENT,
                            "ended_at": _OPTIONAL_MOMENT,
                            "approximate": {
                                "type": "boolean",
                                "description": "True: nobody had looked shortly before it began.",
                            },
                        }
                    ),
                },
                "error": reference("JobError"),
                "library_model_id": {
                    "type": "string",
                    "pattern": ID_PATTERN,
                    "description": "The model of the library that the result was kept as; absent until then. The "
                    "member `model_id`, which older clients read, says the same.",
                },
                "model_sha256": {
                    "type": "string",
                    "pattern": _SHA256_PATTERN,
                    "description": "Of the uploaded model; in the answer to an upload, where the gateway computes it.",
                },
            },
            optional=("error", "library_model_id", "model_sha256"),
        ),
        "JobParameters": {
            "type": "object",
            "description": "What the converter tells of the fields of the upload.",
            "properties": {
                "model_id": {"type": "integer"},
                "version": {"type": "string"},
                "platform": {"type": "string"},
            },
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
        "JobError": _object(
            {
                "code": {"type": "string"},
                "message": {"type": "string", "maxLength": MAX_ERROR_CHARACTERS},
            },
            description="Why a job failed, in the converter's words. Text, never markup.",
        ),
        "ActiveJob": _object({"active_job": nullable(reference("Job"))}),
        "JobPage": _object({"jobs": {"type": "array", "items": reference("Job")}, "next_cursor": _CURSOR}),
        "UploadCheck": _object(
            {
                "ok": {"const": True},
                "max_upload_bytes": {"type": "integer", "minimum": 1},
                "session_expires_at": _MOMENT,
            }
        ),
        "DownloadCheck": _object(
            {
                "ready": {"const": True},
                "filename": {"type": "string"},
                "size": {"type": ["integer", "null"], "minimum": 0, "description": "In bytes, where it is known."},
            }
        ),
        "Model": _object(
            {
                "id": {"type": "string", "pattern": ID_PATTERN},
                "name": {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARACTERS},
                "source_job_id": {"type": "string", "pattern": ID_PATTERN},
                "platform": {"type": "string"},
                "filename": {"type": "string"},
                "size": {**_COUNT, "description": "In bytes."},
                "sha256": {"type": "string", "pattern": _SHA256_PATTERN},
                "created_at": _MOMENT,
            }
        ),
        "ModelPage": _object({"models": {"type": "array", "items": reference("Model")}, "next_cursor": _CURSOR}),
        "ModelChanges": _object(
            {
                "name": {
                    "type": "string",
                    "minLength": 1,
                    "description": f"1 to {MAX_NAME_CHARACTERS} printable characters; blanks at the ends are cut off.",
                }
            }
        ),
        "Account": _object(
            {
                "user_id": {"type": "string"},
                "name": {"type": "string"},
                "email": {"type": "string"},
                "session_expires_at": _MOMENT,
            }
        ),
        "SignedOut": _object(
            {"logout_url": {"type": "string", "format": "uri", "description": "Where the browser ends MC's session."}}
        ),
        "Health": _object({"status": {"const": "ok"}}),
        "Readiness": _object(
            {
                "status": {"enum": ["ready", "draining", "unavailable"]},
                "checks": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "The state of each of the gateway's own parts: `ok`, an error code, or `timeout`.",
                },
                "conversion": {"enum": ["enabled", "disabled"]},
                "upstreams": {
                    "type": "object",
                    "description": "How each upstream last answered this worker. Shown, and not decisive.",
                    "additionalProperties": _object(
                        {
                            "last": {"type": ["string", "null"]},
                            "seconds_ago": {"type": ["number", "null"], "minimum": 0},
                        }
                    ),
                },
            }
        ),
        "ErrorCatalogue": _object(
            {
                "languages": {"type": "array", "items": {"type": "string"}},
                "errors": {
                    "type": "object",
                    "additionalProperties": _object(
                        {
                            "status": {"type": "integer"},
                            "i18n_key": {"type": "string"},
                            "blame": {"enum": [blame.value for blame in Blame]},
                            "retryable": {"type": "boolean"},
                            "title": {"type": "object", "additionalProperties": {"type": "string"}},
                            "detail": {"type": "object", "additionalProperties": {"type": "string"}},
                        }
                    ),
                },
            }
        ),
        "Problem": _object(
            {
                "type": {"type": "string", "format": "uri", "description": "`urn:visiona:problem:` and the code."},
                "title": problem_texts,
                "status": {"type": "integer"},
                "detail": problem_texts,
                "code": {"enum": list(catalogue()), "description": "What programs tell failures apart by."},
                "i18n_key": {"type": "string", "description": "What a frontend looks a text of its own up by."},
                "retryable": {"type": "boolean", "description": "May the same request succeed later?"},
                "blame": {"enum": [blame.value for blame in Blame]},
                "request_id": {"type": "string", "description": "Finds this request in the gateway's log."},
                "active_job": {**nullable(reference("Job")), "description": "With `active_job_conflict`."},
                "job_error": {**nullable(reference("JobError")), "description": "With `job_failed`."},
                "quota_bytes": {**_COUNT, "description": "With `library_full`."},
                "upstream_code": {"type": "string", "description": "With `converter_rejected`."},
                "upstream_message": {"type": "string", "description": "With `converter_rejected`."},
            },
            optional=("active_job", "job_error", "quota_bytes", "upstream_code", "upstream_message"),
            description="A failure (RFC 9457).",
        ),
        "Upload": {
            "type": "object",
            "description": "Further fields go to the converter as they are; what names a user or tenant is dropped.",
            "properties": {
                "model_id": _CHIP_MODEL_ID,
                "version": _VERSION,
                "platform": _PLATFORM,
                "model": {
                    **BINARY,
                    "description": "The model's file. It is passed on while it arrives, so send small fields first.",
                },
                "ref_images": {
                    "type": "array",
                    "items": BINARY,
                    "description": "Reference images, none or many.",
                },
            },
            "required": ["model_id", "version", "platform", "model"],
        },
        "UploadQuestion": {
            "type": "object",
            "description": "The fields of an upload, without its files: "
            f"at most {MAX_FIELDS}, with {MAX_SMALL_BODY_BYTES} bytes in all.",
            "properties": {
                "model_id": _CHIP_MODEL_ID,
                "version": _VERSION,
                "platform": _PLATFORM,
                "filename": {"type": "string"},
                "size": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1, "description": "In bytes, all parts."},
                "parts": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 10**18 - 1,
                    "description": "How many parts the upload will have.",
                },
                "head": {
                    **BINARY,
                    "description": "The model's first bytes, at most 4 MiB; in multipart/form-data only. The body "
                    f"may then have {MAX_FORM_BYTES} bytes.",
                },
            },
        },
    }


def headers() -> dict[str, Any]:
    """All named headers of answers. An answer that names one always has it, unless its description says when."""

    def text(description: str, example: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
        return {
            "description": description,
            "required": required,
            "schema": {"type": "string", **schema},
            "example": example,
        }

    return {
        "X-Request-ID": text(
            "The request's own X-Request-ID where it was well-formed, else a new one. Find it in the logs.",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            pattern="^[A-Za-z0-9._-]{1,128}$",
        ),
        "Retry-After": {
            "description": "Seconds after which asking again makes sense; absent where it makes none.",
            "schema": {"type": "integer", "minimum": 1},
            "example": 2,
        },
        "ETag": text(
            "Sent back as If-None-Match, it saves the body (RFC 9110, section 8.8.3).",
            '"d1a8c6f0b7e94f4cb1c1f3f0a2d94d5e"',
        ),
        "Location": text("Where the thing is, or where the browser goes.", f"/api/conversion/{JOB_ID}"),
        "Cache-Control": text("Who may keep the answer, and for how long.", "no-store"),
        "Content-Disposition": text(
            "An attachment, with its name in both forms (RFC 6266).",
            "attachment; filename=\"yolo.nef\"; filename*=UTF-8''yolo.nef",
        ),
        "Content-Range": text("Which bytes of how many (RFC 9110, section 14.4).", "bytes 0-99/5242880"),
        "Accept-Ranges": text("Ranges of bytes can be asked for.", "bytes"),
        "Last-Modified": text("When the model was kept.", "Wed, 25 Nov 2026 08:34:41 GMT"),
        "Content-Language": text("The language of the texts.", "en", enum=["en", "zh-TW"]),
        "Accept-Encoding": text("The encoding to use, where another one was refused.", "identity", required=False),
        "Allow": text("The methods that this address has.", "GET, OPTIONS"),
        "Referrer-Policy": text("The address stays out of the next site's logs.", "no-referrer"),
        "Set-Cookie": text(
            "The session, or a sign-in under way, where that changes.",
            "visiona_session=…; HttpOnly; Path=/; SameSite=Lax",
            required=False,
        ),
    }


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def parameters() -> dict[str, Any]:
    """All named parameters, except for those in paths, which the routes themselves name."""
    return {
        "limit": _query(
            "limit", "How many at the most.", type="integer", minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT
        ),
        "cursor": _query("cursor", "`next_cursor` of the page before; without it, the first page.", type="string"),
        "check": _query(
            "check",
            "1: answer 200 and say whether a download would work, without minting a token.",
            type="string",
            enum=["1"],
        ),
        "next": _query(
            "next",
            "The path of ours to come back to. Anything that could lead elsewhere counts as `/`.",
            type="string",
            default="/",
        ),
        "state": _query("state", "The sign-in that this is the answer to.", type="string"),
        "code": _query("code", "MC's authorization code.", type="string"),
        "error": _query("error", "MC's reason for not giving a code (RFC 6749, section 4.1.2.1).", type="string"),
        "iss": _query("iss", "Who answers (RFC 9207).", type="string"),
        "lang": _query("lang", "Show the page in this language, and remember it.", enum=["en", "zh-TW"], type="string"),
        "If-Match": _header("If-Match", "The ETag that the answer must have: 412 if it has another.", f'"{SHA256}"'),
        "If-Modified-Since": _header("If-Modified-Since", "304 if nothing is newer.", "Wed, 25 Nov 2026 08:34:41 GMT"),
        "If-Unmodified-Since": _header("If-Unmodified-Since", "412 if it is newer.", "Wed, 25 Nov 2026 08:34:41 GMT"),
        "If-None-Match": _header("If-None-Match", "The ETag that the caller has: 304 if it still holds.", '"d1a8"'),
        "Range": _header("Range", "One range of bytes; anything else is answered with the whole file.", "bytes=0-99"),
        "If-Range": _header("If-Range", "The range counts only if this ETag or date still holds.", f'"{SHA256}"'),
    }
