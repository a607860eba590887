"""The schemas of usual times and of receipts."""

from app.api.openapi.json_schema import (
    ID,
    NULLABLE_TIME,
    SHA256_HEX,
    TIME,
    Schema,
    array_of,
    count,
    map_of,
    nullable,
    object_of,
    reference,
    text,
)

_DURATION: dict[str, Schema] = {
    "median_seconds": count("Half of the jobs took this long or less."),
    "p90_seconds": count("Nine out of ten jobs took this long or less."),
    "jobs": {
        "type": "integer",
        "minimum": 5,
        "description": "Number of jobs in these statistics. Only the newest jobs count.",
    },
}

RECEIPTS: dict[str, Schema] = {
    "UsualTime": object_of(
        {
            **_DURATION,
            "stages": map_of(
                object_of(_DURATION), description="The same for each stage of which at least five jobs are known."
            ),
        },
        description="How long completed jobs of all users took for the same chip and a model of similar size.",
    ),
    "Receipt": object_of(
        {
            "schema": {"const": "visiona-receipt/1"},
            "gateway_version": {
                "type": ["string", "null"],
                "description": "Version of the gateway that received the upload.",
            },
            "job_id": ID,
            "status": text("As in Job."),
            "error": nullable(reference("JobError")),
            "upload": nullable(
                object_of(
                    {
                        "started_at": TIME,
                        "ended_at": TIME,
                        "reference_images": object_of(
                            {
                                "count": count("Number of reference images."),
                                "size": count("Size of all of them in bytes."),
                                "first_filenames": array_of(text(), maxItems=20),
                            }
                        ),
                    }
                ),
                description="Null if the response to the upload was lost.",
            ),
            "model": object_of(
                {
                    "filename": text(),
                    "size": count("In bytes.", is_nullable=True),
                    "sha256": nullable(SHA256_HEX, description="Null unless the gateway is configured to compute it."),
                },
                description="What was sent.",
            ),
            "parameters": reference("JobParameters"),
            "created_at": NULLABLE_TIME,
            "ended_at": NULLABLE_TIME,
            "stages": array_of({"type": "object"}, description="As in Job."),
            "usual_time": nullable(reference("UsualTime"), description="As in Job."),
            "advice": nullable(reference("JobAdvice"), description="Null if none was recorded."),
            "result": nullable(
                object_of(
                    {
                        "library_model_id": ID,
                        "filename": text(),
                        "size": count("In bytes."),
                        "sha256": SHA256_HEX,
                        "verified": {
                            "type": ["boolean", "null"],
                            "description": "True if the converter announced this SHA-256, false if it announced none; "
                            "null if an earlier version of the gateway stored the model.",
                        },
                        "stored_at": TIME,
                    }
                ),
                description="The model in the library that was saved from this job; null if there is none.",
            ),
        },
        description="What was sent for a job, and what came back. A member is null if the gateway doesn't know "
        "its value.",
    ),
}
