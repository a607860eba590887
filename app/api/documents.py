"""The JSON documents of the API: the members of jobs and models that their owner sees."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flask import json

from app.advice.documents import advice_summary
from app.advice.explanation import explain_failure
from app.domain.job import STAGES
from app.domain.model import Model
from app.domain.running_upload import RunningUpload
from app.domain.stages import StageTime
from app.services.conversions import JobView

_TEXTS = ("version", "platform")


def timestamp(moment: datetime | None) -> str | None:
    """Return the time as RFC 3339 in UTC with milliseconds, or None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def job_document(view: JobView, language: str) -> dict[str, Any]:
    """Return a job as its owner sees it, without user id, object keys and addresses of upstreams.

    The times in `stages` are the ones at which the gateway saw a stage begin and end, not the converter's.
    """
    advice = view.advice.document(language) if view.advice is not None else None
    return _without_advice(view, language) | {"advice": advice}


def job_json(view: JobView, language: str) -> str:
    """Return the job's document as JSON. For polls: the advice, most of it, is not put into words each time."""
    advice = view.advice.as_json(language) if view.advice is not None else "null"
    rest = json.dumps(_without_advice(view, language), separators=(",", ":"))
    return f'{rest[:-1]},"advice":{advice}}}\n'


def past_job_document(view: JobView, language: str) -> dict[str, Any]:
    """Return a job for the history: of the advice only the verdict for its chip, the counts and the worst finding."""
    advice = advice_summary(view.advice.stored, language) if view.advice is not None else None
    return _without_advice(view, language) | {"advice": advice}


def _without_advice(view: JobView, language: str) -> dict[str, Any]:
    job = view.job
    document: dict[str, Any] = {
        "job_id": job.job_id,
        "status": job.status.value,
        "stage": job.stage,
        "stage_index": job.stage_index,
        "stage_count": len(STAGES),
        "progress": job.progress,
        "terminal": job.is_terminal,
        "created_at": timestamp(job.created_at or view.started_at),
        "updated_at": timestamp(job.updated_at),
        "parameters": typed_parameters(job.parameters),
        "filename": view.filename,
        "size": view.size,
        "reference_images": view.reference_images,
        "stages": stage_documents(view.stages),
        "usual_time": view.usual_time,
    }
    if job.error is not None:
        document["error"] = job.error.as_dict()
        explanation = explain_failure(job.error.message, view.advice.stored if view.advice else None, language)
        if explanation is not None:
            document["explanation"] = explanation
    if view.model_id is not None:
        document["library_model_id"] = view.model_id
        # The name before `library_model_id`. In an upload and in `parameters`, model_id is the number on the chip.
        document["model_id"] = view.model_id
    if view.model_sha256 is not None:
        document["model_sha256"] = view.model_sha256
    return document


def stage_documents(stages: Sequence[StageTime]) -> list[dict[str, Any]]:
    """Return the times at which the gateway saw stages begin and end."""
    return [
        {
            "stage": seen.stage,
            "started_at": timestamp(seen.started_at),
            "ended_at": timestamp(seen.ended_at),
            "approximate": seen.is_approximate,
        }
        for seen in stages
    ]


def typed_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters, with the ones of every upload in the documented types."""
    typed = {name: str(value) if name in _TEXTS else value for name, value in parameters.items()}
    if "model_id" in typed:
        try:
            typed["model_id"] = int(typed["model_id"])
        except (ValueError, OverflowError):
            del typed["model_id"]
    return typed


def model_document(model: Model) -> dict[str, Any]:
    """Return a model as its owner sees it, without user id and storage key."""
    of_source = {"model_id": model.model_id, "version": model.version}
    known = typed_parameters({name: value for name, value in of_source.items() if value is not None})
    return {
        "id": model.id,
        "name": model.name,
        "source_job_id": model.source_job_id,
        "platform": model.platform,
        "model_id": known.get("model_id"),
        "version": known.get("version"),
        "filename": model.filename,
        "size": model.size,
        "sha256": model.sha256,
        "created_at": timestamp(model.created_at),
    }


def as_document(value: object, language: str) -> Any:
    """Return a value for JSON: the document of a job's view or of a running upload, any other value unchanged."""
    if isinstance(value, RunningUpload):
        return _upload_document(value)
    return job_document(value, language) if isinstance(value, JobView) else value


def _upload_document(upload: RunningUpload) -> dict[str, Any]:
    return {
        "upload_id": upload.upload_id,
        "started_at": timestamp(upload.started_at),
        "received_bytes": upload.received_bytes,
        "total_bytes": upload.total_bytes,
    }
