"""The protocols of `app/services/ports.py` in memory. They record what was asked of them.

Each has a `failing` switch: while it is set, every method raises it, as the real ones do when the database or the
storage is down.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from app.clients.converter import Promotion
from app.clients.file_access import Receiver
from app.clients.retry import Call
from app.clients.token_responses import DownloadToken
from app.clients.tokens import IssuedToken, ServiceTokens
from app.domain.call import CallContext, Deadline
from app.domain.filters import ALL_JOBS, ALL_MODELS, JobFilter, ModelFilter
from app.domain.job import Job, JobStatus
from app.domain.job_record import JobRecord
from app.domain.model import Model
from app.domain.running_upload import RunningUpload
from app.domain.stages import StageTime
from app.domain.usual_time import CompletedJob
from app.errors import GatewayError, JobNotFoundError, LibraryFullError, OwnershipMismatchError
from app.services.ports import PageKey
from app.streaming.multipart import UploadMessage
from tests.support.waiting import CountedWait


def call_context(seconds: float = 60, **correlation: str) -> CallContext:
    """Return a context with this much time left on the real clock."""
    return CallContext(Deadline(seconds), correlation)


@dataclass
class Switch:
    """Raises what it is set to; the base of the fakes that can fail."""

    failing: GatewayError | None = None
    calls: list[str] = field(default_factory=list)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failing is not None:
            raise self.failing


@dataclass
class MemoryLedger(Switch):
    """A JobLedger whose `rows` a test may look at."""

    rows: dict[str, JobRecord] = field(default_factory=dict)
    #: The known stages of jobs, and the `last_look` of each recorded state.
    stages: dict[str, Sequence[StageTime]] = field(default_factory=dict)
    looks: list[datetime | None] = field(default_factory=list)
    #: Completed jobs by chip and class of size.
    completed: dict[tuple[str, int], Sequence[CompletedJob]] = field(default_factory=dict)

    def open_upload(self, upload_id: str, user_id: str, started_at: datetime) -> None:
        self._called("open_upload")
        self.rows[upload_id] = JobRecord(upload_id, user_id, None, "", None, started_at, None)

    def assign_job(
        self,
        user_id: str,
        upload_id: str,
        job: Job,
        *,
        filename: str,
        size: int | None,
        advice: Mapping[str, Any] | None = None,
        upload_facts: Mapping[str, Any] | None = None,
        usual_time: Mapping[str, Any] | None = None,
    ) -> None:
        self._called("assign_job")
        self._require_owner(user_id, job.job_id)
        row = self.rows[upload_id]
        self.rows[upload_id] = replace(
            row,
            job_id=job.job_id,
            job=job,
            filename=filename,
            size=size,
            advice=advice,
            upload_facts=upload_facts,
            usual_time=usual_time,
        )

    def discard_upload(self, upload_id: str) -> None:
        self._called("discard_upload")
        if upload_id in self.rows and self.rows[upload_id].job_id is None:
            del self.rows[upload_id]

    def has_upload(self, upload_id: str) -> bool:
        self._called("has_upload")
        return upload_id in self.rows

    def record_job(self, user_id: str, job: Job, *, last_look: datetime | None = None) -> JobRecord:
        self._called("record_job")
        self._require_owner(user_id, job.job_id)
        self.looks.append(last_look)
        row = self._row(job.job_id) or JobRecord(
            f"found-{job.job_id}", user_id, job.job_id, "", None, datetime(2026, 3, 1, tzinfo=UTC), None
        )
        if not (row.job and row.job.is_terminal and not job.is_terminal):
            self.rows[row.upload_id] = row = replace(row, job=job)
        return replace(row, stages=self.stages.get(job.job_id, ()))

    def find_job(self, user_id: str, job_id: str) -> JobRecord | None:
        self._called("find_job")
        row = self._row(job_id)
        return replace(row, stages=self.stages.get(job_id, ())) if row is not None and row.user_id == user_id else None

    def owners_of(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        self._called("owners_of")
        return {job_id: row.user_id for job_id in job_ids if (row := self._row(job_id)) is not None}

    def pending_uploads(self, user_id: str) -> Sequence[JobRecord]:
        self._called("pending_uploads")
        rows = [row for row in self.rows.values() if row.user_id == user_id and row.job_id is None]
        return sorted(rows, key=lambda row: row.started_at)

    def history(
        self, user_id: str, *, limit: int, after: PageKey | None, wanted: JobFilter = ALL_JOBS
    ) -> Sequence[JobRecord]:
        """Of the filters, the fake knows the one by status."""
        self._called("history")
        rows = [
            row
            for row in self.rows.values()
            if row.user_id == user_id
            and row.job is not None
            and (not row.job.is_terminal or not wanted.statuses or row.job.status in wanted.statuses)
        ]
        keys = {
            (row.started_at, row.upload_id): replace(row, stages=self.stages.get(str(row.job_id), ())) for row in rows
        }
        return [keys[key] for key in sorted(keys, reverse=True) if after is None or key < after][:limit]

    def completed_jobs(self, chip: str, size_class: int, *, limit: int) -> Sequence[CompletedJob]:
        self._called("completed_jobs")
        return self.completed.get((chip, size_class), ())[:limit]

    def _require_owner(self, user_id: str, job_id: str) -> None:
        row = self._row(job_id)
        if row is not None and row.user_id != user_id:
            raise OwnershipMismatchError("another user's")

    def _row(self, job_id: str) -> JobRecord | None:
        return next((row for row in self.rows.values() if row.job_id == job_id), None)


@dataclass
class MemoryLeases(Switch):
    """Leases without a time to live: `holders` is the truth, and a test may change it."""

    holders: dict[str, str] = field(default_factory=dict)
    renewals: list[str] = field(default_factory=list)
    #: The uploads by the names of their leases, and the names of those that have to end.
    uploads: dict[str, RunningUpload] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def acquire(
        self,
        name: str,
        holder: str,
        ttl_seconds: float,
        *,
        upload_id: str | None = None,
        total_bytes: int | None = None,
    ) -> bool:
        self._called("acquire")
        with self._guard:
            is_ours = self.holders.setdefault(name, holder) == holder
        if is_ours and upload_id is not None:
            self.ends.discard(name)
            self.uploads[name] = RunningUpload(
                holder, upload_id, datetime(2026, 3, 1, tzinfo=UTC), 0, total_bytes, is_complete=False
            )
        return is_ours

    def renew(self, name: str, holder: str, ttl_seconds: float, *, received_bytes: int | None = None) -> bool:
        self._called("renew")
        self.renewals.append(name)
        if received_bytes is not None and name in self.uploads:
            self.uploads[name] = replace(self.uploads[name], received_bytes=received_bytes)
        return self.holders.get(name) == holder

    def find_upload(self, name: str) -> RunningUpload | None:
        self._called("find_upload")
        return self.uploads.get(name) if name in self.holders else None

    def request_end(self, name: str, upload_id: str) -> RunningUpload | None:
        self._called("request_end")
        upload = self.uploads.get(name)
        if name not in self.holders or upload is None or upload.upload_id != upload_id:
            return None
        self.ends.add(name)
        return upload

    def requested_ends(self) -> Sequence[tuple[str, str]]:
        self._called("requested_ends")
        return [(name, self.uploads[name].holder) for name in self.ends if not self.uploads[name].is_complete]

    def note_complete(self, name: str, holder: str) -> None:
        self._called("note_complete")
        self.uploads[name] = replace(self.uploads[name], is_complete=True)

    def is_held(self, name: str) -> bool:
        self._called("is_held")
        return name in self.holders

    def release(self, name: str, holder: str) -> None:
        self._called("release")
        if self.holders.get(name) == holder:
            del self.holders[name]


@dataclass
class MemoryModels(Switch):
    """A ModelStore in a dictionary."""

    models: dict[str, Model] = field(default_factory=dict)

    def add(self, model: Model, *, quota_bytes: int | None = None) -> Model:
        self._called("add")
        for other in self._of(model.user_id):
            if other.source_job_id == model.source_job_id:
                return other
        if quota_bytes is not None and self.bytes_of(model.user_id) + model.size > quota_bytes:
            raise LibraryFullError(quota_bytes)
        self.models[model.id] = model
        return model

    def find_by_source_job_id(self, user_id: str, job_id: str) -> Model | None:
        self._called("find_by_source_job_id")
        return next((model for model in self._of(user_id) if model.source_job_id == job_id), None)

    def find_with_usage(self, user_id: str, job_id: str) -> tuple[Model | None, int]:
        return self.find_by_source_job_id(user_id, job_id), self.bytes_of(user_id)

    def model_ids_by_job(self, user_id: str, job_ids: Iterable[str]) -> Mapping[str, str]:
        self._called("model_ids_by_job")
        asked = set(job_ids)
        return {model.source_job_id: model.id for model in self._of(user_id) if model.source_job_id in asked}

    def find(self, user_id: str, model_id: str) -> Model | None:
        self._called("find")
        return next((model for model in self._of(user_id) if model.id == model_id), None)

    def page(
        self, user_id: str, *, limit: int, after: PageKey | None, wanted: ModelFilter = ALL_MODELS
    ) -> Sequence[Model]:
        """The fake filters nothing."""
        self._called("page")
        keys = {(model.created_at, model.id): model for model in self._of(user_id)}
        return [keys[key] for key in sorted(keys, reverse=True) if after is None or key < after][:limit]

    def rename(self, user_id: str, model_id: str, name: str) -> Model | None:
        self._called("rename")
        model = next((model for model in self._of(user_id) if model.id == model_id), None)
        if model is not None:
            self.models[model_id] = model = replace(model, name=name)
        return model

    def delete(self, user_id: str, model_id: str) -> bool:
        self._called("delete")
        return any(model.id == model_id for model in self._of(user_id)) and bool(self.models.pop(model_id))

    def bytes_of(self, user_id: str) -> int:
        return sum(model.size for model in self._of(user_id))

    def _of(self, user_id: str) -> list[Model]:
        return [model for model in self.models.values() if model.user_id == user_id]


class MemoryWriter:
    """A file in the making."""

    def __init__(self, storage: "MemoryStorage", key: str) -> None:
        self._storage = storage
        self._key = key
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._storage._called("write")
        self._data += data

    def commit(self) -> None:
        self._storage._called("commit")
        self._storage.files[self._key] = bytes(self._data)


@dataclass
class MemoryStorage(Switch):
    """A Storage in a dictionary; `writers` counts the files begun, committed or not."""

    files: dict[str, bytes] = field(default_factory=dict)
    writers: int = 0
    open_readers: int = 0

    @contextmanager
    def open_writer(self, key: str) -> Iterator[MemoryWriter]:
        self._called("open_writer")
        self.writers += 1
        yield MemoryWriter(self, key)

    @contextmanager
    def open_reader(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[Iterator[bytes]]:
        self._called("open_reader")
        if key not in self.files:
            raise FileNotFoundError(key)
        self.open_readers += 1
        try:
            yield iter([self.files[key][start:][:length]])
        finally:
            self.open_readers -= 1

    def delete(self, key: str) -> None:
        self._called("delete")
        self.files.pop(key, None)


@dataclass
class FakeTokenSource:
    """Stands for MC's token endpoint: counts the fetches and numbers the tokens."""

    scopes: list[str] = field(default_factory=list)
    failing: GatewayError | None = None
    expires_in: float = 3_600.0

    def __call__(self, scope: str, context: CallContext) -> IssuedToken:
        self.scopes.append(scope)
        if self.failing is not None:
            raise self.failing
        return IssuedToken(f"token-{len(self.scopes)}", issued_at=0.0, expires_in=self.expires_in)


