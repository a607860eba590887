"""The components of the description: documents and headers (JSON Schema 2020-12)."""

from collections.abc import Iterable
from typing import Any

from app.api.announcement import MAX_FORM_BYTES
from app.api.forms import MAX_FIELDS
from app.api.inspection import MAX_MODEL_BYTES, MAX_SKELETON_BYTES
from app.api.openapi.advice_schemas import ADVICE_SCHEMAS, STORED_ADVICE_EXAMPLE
from app.api.openapi.json_schema import (
    ID,
    NULLABLE_TIME,
    SHA256_HEX,
    TIME,
    UPLOAD_ID,
    Schema,
    array_of,
    count,
    map_of,
    nullable,
    object_of,
    reference,
    text,
)
from app.api.openapi.receipts import RECEIPTS
from app.api.requests import MAX_SMALL_BODY_BYTES
from app.domain.job import MAX_ERROR_CHARACTERS, STAGES, JobStatus
from app.domain.model import MAX_NAME_CHARACTERS
from app.errors import LANGUAGES, Blame, catalogue

# Examples, used wherever the same thing is shown, so that the whole description tells one story.
JOB_ID = "job-5f2c9a31"
MODEL_ID = "0d5e9c1b7f3a4a4e9a3d3c5f0c7b1e42"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
CREATED_AT = "2026-11-25T08:30:00.000Z"

USUAL_TIME_EXAMPLE: dict[str, Any] = {
    "median_seconds": 240,
    "p90_seconds": 540,
    "jobs": 37,
    "stages": {"bie": {"median_seconds": 170, "p90_seconds": 400, "jobs": 21}},
}
RUNNING_UPLOAD_EXAMPLE: dict[str, Any] = {
    "upload_id": "b1f0c7d2-5d0e-4f6a-9f0e-2a1c3d4e5f60",
    "started_at": CREATED_AT,
    "received_bytes": 524_288_000,
    "total_bytes": 2_147_483_648,
}
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
    "reference_images": {"count": 120, "size": 24_576_000},
    "usual_time": USUAL_TIME_EXAMPLE,
    "stages": [
        {"stage": "onnx", "started_at": CREATED_AT, "ended_at": "2026-11-25T08:30:10.000Z", "approximate": False},
        {"stage": "bie", "started_at": "2026-11-25T08:30:10.000Z", "ended_at": None, "approximate": False},
    ],
    "advice": STORED_ADVICE_EXAMPLE,
}
MODEL_EXAMPLE: dict[str, Any] = {
    "id": MODEL_ID,
    "name": "yolo",
    "source_job_id": JOB_ID,
    "platform": "720",
    "model_id": 32_769,
    "version": "0001",
    "filename": "yolo.nef",
    "size": 5_242_880,
    "sha256": SHA256,
    "created_at": "2026-11-25T08:34:41.120Z",
}


