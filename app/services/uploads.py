"""One upload, from its lease to its job.

Before the body is read, an upload needs a slot, the user's upload lease, and a converter that lists no running job of
the user's. While the body streams, the lease is renewed. The outcome is exactly one of a job with an owner, a certain
refusal, and an unknown outcome; before the last is reported, the converter's list is searched for the job.
"""

import contextlib
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import structlog

from app import metrics
from app.clients.converter import ConverterClient, ConverterConflictError
from app.domain.call import CallContext, Deadline
from app.domain.job import Job
from app.domain.job_record import JobRecord
from app.domain.usual_time import UsualTime
from app.errors import (
    GatewayError,
    ModelStoreUnavailableError,
    OwnershipMismatchError,
    UploadInProgressError,
    UploadOutcomeUnknownError,
)
from app.services.advising import ModelReader
from app.services.deferred_writes import LEDGER, DeferredWrites
from app.services.leases import HeldLease, LeaseHolder
from app.services.ownership import JobOwnership
from app.services.ports import JobLedger
from app.services.running_uploads import RunningUploads
from app.services.transfers import Transfer, TransferKind, TransferSlots
from app.services.usual_times import UsualTimes
from app.streaming import Chunk
from app.streaming.ending import Ending
from app.streaming.multipart import UploadFacts, UploadMessage
from app.streaming.progress import UploadProgress
from app.version import VERSION

log = structlog.get_logger(__name__)


class ClientBody(Protocol):
    """A client's multipart message as it arrives, and the progress of the upload that it is."""

    progress: UploadProgress

    def __iter__(self) -> Generator[Chunk, None, None]: ...


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job that an upload has started, and what is known of the upload."""

    job: Job
    filename: str
    size: int | None
    model_sha256: str | None
    usual_time: UsualTime | None
    #: What the ledger has of the advice about the model; None if the message had no model.
    advice: Mapping[str, Any] | None
    #: As in `JobRecord`.
    reference_images: Mapping[str, int] | None


def lease_name(user_id: str) -> str:
    """Return the name of a user's upload lease."""
    return f"upload:{user_id}"


