"""Conversion jobs: their ids, states and stages, and how they are read from the converter's JSON.

Reading is liberal (docs/upstreams.md): a missing or invalid value becomes None, an unknown status counts as running.
Only JSON without a valid job id is not a job.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from app.domain.identity import claims_identity

STAGES = ("onnx", "bie", "nef")

MAX_ERROR_CHARACTERS = 500
_CUT = "\n…\n"
_MAX_PARAMETERS = 64
_MAX_PARAMETER_CHARACTERS = 500
_TERMINAL_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# Never shown: besides the owner (`claims_identity`), where upstreams store files, and tokens.
_PRIVATE_PARAMETERS = frozenset({"objectkey", "url", "accesstoken", "token"})


class JobStatus(StrEnum):
    """The status of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether this status is final."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, in the converter's words: bounded plain text."""

    code: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """Return the error as the API and the ledger represent it."""
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the converter describes it. `user_id` is None if the converter does not name an owner."""

    job_id: str
    status: JobStatus
    user_id: str | None = None
    stage: str | None = None
    progress: float | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    error: JobError | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended, with or without success."""
        return self.status.is_terminal

    @property
    def chip(self) -> str | None:
        """The chip that the job is for; None if the converter does not repeat the upload's parameters."""
        return self.parameter("platform")

    def parameter(self, name: str) -> str | None:
        """Return a parameter as text; None if the converter does not repeat it."""
        value = self.parameters.get(name)
        return None if value is None else str(value)

    @property
    def stage_index(self) -> int | None:
        """The index of the stage in `STAGES`; None before the first."""
        return STAGES.index(self.stage) if self.stage in STAGES else None


def is_job_id(text: str) -> bool:
    """Return whether `text` is a well-formed id of a job or a model."""
    return _JOB_ID.fullmatch(text) is not None


def parse_job(payload: object) -> Job | None:
    """Read a job from the converter's decoded JSON. Return None if it has no valid job id."""
    if not isinstance(payload, dict):
        return None
    job_id = payload.get("job_id")
    if not isinstance(job_id, str) or not is_job_id(job_id):
        return None
    user_id = payload.get("user_id")
    stage = payload.get("stage")
    status = _status(payload.get("status"))
    return Job(
        job_id=job_id,
        status=status,
        # Compared as text: a number may be the caller's id. Any other type matches no caller.
        user_id=None if user_id is None else str(user_id),
        stage=stage if stage in STAGES else None,
        progress=_progress(payload.get("progress")),
        created_at=parse_timestamp(payload.get("created_at")),
        updated_at=parse_timestamp(payload.get("updated_at")),
        parameters=public_parameters(payload.get("parameters")),
        error=parse_job_error(payload.get("error")),
    )


def _status(value: object) -> JobStatus:
    try:
        return JobStatus(str(value).lower())
    except ValueError:
        return JobStatus.RUNNING


def _progress(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Only a float can be infinite, and only an int can be too large to be asked whether it is.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(min(max(value, 0), 100))


def parse_job_error(value: object) -> JobError | None:
    """Read an upstream error of the form `{code, message}`, or a bare string. Return None for anything else."""
    if isinstance(value, str) and value:
        return JobError(code="error", message=bounded_message(value))
    if not isinstance(value, dict):
        return None
    code, message = value.get("code"), value.get("message")
    if not code and not message:
        return None
    return JobError(code=bounded_text(str(code or "error"), 100), message=bounded_message(str(message or "")))


def bounded_message(text: str) -> str:
    """Return a message with its line breaks, but no other control characters, of at most MAX_ERROR_CHARACTERS.

    Colors for terminals are removed, and tabs become spaces. The middle of a long message is left out, because the last
    line of a traceback has the reason.
    """
    text = _TERMINAL_COLOR.sub("", text).expandtabs().strip()
    if len(text) > MAX_ERROR_CHARACTERS:
        half = (MAX_ERROR_CHARACTERS - len(_CUT)) // 2
        text = text[:half] + _CUT + text[-half:]
    return "\n".join(bounded_text(line) for line in text.splitlines())


def bounded_text(text: str, most: int = MAX_ERROR_CHARACTERS) -> str:
    """Return `text` on one line, without control characters, and at most `most` characters long."""
    printable = "".join(character if character.isprintable() else " " for character in text[: most * 2])
    return printable[:most]


def public_parameters(value: object) -> dict[str, Any]:
    """Return the parameters of a job that its owner may see: plain values without owner, storage location, tokens."""
    if not isinstance(value, dict):
        return {}
    shown: dict[str, Any] = {}
    for name, entry in value.items():
        if len(shown) == _MAX_PARAMETERS:
            break
        if not isinstance(name, str) or claims_identity(name) or _is_private(name):
            continue
        if isinstance(entry, str):
            shown[bounded_text(name, 100)] = bounded_text(entry, _MAX_PARAMETER_CHARACTERS)
        elif isinstance(entry, bool | int) or (isinstance(entry, float) and math.isfinite(entry)):
            shown[bounded_text(name, 100)] = entry
    return shown


def _is_private(name: str) -> bool:
    return re.sub(r"[^a-z]", "", name.lower()) in _PRIVATE_PARAMETERS


def parse_timestamp(value: object) -> datetime | None:
    """Read an ISO 8601 time (`Z`, an offset, fractions, or no zone, which means UTC) or epoch seconds, as UTC."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            parsed = datetime.fromisoformat(value.strip())
            return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
