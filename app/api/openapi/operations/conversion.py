"""The operations below `/api/conversion`."""

from app.api.openapi.advice_schemas import (
    ADVICE_EXAMPLE,
    ADVICE_SUMMARY_EXAMPLE,
    CAPABILITIES_EXAMPLE,
    NO_ADVICE_EXAMPLE,
    STORED_ADVICE_EXAMPLE,
)
from app.api.openapi.json_schema import reference
from app.api.openapi.operation import JSON, Body, Operation, ResponseDescription, json_content, no_head
from app.api.openapi.schemas import CREATED_AT, JOB_EXAMPLE, MODEL_EXAMPLE, USUAL_TIME_EXAMPLE
from app.version import VERSION

# Failures of any call to an upstream: MC for a token, the converter for the job, the deadline for both.
_CONVERTER = ("idp_unavailable", "idp_misconfigured", "converter_busy", "converter_unavailable", "deadline_exceeded")
# Reasons why a job has no result to offer.
_RESULT = ("job_not_found", "job_not_completed", "job_failed", "promote_failed")
# Reasons to refuse an upload before it is sent.
_UPLOAD = (
    "invalid_request",
    "payload_too_large",
    "upload_capacity",
    "upload_in_progress",
    "active_job_conflict",
)

_JOB = json_content("Job", JOB_EXAMPLE)
_MODEL = json_content("Model", MODEL_EXAMPLE)
_COMPLETED_EXAMPLE = JOB_EXAMPLE | {
    "status": "completed",
    "stage": "nef",
    "stage_index": 2,
    "progress": 100.0,
    "terminal": True,
    "updated_at": "2026-11-25T08:34:12.000Z",
    "library_model_id": MODEL_EXAMPLE["id"],
}
_RECEIPT_EXAMPLE = {
    "schema": "visiona-receipt/1",
    "gateway_version": VERSION,
    "job_id": JOB_EXAMPLE["job_id"],
    "status": "completed",
    "error": None,
    "upload": {
        "started_at": "2026-11-25T08:29:51.004Z",
        "ended_at": "2026-11-25T08:30:00.310Z",
        "reference_images": {"count": 2, "size": 204_800, "first_filenames": ["cat.jpg", "dog.jpg"]},
    },
    "model": {"filename": "yolo.onnx", "size": 7_340_032, "sha256": None},
    "parameters": JOB_EXAMPLE["parameters"],
    "created_at": CREATED_AT,
    "ended_at": _COMPLETED_EXAMPLE["updated_at"],
    "stages": JOB_EXAMPLE["stages"],
    "usual_time": USUAL_TIME_EXAMPLE,
    "advice": STORED_ADVICE_EXAMPLE,
    "result": {
        "library_model_id": MODEL_EXAMPLE["id"],
        "filename": MODEL_EXAMPLE["filename"],
        "size": MODEL_EXAMPLE["size"],
        "sha256": MODEL_EXAMPLE["sha256"],
        "verified": True,
        "stored_at": MODEL_EXAMPLE["created_at"],
    },
}
ONLY_NAVIGATION = (
    "Open this as a link. The gateway refuses requests by scripts (`Sec-Fetch-Mode` other than "
    "`navigate`), prefetches and HEAD, so that nothing starts without the user's action."
)