def a_job(job_id: str = "job-1", status: str = "running", **fields: object) -> Job:
    """Return a job. Pass only what the test is about."""
    return Job(job_id, JobStatus(status), **fields)  # type: ignore[arg-type]


@dataclass
class FakeConverter:
    """The converter's client: `jobs` is what it knows, `failing` what every call but `create_job` raises.

    `before` runs at the beginning of each call, for tests that hold one up. `create` stands for an upload's outcome,
    given the message; by default the message is read to its end and `new-job` started.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    failing: GatewayError | None = None
    promotion: Promotion | GatewayError = field(default_factory=lambda: Promotion("a/b", "r.nef", None, None, None))
    before: Callable[[str], None] = lambda name: None
    create: Callable[[UploadMessage], Job] | None = None
    calls: list[str] = field(default_factory=list)
    sent: bytes = b""
    waiting: CountedWait = field(default_factory=CountedWait)

    def wait(self, call: Call, event: threading.Event, seconds: float) -> bool:
        return self.waiting(event, seconds)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)
        if self.failing is not None:
            raise self.failing

    def get_job(self, job_id: str, context: CallContext) -> Job:
        self._called(f"get {job_id}")
        if job_id not in self.jobs:
            raise JobNotFoundError("the converter answered 404")
        return self.jobs[job_id]

    def list_jobs(self, user_id: str, context: CallContext) -> list[Job]:
        self._called(f"list {user_id}")
        return [job for job in self.jobs.values() if self.owners.get(job.job_id) == user_id and not job.is_terminal]

    def promote(self, job_id: str, *, tenant_id: str, user_id: str, context: CallContext) -> Promotion:
        self._called(f"promote {job_id}")
        if isinstance(self.promotion, GatewayError):
            raise self.promotion
        return self.promotion

    def create_job(self, message: UploadMessage, context: CallContext) -> Job:
        self.calls.append("create")
        if self.create is not None:
            return self.create(message)
        self.sent = b"".join(message)
        return a_job("new-job", "queued")


@dataclass
class FakeFiles:
    """The FAA's client: gives `content` in pieces; `script` may do otherwise with the receiver."""

    content: bytes = b"the bytes of the result"
    failing: GatewayError | None = None
    script: Callable[[Receiver], int] | None = None
    pulls: int = 0

    def pull(self, object_key: str, receiver: Receiver, context: CallContext) -> int:
        self.pulls += 1
        if self.script is not None:
            return self.script(receiver)
        half = len(self.content) // 2
        receiver.write(self.content[:half])
        if self.failing is not None:
            raise self.failing
        receiver.write(self.content[half:])
        return len(self.content)

    def download_url(self, object_key: str, token: str) -> str:
        return f"https://files.example/files/{object_key}?access_token={token}"


@dataclass
class FakeMemberCenter:
    """MC's client: mints numbered download tokens and remembers for which objects."""

    minted: list[str] = field(default_factory=list)
    failing: GatewayError | None = None
    token_source: FakeTokenSource = field(default_factory=FakeTokenSource)

    def __post_init__(self) -> None:
        self.tokens = ServiceTokens(self.token_source, monotonic=lambda: 0.0)

    def mint_download_token(self, *, object_key: str, **_: object) -> DownloadToken:
        if self.failing is not None:
            raise self.failing
        self.minted.append(object_key)
        return DownloadToken(f"download-{len(self.minted)}", 300)
