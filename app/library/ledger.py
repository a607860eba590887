"""The job ledger: who owns which job, and its last known state. Implements the port `JobLedger`.

It stores what its callers have proved. It asks no upstream and decides nothing about ownership.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from app.domain.filters import ALL_JOBS, JobFilter
from app.domain.job import Job, JobError, JobStatus
from app.domain.job_record import JobRecord
from app.domain.stages import StageTime, observe
from app.domain.usual_time import CompletedJob, size_class
from app.errors import OwnershipMismatchError
from app.library.database import Database, UniqueViolationError
from app.library.search import contains_all, joined, parameter
from app.library.tables import is_completed, jobs, newest_first

_TERMINAL = [status.value for status in JobStatus if status.is_terminal]
_TRIES = 3


class SQLJobLedger:
    """The ledger in a database; see the port `JobLedger` for the methods. Thread-safe.

    Every method raises ModelStoreUnavailableError when the database fails. The `user_id` of a stored job is the
    row's owner, whether or not the converter repeated it.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        """Store the ledger in `database`. `clock` returns aware UTC times, for jobs that came without one."""
        self._database = database
        self._clock = clock

    def open_upload(self, upload_id: str, user_id: str, started_at: datetime) -> None:
        """Write the pending row of an upload. May be repeated."""
        with self._database.write() as connection:
            connection.execute(
                self._database.insert(jobs)
                .values(upload_id=upload_id, user_id=user_id, filename="", started_at=started_at)
                .on_conflict_do_nothing()
            )

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
        """Give the user's pending row its job. If that row is gone, insert one for the job.

        Raises OwnershipMismatchError, and changes nothing, if the job is another user's in the ledger.
        """
        sent = {
            "filename": filename,
            "size": size,
            "size_class": None if size is None else size_class(size),
            "advice": advice,
            "upload_facts": upload_facts,
            "usual_time": usual_time,
        }
        for turn in range(_TRIES):  # pragma: no branch - the last turn returns or raises
            try:
                with self._database.write() as connection:
                    # Nearly always the row is pending and the job has no other row: one statement.
                    if turn or not self._fill(connection, user_id, upload_id, job, sent):
                        self._assign(connection, user_id, upload_id, job, sent)
                return
            except UniqueViolationError:
                # The job has a row: a poll of the same user, for example, has just recorded it. It is visible now.
                if turn == _TRIES - 1:
                    raise

    @staticmethod
    def _fill(connection: Connection, user_id: str, upload_id: str, job: Job, sent: Mapping[str, Any]) -> bool:
        """Give the user's pending row its job. Return False if the row is not pending.

        `sent` has the columns that say what was sent.
        """
        filled = connection.execute(
            sa.update(jobs)
            .where(jobs.c.upload_id == upload_id, jobs.c.user_id == user_id, jobs.c.job_id.is_(None))
            .values(job_id=job.job_id, **sent, **_state(job))
            .returning(jobs.c.upload_id)
        )
        return filled.first() is not None

    def _assign(self, connection: Connection, user_id: str, upload_id: str, job: Job, sent: Mapping[str, Any]) -> None:
        upload = connection.execute(
            sa.select(jobs.c.job_id).where(jobs.c.upload_id == upload_id, jobs.c.user_id == user_id).with_for_update()
        ).one_or_none()
        if upload is not None and upload.job_id == job.job_id:
            # Another request has found the job in the converter's list and knows nothing of what was sent.
            connection.execute(
                sa.update(jobs).where(jobs.c.upload_id == upload_id, jobs.c.filename == "").values(**sent)
            )
            return
        owner = connection.execute(sa.select(jobs.c.user_id).where(jobs.c.job_id == job.job_id)).scalar_one_or_none()
        if owner is not None and owner != user_id:
            raise OwnershipMismatchError("the ledger has the job as another user's")
        if upload is not None and upload.job_id is None:
            if owner is None:
                self._fill(connection, user_id, upload_id, job, sent)
                return
            connection.execute(sa.delete(jobs).where(jobs.c.upload_id == upload_id))
        self._record(connection, user_id, job)
        connection.execute(sa.update(jobs).where(jobs.c.job_id == job.job_id, jobs.c.user_id == user_id).values(**sent))

    def discard_upload(self, upload_id: str) -> None:
        """Remove a pending row; a row with a job stays."""
        with self._database.write() as connection:
            connection.execute(sa.delete(jobs).where(jobs.c.upload_id == upload_id, jobs.c.job_id.is_(None)))

    def has_upload(self, upload_id: str) -> bool:
        """Return whether there is a row of this upload, with a job or without."""
        with self._database.read() as connection:
            found = connection.execute(sa.select(jobs.c.upload_id).where(jobs.c.upload_id == upload_id))
            return found.first() is not None

    def record_job(self, user_id: str, job: Job, *, last_look: datetime | None = None) -> JobRecord:
        """Store the newest known state of the user's job in one statement, and the times of its stages.

        An older state by `updated_at` never replaces a newer one, so responses may overtake each other, and a
        non-terminal state never replaces a terminal one. What a later response leaves out (parameters, times, the error
        of a failed job) stays. A response that is not stored does not change the stages either. Returns the record.
        Raises OwnershipMismatchError, and changes nothing, if the job is another user's in the ledger.
        """
        with self._database.write() as connection:
            return self._record(connection, user_id, job, last_look)

    def _record(self, connection: Connection, user_id: str, job: Job, last_look: datetime | None = None) -> JobRecord:
        now = self._clock()
        insert = self._database.insert(jobs).values(
            upload_id=uuid4().hex,
            user_id=user_id,
            job_id=job.job_id,
            filename="",
            # A converter whose clock is ahead must not pin its jobs to the top of the history.
            started_at=min(job.created_at or now, now),
            **_state(job),
        )
        has_ended = jobs.c.status.in_(_TERMINAL)
        is_newer = sa.func.coalesce(insert.excluded.updated_at >= jobs.c.updated_at, sa.true())
        taken = connection.execute(
            insert.on_conflict_do_update(
                index_elements=[jobs.c.job_id],
                set_={name: insert.excluded[name] for name in _state(job)},
                where=sa.and_(
                    jobs.c.user_id == user_id,
                    sa.or_(~has_ended, is_newer) if job.is_terminal else sa.and_(~has_ended, is_newer),
                ),
            ).returning(jobs)
        ).one_or_none()
        its_row = sa.and_(jobs.c.job_id == job.job_id, jobs.c.user_id == user_id)
        if taken is None:
            own = connection.execute(sa.select(jobs).where(its_row)).one_or_none()
            if own is None:
                raise OwnershipMismatchError("the ledger has the job as another user's")
            return _job_record(own)
        # The row is locked until the transaction ends, so what was just read is current.
        record = _job_record(taken)
        observed = observe(record.stages, job, now, last_look=last_look)
        if observed != record.stages:
            connection.execute(sa.update(jobs).where(its_row).values(stages=[_stage_dict(one) for one in observed]))
        return replace(record, stages=observed)

    def find_job(self, user_id: str, job_id: str) -> JobRecord | None:
        """Return the user's record of this job, or None."""
        found = self._select(sa.select(jobs).where(jobs.c.user_id == user_id, jobs.c.job_id == job_id))
        return found[0] if found else None

    def owners_of(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the owners of these jobs by job id, for jobs that the ledger has."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(jobs.c.job_id, jobs.c.user_id).where(jobs.c.job_id.in_(list(job_ids))))
            return {row.job_id: row.user_id for row in rows}

    def pending_uploads(self, user_id: str) -> Sequence[JobRecord]:
        """Return the user's rows without a job, oldest first."""
        return self._select(
            sa.select(jobs)
            .where(jobs.c.user_id == user_id, jobs.c.job_id.is_(None))
            .order_by(jobs.c.started_at, jobs.c.upload_id)
        )

    def history(
        self, user_id: str, *, limit: int, after: tuple[datetime, str] | None, wanted: JobFilter = ALL_JOBS
    ) -> Sequence[JobRecord]:
        """Return at most `limit` wanted records with a job after that key, newest first by (started_at, upload_id).

        A filter by status applies to jobs that have ended. The unfinished ones are always among them, because only the
        converter knows their status now.
        """
        own = sa.select(jobs).where(jobs.c.user_id == user_id, jobs.c.job_id.is_not(None), *_conditions(wanted))
        return self._select(newest_first(own, jobs.c.started_at, jobs.c.upload_id, limit=limit, after=after))

    def users_with_pending_uploads(self, *, started_before: datetime) -> Sequence[str]:
        """Return the users who have a pending row from before that time, which a crash may have left."""
        with self._database.read() as connection:
            return connection.scalars(
                sa.select(jobs.c.user_id)
                .where(jobs.c.job_id.is_(None), jobs.c.started_at < started_before)
                .distinct()
                .order_by(jobs.c.user_id)
            ).all()

    def discard_pending(self, user_id: str, *, started_before: datetime) -> int:
        """Remove the user's pending rows from before that time. Return how many."""
        with self._database.write() as connection:
            removed = connection.execute(
                sa.delete(jobs)
                .where(jobs.c.user_id == user_id, jobs.c.job_id.is_(None), jobs.c.started_at < started_before)
                .returning(jobs.c.upload_id)
            )
            return len(removed.all())

    def completed_jobs(self, chip: str, size_class: int, *, limit: int) -> Sequence[CompletedJob]:
        """Return the newest completed jobs of all users for this chip and class of size, at most `limit`.

        Jobs for which the converter did not say when they began and ended are left out.
        """
        statement = (
            sa.select(jobs.c.created_at, jobs.c.updated_at, jobs.c.stages)
            .where(is_completed, jobs.c.chip == chip, jobs.c.size_class == size_class)
            .where(jobs.c.created_at.is_not(None), jobs.c.updated_at.is_not(None))
            .order_by(jobs.c.started_at.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [
                CompletedJob(row.created_at, row.updated_at, _stage_times(row.stages))
                for row in connection.execute(statement)
            ]

    def _select(self, statement: sa.Select[Any]) -> list[JobRecord]:
        with self._database.read() as connection:
            return [_job_record(row) for row in connection.execute(statement)]


def _conditions(wanted: JobFilter) -> Iterator[sa.ColumnElement[bool]]:
    model_id, version = parameter(jobs.c.parameters, "model_id"), parameter(jobs.c.parameters, "version")
    if wanted.words:
        yield contains_all(joined(jobs.c.filename, model_id, version), wanted.words)
    if wanted.chip is not None:
        yield parameter(jobs.c.parameters, "platform") == wanted.chip
    if wanted.statuses:
        yield jobs.c.status.not_in([status for status in _TERMINAL if status not in wanted.statuses])
    if wanted.filename is not None:
        yield jobs.c.filename == wanted.filename
    if wanted.model_id is not None:
        yield model_id == str(wanted.model_id)


def _state(job: Job) -> dict[str, Any]:
    """Return the columns that this response of the converter sets."""
    state: dict[str, Any] = {"status": job.status.value, "stage": job.stage, "progress": job.progress}
    if job.parameters:
        state["parameters"] = dict(job.parameters)
        state["chip"] = job.chip
    if job.error is not None or job.status is not JobStatus.FAILED:
        state["error"] = job.error.as_dict() if job.error is not None else None
    if job.created_at is not None:
        state["created_at"] = job.created_at
    if job.updated_at is not None:
        state["updated_at"] = job.updated_at
    return state


def _job_record(row: Row[Any]) -> JobRecord:
    return JobRecord(
        upload_id=row.upload_id,
        user_id=row.user_id,
        job_id=row.job_id,
        filename=row.filename,
        size=row.size,
        started_at=row.started_at,
        job=None if row.job_id is None else _job(row),
        stages=_stage_times(row.stages),
        advice=row.advice,
        upload_facts=row.upload_facts,
        usual_time=row.usual_time,
    )


def _stage_dict(seen: StageTime) -> dict[str, Any]:
    return {
        "stage": seen.stage,
        "started_at": seen.started_at.isoformat(),
        "ended_at": seen.ended_at.isoformat() if seen.ended_at else None,
        "is_approximate": seen.is_approximate,
    }


def _stage_times(stored: list[dict[str, Any]] | None) -> tuple[StageTime, ...]:
    return tuple(
        StageTime(
            one["stage"],
            datetime.fromisoformat(one["started_at"]),
            datetime.fromisoformat(one["ended_at"]) if one["ended_at"] else None,
            one["is_approximate"],
        )
        for one in stored or ()
    )


def _job(row: Row[Any]) -> Job:
    return Job(
        job_id=row.job_id,
        # A status that a later version wrote is treated like an unknown status of the converter.
        status=JobStatus(row.status) if row.status in set(JobStatus) else JobStatus.RUNNING,
        user_id=row.user_id,
        stage=row.stage,
        progress=row.progress,
        created_at=row.created_at,
        updated_at=row.updated_at,
        parameters=row.parameters or {},
        error=JobError(**row.error) if row.error else None,
    )