CONVERSION = (
    Operation(
        "POST",
        "/api/conversion/inspect",
        "inspectModel",
        {"en": "Find out whether a model fits the chips", "zh-TW": "分析模型適合哪些晶片"},
        {
            200: ResponseDescription(
                "The advice; for a file that is not a known model, the reason why there is none.",
                {
                    JSON: {
                        "schema": reference("Advice"),
                        "examples": {
                            "advice": {"summary": "Example with advice", "value": ADVICE_EXAMPLE},
                            "none": {"summary": "Example without advice", "value": NO_ADVICE_EXAMPLE},
                        },
                    }
                },
                ("Cache-Control", "Content-Language"),
            )
        },
        description="Stores nothing and starts nothing. Each user can run one of these requests at a time in each "
        "worker. Further requests get 429.",
        body=Body("ModelToInspect", ("multipart/form-data",)),
        failures=("invalid_request", "payload_too_large"),
        curl="-F model=@model.onnx",
    ),
    Operation(
        "GET",
        "/api/conversion/capabilities",
        "getCapabilities",
        {"en": "Get the chip table and the limits", "zh-TW": "取得晶片對照表與限制"},
        {
            200: ResponseDescription(
                "Which chips run which operators, and the limits of uploads.",
                json_content("Capabilities", CAPABILITIES_EXAMPLE),
                ("ETag", "Cache-Control", "Content-Language"),
            ),
            304: ResponseDescription(
                "Nothing has changed since the ETag in If-None-Match.",
                {},
                ("ETag", "Cache-Control"),
            ),
        },
        parameters=("If-None-Match", "If-Match"),
        failures=("precondition_failed",),
    ),
    Operation(
        "POST",
        "/api/conversion/init",
        "startConversion",
        {"en": "Upload a model and start its conversion", "zh-TW": "上傳模型並開始轉換"},
        {
            201: ResponseDescription(
                "The job that was started.", _JOB, ("Location", "Cache-Control", "Content-Language")
            )
        },
        description="The body streams through to the converter as it arrives. The owner of the upload is the "
        "signed-in user, whatever the fields say. The response may come before the whole body has been sent; the "
        "gateway then closes the connection.",
        body=Body(
            "Upload",
            ("multipart/form-data",),
            details={
                "encoding": {
                    "model": {"contentType": "application/octet-stream"},
                    "ref_images": {"contentType": "image/png, image/jpeg, application/octet-stream"},
                }
            },
        ),
        parameters=("X-Upload-ID",),
        failures=(
            *_UPLOAD,
            "upload_ended",
            "draining",
            "upload_timeout",
            "converter_rejected",
            "upload_outcome_unknown",
            *_CONVERTER,
        ),
        curl="-F model_id=32769 -F version=0001 -F platform=720 -F model=@model.onnx",
    ),
    Operation(
        "DELETE",
        "/api/conversion/upload",
        "endUpload",
        {"en": "Stop a running upload", "zh-TW": "停止進行中的上傳"},
        {
            202: ResponseDescription(
                "The request is recorded, but the worker that has the upload hasn't confirmed yet that it has ended. "
                "Repeat the request after the time in Retry-After. If the worker was killed, the upload counts as "
                "running for up to 150 s.",
                {},
                ("Retry-After", "Cache-Control"),
            ),
            204: ResponseDescription("The upload has ended, and no job was started. The next one can start."),
        },
        description="Ends the caller's own upload in any worker of any host. Safe to repeat.",
        parameters=("upload_id",),
        failures=("upload_not_found", "upload_complete"),
    ),
    Operation(
        "POST",
        "/api/conversion/check",
        "checkUpload",
        {"en": "Check whether an upload would be accepted", "zh-TW": "檢查現在是否可以上傳"},
        {
            200: ResponseDescription(
                "The upload would be accepted.",
                json_content(
                    "UploadCheck", {"ok": True, "max_upload_bytes": 5_368_709_120, "session_expires_at": CREATED_AT}
                ),
                ("Cache-Control", "Content-Language"),
            )
        },
        description="If the upload would be refused, the response is the same failure. Stores nothing and starts "
        "nothing. If the form has a skeleton, the response has the advice about the model, and the request counts as "
        "one to `/inspect`: each user can run one at a time in each worker. Further requests get 429.",
        body=Body("UploadQuestion", ("application/x-www-form-urlencoded", "multipart/form-data"), is_required=False),
        failures=(*_UPLOAD, *_CONVERTER),
        curl="-d filename=model.onnx -d size=7340032 -d model_id=32769 -d version=0001 -d platform=720",
    ),
    Operation(
        "GET",
        "/api/conversion/active",
        "getActiveJob",
        {"en": "Get the running job", "zh-TW": "取得進行中的工作"},
        {
            200: ResponseDescription(
                "The job, or null. If there is a job, Retry-After says when to poll it.",
                json_content("ActiveJob", {"active_job": JOB_EXAMPLE}),
                ("Retry-After", "Cache-Control", "Content-Language"),
            )
        },
        failures=_CONVERTER,
    ),
    Operation(
        "GET",
        "/api/conversion/jobs",
        "listJobs",
        {"en": "List jobs, newest first", "zh-TW": "列出工作（由新到舊）"},
        {
            200: ResponseDescription(
                "A page of jobs. While the converter is unavailable, the response has their last known state.",
                json_content(
                    "JobPage", {"jobs": [_COMPLETED_EXAMPLE | {"advice": ADVICE_SUMMARY_EXAMPLE}], "next_cursor": None}
                ),
                ("Cache-Control", "Content-Language"),
            )
        },
        description="With `status`, a page may have fewer jobs than `limit`, or none, although there is a next page.",
        parameters=("limit", "cursor", "q", "platform", "status", "filename", "model_id"),
        failures=("invalid_request",),
    ),
    Operation(
        "GET",
        "/api/conversion/<job_id>",
        "getJob",
        {"en": "Poll a job", "zh-TW": "查詢工作進度"},
        {
            200: ResponseDescription(
                "The current state of the job.", _JOB, ("ETag", "Retry-After", "Cache-Control", "Content-Language")
            ),
            304: ResponseDescription(
                "The job has not changed since the ETag in If-None-Match.",
                {},
                ("ETag", "Retry-After", "Cache-Control"),
            ),
        },
        description="Wait for the time in Retry-After between polls. When the job has ended, there is no Retry-After.",
        parameters=("If-None-Match", "If-Match"),
        failures=("job_not_found", "precondition_failed", *_CONVERTER),
    ),
    Operation(
        "GET",
        "/api/conversion/<job_id>/receipt",
        "getReceipt",
        {"en": "Download a job's receipt", "zh-TW": "下載工作的收據"},
        {
            200: ResponseDescription(
                "The receipt, as a file to save.",
                json_content("Receipt", _RECEIPT_EXAMPLE),
                ("Content-Disposition", "Cache-Control", "Content-Language"),
            )
        },
        description="What the gateway has recorded about the job, also before the job has ended. The state is that of "
        "the last poll.",
        failures=("job_not_found",),
        curl="-f -o receipt.json",
    ),
    Operation(
        "POST",
        "/api/conversion/<job_id>/promote-to-models",
        "promoteToModels",
        {"en": "Save a job's result to the library", "zh-TW": "將轉換結果儲存到模型庫"},
        {
            200: ResponseDescription("The result was already in the library.", _MODEL, ("Location", "Cache-Control")),
            201: ResponseDescription("The result is now in the library.", _MODEL, ("Location", "Cache-Control")),
        },
        description="Safe to repeat: a job becomes at most one model. Each user can run two of these requests at a "
        "time on each host. Further requests get 429.",
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
        {"en": "Download a job's result", "zh-TW": "下載轉換結果"},
        {
            200: ResponseDescription(
                "With `check=1`: the result can be downloaded.",
                json_content("DownloadCheck", {"ready": True, "filename": "yolo.nef", "size": 5_242_880}),
            ),
            302: ResponseDescription(
                "A redirect to the file, with a token that is valid for a few minutes. There is no body.",
                {},
                ("Location", "Referrer-Policy", "Cache-Control"),
            ),
        },
        description=ONLY_NAVIGATION,
        parameters=("check",),
        failures=("navigation_required", *_RESULT, "download_token_failed", "mc_token_unavailable", *_CONVERTER),
        curl="-fL -o model.nef",
    ),
    no_head(
        "/api/conversion/<job_id>/download",
        "downloadResultHead",
        {"en": "Not allowed, because it would issue a download token", "zh-TW": "不允許，因為會產生下載權杖"},
    ),
)
