"""The receipt of a job: what was sent, when, by which parameters, and what came back.

Members may be added to the schema. A change of the meaning of one makes a new schema.
"""

from datetime import datetime
from typing import Any

from app.advice.documents import stored_advice_json
from app.api.documents import stage_documents, timestamp, typed_parameters
from app.domain.job_record import JobRecord
from app.domain.model import Model, clean_filename, stem_of
from app.services.conversions import Receipt

SCHEMA = "visiona-receipt/1"
#: With the longest job id, the name of a receipt has less than the 255 bytes that a file name may have.
_MAX_STEM_BYTES = 100


def receipt_document(receipt: Receipt, language: str) -> dict[str, Any]:
    """Return the receipt as JSON, with the sentences of the advice in this language. What is not known is null."""
    record, job = receipt.record, receipt.job
    facts = record.upload_facts or {}
    return {
        "schema": SCHEMA,
        "gateway_version": facts.get("gateway_version"),
        "job_id": job.job_id,
        "status": job.status.value,
        "error": job.error.as_dict() if job.error else None,
        "upload": _upload_document(record) if facts else None,
        "model": {"filename": record.filename, "size": record.size, "sha256": facts.get("model_sha256")},
        "parameters": typed_parameters(job.parameters),
        "created_at": timestamp(job.created_at),
        "ended_at": timestamp(job.updated_at) if job.is_terminal else None,
        "stages": stage_documents(record.stages),
        "usual_time": record.usual_time,
        "advice": stored_advice_json(record.advice, language) if record.advice else None,
        "result": _result_document(receipt.model) if receipt.model else None,
    }


def receipt_filename(receipt: Receipt) -> str:
    """Return the name under which a receipt is saved."""
    stem = stem_of(receipt.record.filename) or "model"
    # A long one must not cost the name its end, by which receipts differ.
    stem = stem.encode()[:_MAX_STEM_BYTES].decode("utf-8", "ignore")
    return clean_filename(f"{stem}-{receipt.job.job_id}-receipt.json", "receipt.json")


def _upload_document(record: JobRecord) -> dict[str, Any]:
    facts = record.upload_facts or {}
    return {
        "started_at": timestamp(record.started_at),
        "ended_at": timestamp(datetime.fromisoformat(facts["ended_at"])),
        "reference_images": {
            **(record.reference_images or {}),
            "first_filenames": facts["ref_image_names"],
        },
    }


def _result_document(model: Model) -> dict[str, Any]:
    return {
        "library_model_id": model.id,
        "filename": model.filename,
        "size": model.size,
        "sha256": model.sha256,
        "verified": model.is_verified,
        "stored_at": timestamp(model.created_at),
    }
