"""What the ledger knows of an upload and its job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.domain.job import Job
from app.domain.stages import StageTime


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One row of the ledger: an upload and the job that it started.

    `job_id` is None while the upload is pending: the row is written before the body is sent. `job` is the newest state
    that the converter has sent, with the parameters and the error of that state.
    """

    upload_id: str
    user_id: str
    job_id: str | None
    filename: str
    size: int | None
    started_at: datetime
    job: Job | None
    #: When the gateway saw the stages begin and end.
    stages: Sequence[StageTime] = ()
    #: What the advice about the model said when the job started. None if the upload's response was lost.
    advice: Mapping[str, Any] | None = None
    #: What a receipt says of the upload. None if its response was lost, or if an earlier version took it.
    upload_facts: Mapping[str, Any] | None = None
    #: How long such a job usually took when this one started (`app/domain/usual_time.py`); None if that is unknown.
    usual_time: Mapping[str, Any] | None = None

    @property
    def reference_images(self) -> Mapping[str, int] | None:
        """Number and size in bytes of the reference images; None without `upload_facts`."""
        facts = self.upload_facts
        return {"count": facts["ref_images"], "size": facts["ref_image_bytes"]} if facts else None