def header_references(names: Iterable[str]) -> dict[str, Any]:
    """Return a response's `headers` object. Every response has X-Request-ID too."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-ID", *names)}


_TRUE: Schema = {"const": True}
_BLAME: Schema = {
    "enum": [blame.value for blame in Blame],
    "description": "Who has to act: the user, or the administrators of the gateway or of an upstream.",
}
_CURSOR: Schema = {
    "type": ["string", "null"],
    "description": "Pass this as `cursor` to get the next page; null on the last page. Opaque.",
}
#: A file. `format` is OpenAPI 3.0's word, which client generators still use; the media type is OpenAPI 3.1's.
BINARY: Schema = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
#: The fields that the converter requires in an upload.
_CONVERTER_FIELDS: dict[str, Schema] = {
    "model_id": {
        "type": "integer",
        "minimum": 32_768,
        "maximum": 65_535,
        "description": "The number of the model on the chip.",
        "examples": [32_769],
    },
    "version": text("Four hexadecimal digits.", examples=["0001"]),
    "platform": text("The chip: 520, 720, 530, 630 or 730.", examples=["720"]),
}
_MAX_ANNOUNCED = 10**18 - 1

# Members may be added to any schema later; clients ignore those that they don't know.
_JOB_MEMBERS: dict[str, Schema] = {
    "job_id": ID,
    "status": {
        "enum": [status.value for status in JobStatus],
        "description": "The gateway reports an unknown status of the converter as running.",
    },
    "stage": {"enum": [*STAGES, None], "description": "Null before the first stage."},
    "stage_index": {"type": ["integer", "null"], "minimum": 0, "maximum": len(STAGES) - 1},
    "stage_count": {"const": len(STAGES)},
    "progress": {"type": ["number", "null"], "minimum": 0, "maximum": 100, "description": "Percent."},
    "terminal": {"type": "boolean", "description": "True when the job has ended. Stop polling then."},
    "created_at": NULLABLE_TIME,
    "updated_at": NULLABLE_TIME,
    "parameters": reference("JobParameters"),
    "filename": text(),
    "size": count("Size of the uploaded model in bytes.", is_nullable=True),
    "reference_images": nullable(
        object_of({"count": count("Number of reference images."), "size": count("Size of all of them in bytes.")}),
        description="The reference images of the upload; null if unknown.",
    ),
    "stages": array_of(
        object_of(
            {
                "stage": {"enum": list(STAGES)},
                "started_at": TIME,
                "ended_at": NULLABLE_TIME,
                "approximate": {
                    "type": "boolean",
                    "description": "True if the start was noticed late, because nobody was polling.",
                },
            }
        ),
        description="When the gateway saw each stage start and end, in order.",
    ),
    "usual_time": nullable(
        reference("UsualTime"),
        description="How long such jobs usually took when this one started; null if fewer than five are known.",
    ),
    "error": reference("JobError"),
    "explanation": reference("FailureExplanation"),
    "library_model_id": {
        **ID,
        "description": "The model in the library that was saved from this job; absent if there is none. Older "
        "clients read the same value from `model_id`.",
    },
    "model_sha256": {
        **SHA256_HEX,
        "description": "SHA-256 of the uploaded model. Only in the response to an upload, and only if the "
        "gateway is configured to compute it.",
    },
}
_OPTIONAL_JOB_MEMBERS = ("error", "explanation", "library_model_id", "model_sha256")
_JOBS: dict[str, Schema] = {
    "Job": object_of(
        _JOB_MEMBERS | {"advice": nullable(reference("JobAdvice"), description="Null if there is no advice.")},
        optional=_OPTIONAL_JOB_MEMBERS,
    ),
    "PastJob": object_of(
        _JOB_MEMBERS | {"advice": nullable(reference("AdviceSummary"), description="Null if there is no advice.")},
        optional=_OPTIONAL_JOB_MEMBERS,
        description="A job in a list.",
    ),
    "JobParameters": {
        "type": "object",
        "description": "The fields of the upload, as reported by the converter.",
        "properties": {"model_id": {"type": "integer"}, "version": text(), "platform": text()},
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    },
    "JobError": object_of(
        {
            "code": text(),
            "message": text(
                "With line breaks. The middle of a long message is left out.", maxLength=MAX_ERROR_CHARACTERS
            ),
        },
        description="Why a job failed, in the converter's words. Plain text, never markup. Only the code `job_lost` is "
        "the gateway's: the converter no longer knows the job.",
    ),
    "ActiveJob": object_of({"active_job": nullable(reference("Job"))}),
    "JobPage": object_of({"jobs": array_of(reference("PastJob")), "next_cursor": _CURSOR}),
    "UploadCheck": object_of(
        {
            "ok": _TRUE,
            "max_upload_bytes": {"type": "integer", "minimum": 1},
            "session_expires_at": TIME,
            "advice": reference("Advice"),
        },
        optional=("advice",),
    ),
    "DownloadCheck": object_of(
        {"ready": _TRUE, "filename": text(), "size": count("In bytes; null if unknown.", is_nullable=True)}
    ),
}
_MODELS: dict[str, Schema] = {
    "Model": object_of(
        {
            "id": ID,
            "name": text(minLength=1, maxLength=MAX_NAME_CHARACTERS),
            "source_job_id": ID,
            "platform": text(),
            "model_id": {"type": ["integer", "null"], "description": "From the parameters of the job, if known."},
            "version": {"type": ["string", "null"], "description": "From the parameters of the job, if known."},
            "filename": text(),
            "size": count("In bytes."),
            "sha256": SHA256_HEX,
            "created_at": TIME,
        }
    ),
    "ModelPage": object_of({"models": array_of(reference("Model")), "next_cursor": _CURSOR}),
    "ModelChanges": object_of(
        {
            "name": text(
                f"1 to {MAX_NAME_CHARACTERS} printable characters. Spaces at both ends are removed.", minLength=1
            )
        }
    ),
}
_SERVICE: dict[str, Schema] = {
    "Account": object_of({"user_id": text(), "name": text(), "email": text(), "session_expires_at": TIME}),
    "SignedOut": object_of({"logout_url": text("Member Center's address for signing out there.", format="uri")}),
    "Health": object_of({"status": {"const": "ok"}}),
    "Readiness": object_of(
        {
            "status": {"enum": ["ready", "draining", "unavailable"]},
            "checks": map_of(
                text(), description="The state of each part of the gateway: `ok`, an error code, or `timeout`."
            ),
            "conversion": {"enum": ["enabled", "disabled"]},
            "upstreams": map_of(
                object_of(
                    {
                        "last": {"type": ["string", "null"]},
                        "seconds_ago": {"type": ["number", "null"], "minimum": 0},
                    }
                ),
                description="The outcome of this worker's last call to each upstream. Doesn't affect `status`.",
            ),
        }
    ),
    "ErrorCatalogue": object_of(
        {
            "languages": array_of(text()),
            "errors": map_of(
                object_of(
                    {
                        "status": {"type": "integer"},
                        "i18n_key": text(),
                        "blame": _BLAME,
                        "retryable": {"type": "boolean"},
                        "title": map_of(text()),
                        "detail": map_of(text()),
                    }
                )
            ),
        }
    ),
    "Problem": object_of(
        {
            "type": text("`urn:visiona:problem:` and the code.", format="uri"),
            "title": text("For people, in the language that Accept-Language prefers."),
            "status": {"type": "integer"},
            "detail": text("For people, in the language that Accept-Language prefers."),
            "code": {"enum": list(catalogue()), "description": "Identifies the failure. For programs."},
            "i18n_key": text("The key under which a frontend can look up its own text."),
            "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
            "blame": _BLAME,
            "request_id": text("Identifies this request in the gateway's log."),
            "active_job": nullable(reference("Job"), description="With `active_job_conflict`."),
            "upload": {
                **reference("RunningUpload"),
                "description": "With `upload_in_progress`, unless that upload has just ended.",
            },
            "job_error": nullable(reference("JobError"), description="With `job_failed`."),
            "quota_bytes": count("With `library_full`."),
            "upstream_code": text("With `converter_rejected`."),
            "upstream_message": text("With `converter_rejected`."),
        },
        optional=("active_job", "upload", "job_error", "quota_bytes", "upstream_code", "upstream_message"),
        description="A failure (RFC 9457).",
    ),
    "RunningUpload": object_of(
        {
            "upload_id": UPLOAD_ID,
            "started_at": TIME,
            "received_bytes": count("Updated every 20 s while bytes arrive."),
            "total_bytes": count("Null if the client did not announce it.", is_nullable=True),
        },
        description="An upload that is running.",
    ),
}
_UPLOADS: dict[str, Schema] = {
    "Upload": object_of(
        {
            **_CONVERTER_FIELDS,
            "model": {
                **BINARY,
                "description": "The model file. Put it after the fields, so that an invalid field is reported before "
                "the model is sent.",
            },
            "ref_images": array_of(
                BINARY,
                description="Reference images. `upload_parts` in the response of `/capabilities` limits their number.",
            ),
        },
        optional=("ref_images",),
        description="The gateway passes other fields to the converter unchanged, but drops fields that name a user or "
        "tenant.",
    ),
    "UploadQuestion": {
        "type": "object",
        "description": f"The fields of an upload, without its files: at most {MAX_FIELDS} fields, with "
        f"{MAX_SMALL_BODY_BYTES} bytes in total.",
        "properties": {
            **_CONVERTER_FIELDS,
            "filename": text(),
            "size": count("Size of all parts in bytes.", maximum=_MAX_ANNOUNCED),
            "parts": count("Number of parts in the upload.", maximum=_MAX_ANNOUNCED),
            "head": {
                **BINARY,
                "description": "The first bytes of the model, at most 4 MiB. In multipart/form-data only; the body "
                f"can then have up to {MAX_FORM_BYTES} bytes.",
            },
            "skeleton": {
                **BINARY,
                "description": "The model without its weights, at most 4 MiB; the response then has `advice` for the "
                "chip in `platform`. In multipart/form-data only.",
            },
        },
    },
    "ModelToInspect": object_of(
        {
            "model": {**BINARY, "description": f"The model file, at most {MAX_MODEL_BYTES} bytes."},
            "skeleton": {**BINARY, "description": f"Or its skeleton, at most {MAX_SKELETON_BYTES} bytes."},
            "model_id": {"type": "integer", "minimum": 0, "description": "As in an upload."},
            "model_size": count("With a skeleton: the size of its model in bytes, for `usual_time`."),
        },
        optional=("model", "skeleton", "model_id", "model_size"),
        description="Send exactly one of the two files.",
    ),
}
SCHEMAS = RECEIPTS | _JOBS | _MODELS | _SERVICE | _UPLOADS | ADVICE_SCHEMAS


def _header(description: str, example: str, *, is_required: bool = True, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": is_required, "schema": text(**schema), "example": example}


#: Headers of responses. A response that names a required one always has it.
HEADERS: dict[str, Any] = {
    "X-Request-ID": _header(
        "The X-Request-ID of the request if it was well-formed, otherwise a new one. Search the logs for it.",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        pattern="^[A-Za-z0-9._-]{1,128}$",
    ),
    "Retry-After": {
        "description": "How many seconds to wait before the next request. Absent if there is nothing to wait for.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 2,
    },
    "ETag": _header(
        "Send this as If-None-Match to avoid receiving the same body again (RFC 9110, section 8.8.3).",
        '"d1a8c6f0b7e94f4cb1c1f3f0a2d94d5e"',
    ),
    "Location": _header("Address of the new resource, or the target of the redirect.", f"/api/conversion/{JOB_ID}"),
    "Cache-Control": _header("Who may cache the response, and for how long.", "no-store"),
    "Content-Disposition": _header(
        "An attachment, with its name in both forms (RFC 6266).",
        "attachment; filename=\"yolo.nef\"; filename*=UTF-8''yolo.nef",
    ),
    "Content-Range": _header("Which bytes of how many (RFC 9110, section 14.4).", "bytes 0-99/5242880"),
    "Accept-Ranges": _header("The resource supports ranges of bytes.", "bytes"),
    "Last-Modified": _header("When the model was saved to the library.", "Wed, 25 Nov 2026 08:34:41 GMT"),
    "Content-Language": _header("The language of the texts.", "en", enum=list(LANGUAGES)),
    "Accept-Encoding": _header(
        "The supported encoding, if the request used another one.", "identity", is_required=False
    ),
    "Allow": _header("The methods that this address supports.", "GET, OPTIONS"),
    "Referrer-Policy": _header("Keeps this address out of the next site's logs.", "no-referrer"),
    "Set-Cookie": _header(
        "The session or the sign-in in progress, if it changes.",
        "visiona_session=…; HttpOnly; Path=/; SameSite=Lax",
        is_required=False,
    ),
}