class UploadRunner:
    """Runs uploads. Thread-safe."""

    def __init__(
        self,
        converter: ConverterClient,
        ownership: JobOwnership,
        ledger: JobLedger,
        leases: LeaseHolder,
        slots: TransferSlots,
        *,
        running: RunningUploads,
        writes: DeferredWrites,
        usual_times: UsualTimes,
        max_parts: int,
        wants_digest: bool,
        clock: Callable[[], datetime],
        new_deadline: Callable[[], Deadline],
    ) -> None:
        self._converter = converter
        self._ownership = ownership
        self._ledger = ledger
        self._leases = leases
        self._running = running
        self._slots = slots
        self._writes = writes
        self._usual_times = usual_times
        self._max_parts = max_parts
        self._wants_digest = wants_digest
        self._clock = clock
        self._new_deadline = new_deadline

    def run(
        self, user_id: str, boundary: str, body: ClientBody, context: CallContext, *, public_id: str | None = None
    ) -> StartedJob:
        """Stream a client's multipart message to the converter as `user_id`'s and return the job that it started.

        `public_id` is the id by which the user may end the upload; without it the upload gets one.
        """
        upload_id = uuid.uuid4().hex
        with (
            self._slots.transfer(TransferKind.UPLOAD, user_id) as transfer,
            self._running.running(upload_id) as ending,
            self._leases.held(
                lease_name(user_id),
                upload_id,
                error=partial(self._in_progress, user_id),
                upload_id=public_id or upload_id,
                total_bytes=body.progress.announced_bytes,
            ) as lease,
        ):
            body.progress.ending = ending
            self.require_no_running_job(user_id, context)
            # Closed here, and not when it is garbage: it uses the client's connection until then.
            with contextlib.closing(_arriving(body, transfer, lease, ending)) as chunks:
                reader = ModelReader()
                message = UploadMessage(
                    chunks,
                    boundary,
                    user_id,
                    max_parts=self._max_parts,
                    wants_digest=self._wants_digest,
                    watcher=reader,
                    progress=body.progress,
                )
                try:
                    started = self._send(user_id, upload_id, message, reader, context)
                finally:
                    metrics.DROPPED_IDENTITIES().inc(message.facts.dropped_identities)
            facts = message.facts
            log.info(
                "upload.started_job",
                job_id=started.job.job_id,
                parts=facts.parts,
                dropped_identities=facts.dropped_identities,
                model_bytes=facts.model_bytes,
                model_sha256=facts.model_sha256,
            )
            return started

    def require_no_running_job(self, user_id: str, context: CallContext) -> None:
        """Raise ActiveJobConflictError, with the job, if the converter lists one as running."""
        running = self._ownership.running_jobs(user_id, context)
        if running:
            raise ConverterConflictError(running[0])

    def require_slot(self, user_id: str) -> None:
        """Raise UploadCapacityError or UploadInProgressError if an upload that begins now would."""
        with self._slots.slot(TransferKind.UPLOAD):
            pass
        if self._leases.is_held(lease_name(user_id)):
            raise self._in_progress(user_id, "the user's upload lease is held")

    def end(self, user_id: str, public_id: str) -> bool:
        """Have the user's running upload with this `public_id` end (see `RunningUploads.end`)."""
        return self._running.end(lease_name(user_id), public_id)

    def _in_progress(self, user_id: str, reason: str) -> UploadInProgressError:
        """Return the failure with the running upload, if that can be found."""
        upload = None
        with contextlib.suppress(ModelStoreUnavailableError):
            upload = self._running.find(lease_name(user_id))
        return UploadInProgressError(reason, extensions={"upload": upload} if upload else None)

    def _send(
        self, user_id: str, upload_id: str, message: UploadMessage, reader: ModelReader, context: CallContext
    ) -> StartedJob:
        """Send the message and record the job that it started, with the advice about its model."""
        upload = JobRecord(upload_id, user_id, None, "", None, self._clock(), None)
        try:
            self._ledger.open_upload(upload_id, user_id, upload.started_at)
        except ModelStoreUnavailableError:
            # The row may have been written after all.
            self._writes.add(LEDGER, f"upload {upload_id}", lambda: self._ledger.discard_upload(upload_id))
            raise
        try:
            job = self._converter.create_job(message, context)
            return self._noted(upload, job, message.facts, reader)
        except (UploadOutcomeUnknownError, OwnershipMismatchError) as failure:
            # A response with another user's job is as good as none.
            cause = failure
        except GatewayError:
            self._writes.write(LEDGER, f"upload {upload_id}", lambda: self._ledger.discard_upload(upload_id))
            raise
        with contextlib.suppress(GatewayError):
            # The request's own deadline was for the calls before the body; this one has a deadline of its own.
            fresh = CallContext(self._new_deadline(), context.correlation)
            found = self._ownership.find_started(upload, fresh)
            if found is not None:
                return self._noted(upload, found, message.facts, reader)
        # The pending row stays: it is matched when the converter's list shows the job.
        raise UploadOutcomeUnknownError(cause.reason) from cause

    def _noted(self, upload: JobRecord, job: Job, facts: UploadFacts, reader: ModelReader) -> StartedJob:
        # Not before the job has started: the converter does not wait for it.
        advice = reader.stored_advice()
        usual_time = self._usual_times.of(job.chip, facts.model_bytes)
        self._ownership.note_started(
            upload,
            job,
            filename=facts.filename,
            size=facts.model_bytes,
            upload_facts={
                "ended_at": self._clock().isoformat(),
                "model_sha256": facts.model_sha256,
                "ref_images": facts.ref_images,
                "ref_image_bytes": facts.ref_image_bytes,
                "ref_image_names": facts.ref_image_names,
                "gateway_version": VERSION,
            },
            usual_time=usual_time.as_dict() if usual_time else None,
            advice=advice,
        )
        images = {"count": facts.ref_images, "size": facts.ref_image_bytes}
        return StartedJob(job, facts.filename, facts.model_bytes, facts.model_sha256, usual_time, advice, images)


def _arriving(body: ClientBody, transfer: Transfer, lease: HeldLease, ending: Ending) -> Generator[Chunk, None, None]:
    """Pass the body's chunks on, and renew the lease as they arrive and once more before the response is awaited.

    Raises UploadEndedError if the upload has to end. After the last chunk it is too late for that.
    """
    progress = body.progress
    with contextlib.closing(iter(body)) as chunks:
        for chunk in chunks:
            transfer.reached(progress.received_bytes)
            lease.renew(received_bytes=progress.received_bytes)
            yield chunk
    lease.renew(received_bytes=progress.received_bytes, is_before_long_step=True)
    ending.complete()
