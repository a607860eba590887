"""Conversions: upload, poll, promote and download a job, list the jobs so far, and find the running one.

Every method takes the user id of the session, and nothing else says who asks. Before a method does anything with a job,
it proves once that the job is this user's.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from app import metrics
from app.clients.converter import SCOPE_WRITE, ConverterClient, ConverterConflictError, Promotion
from app.clients.file_access import FileAccessClient
from app.clients.member_center import MemberCenterClient
from app.domain.call import CallContext, Deadline
from app.domain.filters import ALL_JOBS, JobFilter
from app.domain.job import Job, JobError, JobStatus, is_job_id
from app.domain.job_record import JobRecord
from app.domain.model import Model, clean_filename
from app.domain.stages import StageTime
from app.errors import (
    ActiveJobConflictError,
    Blame,
    DeadlineExceededError,
    GatewayError,
    JobFailedError,
    JobNotCompletedError,
    JobNotFoundError,
    ModelStoreUnavailableError,
)
from app.services.advising import JobAdvice, job_advice
from app.services.leases import LeaseHolder
from app.services.notes import JobNotes
from app.services.ownership import JobOwnership
from app.services.paging import decode_cursor, encode_cursor
from app.services.polls import PolledJobs
from app.services.ports import JobLedger, ModelStore
from app.services.results import ResultPuller, lease_name
from app.services.transfers import TransferKind, TransferSlots
from app.services.uploads import ClientBody, UploadRunner
from app.services.usual_times import UsualTimes

log = structlog.get_logger(__name__)

#: The most calls to the converter for one page of the history, and the most seconds for all of them.
_MOST_REFRESHES = 5
_REFRESH_SECONDS = 1.0
_LOST_AFTER = timedelta(minutes=5)
_LOST = JobError("job_lost", "The converter no longer knows this job.")


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner may see it: the converter's state and what the gateway adds."""

    job: Job
    filename: str
    size: int | None
    model_id: str | None
    started_at: datetime | None = None
    #: When the gateway saw the stages begin and end.
    stages: Sequence[StageTime] = ()
    #: The digest of the model that an upload has just sent, if the settings ask for one.
    model_sha256: str | None = None
    #: How long such a job usually took when this one started, as `UsualTime.as_dict` represents it.
    usual_time: Mapping[str, Any] | None = None
    #: What the advice about the model said when the job started. None if the upload's response was lost.
    advice: JobAdvice | None = None
    #: Number and size in bytes of the reference images. None if the upload's response was lost.
    reference_images: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a user sent for a job, and the result that is in the library, if any."""

    record: JobRecord
    job: Job
    model: Model | None


@dataclass(frozen=True, slots=True)
class Download:
    """The result that a download would give."""

    filename: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionService:
    """The conversion operations. Thread-safe.

    Besides what each method names, any may raise the failures of the upstreams and of the database, and
    DeadlineExceededError.
    """

    converter: ConverterClient
    files: FileAccessClient
    member_center: MemberCenterClient
    ownership: JobOwnership
    polled_jobs: PolledJobs
    uploads: UploadRunner
    usual_times: UsualTimes
    results: ResultPuller
    ledger: JobLedger
    notes: JobNotes
    models: ModelStore
    leases: LeaseHolder
    slots: TransferSlots
    tenant_id: str
    clock: Callable[[], datetime]
    new_deadline: Callable[[], Deadline]

    def init_job(
        self, user_id: str, boundary: str, body: ClientBody, context: CallContext, *, upload_id: str | None = None
    ) -> JobView:
        """Stream a multipart message to the converter and return the job that it started.

        `upload_id` is the client's id for the upload, for `end_upload`.
        Raises ActiveJobConflictError (with the running job as `active_job`), UploadInProgressError (with the running
        upload as `upload`), UploadEndedError, UploadCapacityError, what reading the body raises,
        ConverterRejectedError, UploadOutcomeUnknownError.
        """
        try:
            started = self.uploads.run(user_id, boundary, body, context, public_id=upload_id)
        except ConverterConflictError as conflict:
            raise self._conflict(user_id, conflict, context) from conflict
        self.polled_jobs.forget(started.job.job_id)
        return JobView(
            started.job,
            started.filename,
            started.size,
            model_id=None,
            model_sha256=started.model_sha256,
            usual_time=started.usual_time.as_dict() if started.usual_time else None,
            advice=job_advice(started.advice),
            reference_images=started.reference_images,
        )

    def end_upload(self, user_id: str, upload_id: str) -> bool:
        """Have the user's running upload with this id of the client's end. No job is started then.

        Return False if its process has not confirmed that yet. Raises UploadNotFoundError and UploadCompleteError.
        """
        return self.uploads.end(user_id, upload_id)

    def check_upload(self, user_id: str, context: CallContext) -> None:
        """Raise what an upload that begins now would raise before its body is read. Starts nothing."""
        self.uploads.require_slot(user_id)
        try:
            self.uploads.require_no_running_job(user_id, context)
        except ConverterConflictError as conflict:
            raise self._conflict(user_id, conflict, context) from conflict
        self.member_center.tokens.service_token(SCOPE_WRITE, context)

    def get_active_job(self, user_id: str, context: CallContext) -> JobView | None:
        """Return the user's running job from the converter's list, or None."""
        jobs = self.ownership.running_jobs(user_id, context)
        if not jobs:
            return None
        self.notes.note(user_id, jobs[0])
        return self._view(user_id, jobs[0])

    def get_job(self, user_id: str, job_id: str, context: CallContext) -> JobView:
        """Return the user's job as it is now.

        Raises JobNotFoundError both for a job of another user and for one that does not exist.
        """
        self._require(user_id, job_id, context)
        return self._view(user_id, self._current(user_id, job_id, context))

    def get_receipt(self, user_id: str, job_id: str) -> Receipt:
        """Return what the user sent for this job and what came back, as the ledger and the library know it.

        No upstream is asked. Raises JobNotFoundError, and ModelStoreUnavailableError.
        """
        record = self.ledger.find_job(user_id, job_id) if is_job_id(job_id) else None
        if record is None or record.job is None:
            raise JobNotFoundError("malformed, or not in the ledger as the caller's")
        return Receipt(record, record.job, self.models.find_by_source_job_id(user_id, job_id))

    def _require(self, user_id: str, job_id: str, context: CallContext) -> None:
        """Prove that the job is the user's. Raises what `JobOwnership.require` raises."""
        record = self.ownership.require(user_id, job_id, context)
        if record is not None:
            self.notes.learn(record)

    def history(
        self, user_id: str, limit: int, cursor: str | None, context: CallContext, wanted: JobFilter = ALL_JOBS
    ) -> tuple[Sequence[JobView], str | None]:
        """Return a page of the wanted jobs of the user, newest first, and the cursor of the next page, or None.

        A filter by status is about the states that are returned. So a page may have fewer than `limit` jobs, or none,
        before the last one: the ledger does not know how its unfinished jobs have ended.
        """
        records = self.ledger.history(user_id, limit=limit + 1, after=decode_cursor(cursor), wanted=wanted)
        page = [(record, record.job) for record in records[:limit] if record.job is not None]
        for record, _ in page:
            self.notes.learn(record)
        current = self._refreshed(user_id, [job for _, job in page], context)
        if wanted.statuses:
            page = [(record, job) for record, job in page if current.get(job.job_id, job).status in wanted.statuses]
        model_ids = self.models.model_ids_by_job(user_id, [job.job_id for _, job in page])
        views = [
            JobView(
                current.get(job.job_id, job),
                record.filename,
                record.size,
                model_ids.get(job.job_id),
                record.started_at,
                self.notes.stages_of(user_id, job.job_id) if job.job_id in current else record.stages,
                usual_time=record.usual_time,
                advice=job_advice(record.advice),
                reference_images=record.reference_images,
            )
            for record, job in page
        ]
        last = records[limit - 1] if len(records) > limit else None
        return views, encode_cursor((last.started_at, last.upload_id)) if last else None

    def _refreshed(self, user_id: str, jobs: Sequence[Job], context: CallContext) -> dict[str, Job]:
        """Return the newest state of the first unfinished jobs, by job id, as far as the converter tells it in time.

        Calls and time are bounded, so that a slow converter does not hold up a list.
        """
        stale = [job for job in jobs if not job.is_terminal][:_MOST_REFRESHES]
        budget = CallContext(
            Deadline(context.deadline.clip(_REFRESH_SECONDS)), context.correlation, has_short_deadline=True
        )
        current: dict[str, Job] = {}
        for job in stale:
            try:
                current[job.job_id] = self._current(user_id, job.job_id, budget)
            except DeadlineExceededError:
                break
            except GatewayError as failure:
                log.info("history.refresh_failed", job_id=job.job_id, code=failure.code)
        return current

    def promote_to_models(self, user_id: str, job_id: str, context: CallContext) -> tuple[Model, bool]:
        """Store the job's result in the user's library. Return the model, and whether this call stored it.

        May be repeated. Raises JobNotFoundError, JobNotCompletedError, JobFailedError, TooManyRequestsError,
        UploadCapacityError, PromoteFailedError, ResultMissingError, ResultCorruptError, StorageUnavailableError.
        """
        try:
            model, is_new = self._promote(user_id, job_id, context)
        except GatewayError as failure:
            metrics.PROMOTES("refused" if failure.entry.blame is Blame.USER else "failed").inc()
            raise
        metrics.PROMOTES("new" if is_new else "existing").inc()
        return model, is_new

    def _promote(self, user_id: str, job_id: str, context: CallContext) -> tuple[Model, bool]:
        self._require(user_id, job_id, context)
        existing = self.models.find_by_source_job_id(user_id, job_id)
        if existing is not None:
            return existing, False
        job = self._completed_job(user_id, job_id, context)
        with (
            # The slot first: a promote that waits for the lease holds a thread, and slots limit those.
            self.slots.transfer(TransferKind.PULL, user_id) as transfer,
            self.leases.awaited(lease_name(job_id), uuid.uuid4().hex, context.deadline) as lease,
        ):
            existing, used_bytes = self.models.find_with_usage(user_id, job_id)
            if existing is not None:
                transfer.was_not_needed()
                return existing, False
            promotion = self._promotion(user_id, job_id, context)
            filename = self.notes.upload_of(user_id, job_id).filename
            model = self.results.pull(
                user_id,
                job,
                promotion,
                source_filename=filename,
                used_bytes=used_bytes,
                lease=lease,
                transfer=transfer,
                context=context,
            )
            return model, True

    def download_redirect_url(self, user_id: str, job_id: str, context: CallContext) -> str:
        """Return the URL, with a short-lived token, from which the user's browser fetches the result.

        The URL is a secret: send it in a Location header and nowhere else. Raises what promote_to_models raises, and
        DownloadTokenFailedError, MCTokenUnavailableError.
        """
        promotion = self._result(user_id, job_id, context)
        token = self.member_center.mint_download_token(
            tenant_id=self.tenant_id, user_id=user_id, object_key=promotion.object_key, context=context
        )
        return self.files.download_url(promotion.object_key, token.token)

    def check_download(self, user_id: str, job_id: str, context: CallContext) -> Download:
        """Return what a download would give, without requesting a token. Raises what it would raise before that."""
        promotion = self._result(user_id, job_id, context)
        return Download(clean_filename(promotion.filename or "", f"{job_id}.nef"), promotion.size)

    def _result(self, user_id: str, job_id: str, context: CallContext) -> Promotion:
        self._require(user_id, job_id, context)
        self._completed_job(user_id, job_id, context)
        return self._promotion(user_id, job_id, context)

    def _promotion(self, user_id: str, job_id: str, context: CallContext) -> Promotion:
        return self.converter.promote(job_id, tenant_id=self.tenant_id, user_id=user_id, context=context)

    def _completed_job(self, user_id: str, job_id: str, context: CallContext) -> Job:
        """Return the job if it is completed; raise the failure that says why there is no result if not."""
        job = self._current(user_id, job_id, context)
        if not job.is_terminal:
            # The cache may be a second behind what another worker has just told the caller.
            self.polled_jobs.forget(job_id)
            job = self._current(user_id, job_id, context)
        if job.status is JobStatus.COMPLETED:
            return job
        if job.is_terminal:
            raise JobFailedError(
                f"the job is {job.status}", extensions={"job_error": job.error.as_dict() if job.error else None}
            )
        raise JobNotCompletedError(f"the job is {job.status}")

    def _current(self, user_id: str, job_id: str, context: CallContext) -> Job:
        """Return the newest state of a job that is the user's."""
        try:
            job = self.polled_jobs.get(job_id, context)
        except JobNotFoundError:
            record = self.notes.find_record(user_id, job_id)
            remembered = self._remembered(record) if record else None
            if remembered is None:
                raise
            return remembered
        self.ownership.check_owner(user_id, job)
        self.notes.note(user_id, job)
        return job

    def _remembered(self, record: JobRecord) -> Job | None:
        """Return the ledger's state of a job that the converter does not know (any more), or None for a new job.

        The converter may forget jobs that have ended; the ledger has their outcome. A job that the converter forgets
        while it should be running has failed, or else its owner would wait forever. A new one may not be listed yet.
        """
        job = record.job
        if job is None or job.is_terminal:
            return job
        if self.clock() - max(record.started_at, job.created_at or record.started_at) < _LOST_AFTER:
            return None
        return replace(job, status=JobStatus.FAILED, error=_LOST)

    def _view(self, user_id: str, job: Job) -> JobView:
        upload = self.notes.upload_of(user_id, job.job_id)
        stages = self.notes.stages_of(user_id, job.job_id)
        return JobView(
            job,
            upload.filename,
            upload.size,
            self._model_id(user_id, job),
            upload.started_at,
            stages,
            usual_time=upload.usual_time,
            advice=self.notes.advice_of(user_id, job.job_id),
            reference_images=upload.reference_images,
        )

    def _model_id(self, user_id: str, job: Job) -> str | None:
        if job.status is not JobStatus.COMPLETED:
            return None
        try:
            model = self.models.find_by_source_job_id(user_id, job.job_id)
        except ModelStoreUnavailableError:
            log.warning("models.find_failed", job_id=job.job_id)
            return None
        return model.id if model else None

    def _conflict(self, user_id: str, conflict: ConverterConflictError, context: CallContext) -> ActiveJobConflictError:
        """Return the failure with the running job's view. The converter is asked for the job if it did not name it."""
        try:
            named = [] if conflict.job is None else self.ownership.accept(user_id, [conflict.job])
            # After a long upload the request's own deadline is over.
            fresh = replace(context, deadline=self.new_deadline())
            job = next(iter(named or self.ownership.running_jobs(user_id, fresh)), None)
        except GatewayError:
            job = None
        view = self._view(user_id, job) if job is not None else None
        return ActiveJobConflictError(conflict.reason, retry_after_seconds=5, extensions={"active_job": view})
