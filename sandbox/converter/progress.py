"""A job's state as a function of the time since it was created.

No timer runs: each request computes the state, so it is right after any restart. A test may change the speed of the
clock, or force values.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

QUEUED: Final = "queued"
RUNNING: Final = "running"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
TERMINAL: Final = (COMPLETED, FAILED, "cancelled")

# Fractions of the duration: when a job leaves the queue, when each stage begins, and when a bad model fails.
_RUNNING_FROM: Final = 0.1
_STAGES: Final = ((0.7, "nef"), (0.35, "bie"), (_RUNNING_FROM, "onnx"))
_FAILS_AT: Final = 0.55
_FAILURE: Final = {"code": "undefined_cpu_op", "message": "undefined CPU op [NonZero] of node [/nms/NonZero]"}

FORCEABLE: Final = ("status", "stage", "progress", "error")


@dataclass(frozen=True)
class Job:
    """A stored job: what was uploaded, and when. Times are seconds since the epoch."""

    job_id: str
    user_id: str
    model_filename: str
    parameters: Mapping[str, Any]
    created_at: float
    duration_seconds: float
    clock_at: float
    clock_elapsed: float
    clock_speed: float
    forced: Mapping[str, Any] = field(default_factory=dict)
    """Values to show instead of the computed ones; `at` is the time when they were set."""

    @property
    def is_doomed(self) -> bool:
        return self.model_filename.lower().startswith("fail")

    def elapsed_at(self, now: float) -> float:
        """Return the seconds on the job's own clock."""
        return self.clock_elapsed + max(0.0, now - self.clock_at) * self.clock_speed

    def state_at(self, now: float) -> "State":
        state = self._computed_state(now)
        shown = {name: value for name, value in self.forced.items() if name in FORCEABLE}
        if not shown:
            return state
        if shown.get("status") == COMPLETED:
            shown = {"stage": "nef", "progress": 100, "error": None, **shown}
        values = {"status": state.status, "stage": state.stage, "progress": state.progress, "error": state.error}
        return State(**(values | shown), updated_at=max(state.updated_at, self.forced["at"]))

    def as_json(self, now: float) -> dict[str, Any]:
        """Return the job as the API shows it."""
        state = self.state_at(now)
        return {
            "job_id": self.job_id,
            "user_id": self.user_id,
            "status": state.status,
            "stage": state.stage,
            "progress": state.progress,
            "created_at": _iso(self.created_at),
            "updated_at": _iso(state.updated_at),
            "parameters": dict(self.parameters),
            "error": state.error,
        }

    def _computed_state(self, now: float) -> "State":
        elapsed = self.elapsed_at(now)
        done = elapsed / self.duration_seconds if self.duration_seconds else 1.0
        if self.is_doomed and done >= _FAILS_AT:
            return State(FAILED, "bie", _percent(_FAILS_AT), _FAILURE, self._when(_FAILS_AT))
        if done >= 1.0:
            return State(COMPLETED, "nef", 100, None, self._when(1.0))
        if done < _RUNNING_FROM:
            return State(QUEUED, None, 0, None, self.created_at)
        stage = next(name for begins, name in _STAGES if done >= begins)
        percent = _percent(done)
        reached = _RUNNING_FROM + (1.0 - _RUNNING_FROM) * percent / 100
        return State(RUNNING, stage, percent, None, self._when(reached))

    def _when(self, share: float) -> float:
        """Return when the job's clock showed that fraction of the duration."""
        since_clock = share * self.duration_seconds - self.clock_elapsed
        if not self.clock_speed or since_clock < 0:
            return self.clock_at
        return self.clock_at + since_clock / self.clock_speed


@dataclass(frozen=True)
class State:
    """The changing part of a job."""

    status: str
    stage: str | None
    progress: Any
    error: Any
    updated_at: float

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


def _percent(done: float) -> int:
    return math.floor(max(0.0, done - _RUNNING_FROM) / (1.0 - _RUNNING_FROM) * 100 + 1e-9)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
