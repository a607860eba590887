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
    "median_seconds": count("Half of the jobs took at most so long."),
    "p90_seconds": count("Nine of ten jobs took at most so long."),
    "jobs": {"type": "integer", "minimum": 5, "description": "How many jobs this is about: the newest ones."},
}

RECEIPTS: dict[str, Schema] = {
    "UsualTime": object_of(
        {
            **_DURATION,
            "stages": map_of(object_of(_DURATION), description="The same for each stage that at least five jobs tell."),
        },
        description="How long completed jobs of all users took, for the same chip and a similar size of the model.",
    ),
    "Receipt": object_of(
        {
            "schema": {"const": "visiona-receipt/1"},
            "gateway_version": {"type": ["string", "null"], "description": "Of the gateway that took the upload."},
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
                                "size": count("Of all of them, in bytes."),
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
                description="The model in the library that was made from this job; null if there is none.",
            ),
        },
        description="What was sent for a job, and what came back. Null is what the gateway does not know.",
    ),
}
