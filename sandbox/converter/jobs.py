"""Jobs on disk: one row and one directory each.

The transaction that adds a job also checks that the user has no active job. So of two uploads that end at the same
time, in any process, only one becomes a job.
"""

import json
import os
import shutil
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any, Final

from sandbox.converter.progress import FORCEABLE, Job
from sandbox.data_directory import DataDirectory

MODEL_FILE: Final = "model"


class ActiveJobExistsError(Exception):
    """The user already has a job that has not ended."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.job_id)
        self.job = job


class JobNotFoundError(LookupError):
    """No job has this id."""


class Jobs:
    """The converter's jobs. Safe for several threads and processes."""

    def __init__(self, data: DataDirectory) -> None:
        self._data = data

    def directory_of(self, job_id: str) -> Path:
        return self._data.jobs / job_id

    def find_active(self, user_id: str) -> Job | None:
        with self._data.reading() as database:
            return _find_active(database, user_id)

    def get(self, job_id: str) -> Job:
        """Return the job; raise JobNotFoundError if there is none."""
        with self._data.reading() as database:
            return _get(database, job_id)

    def find_owner(self, job_id: str) -> str | None:
        try:
            return self.get(job_id).user_id
        except JobNotFoundError:
            return None

    def of_user(self, user_id: str) -> list[Job]:
        """Return the user's jobs, newest first."""
        with self._data.reading() as database:
            return _of_user(database, user_id)

    def add(
        self, user_id: str, model_filename: str, parameters: dict[str, Any], duration_seconds: float, upload: Path
    ) -> Job:
        """Turn the directory of an upload into a job; raise ActiveJobExistsError and leave the directory as it is."""
        job_id = uuid.uuid4().hex
        now = time.time()
        with self._data.writing() as database:
            if active := _find_active(database, user_id):
                raise ActiveJobExistsError(active)
            # Move the directory before the row names it: a crash in between leaves an unused directory, not a bad job.
            upload.rename(self.directory_of(job_id))
            database.execute(
                "INSERT INTO jobs (job_id, user_id, model_filename, parameters, created_at, duration_seconds,"
                " clock_at, clock_elapsed, clock_speed, forced) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 1, '{}')",
                (job_id, user_id, model_filename, json.dumps(parameters), now, duration_seconds, now),
            )
            return _get(database, job_id)

    def force(self, job_id: str, changes: dict[str, Any]) -> Job:
        """Show given values instead of computed ones (None in `status` ends that), or change the clock's `speed`."""
        now = time.time()
        with self._data.writing() as database:
            job = _get(database, job_id)
            forced = dict(job.forced)
            shown = {name: value for name, value in changes.items() if name in FORCEABLE}
            if shown:
                forced = {} if shown.get("status", "") is None else forced | shown | {"at": now}
            speed = changes.get("speed", job.clock_speed)
            database.execute(
                "UPDATE jobs SET forced = ?, clock_at = ?, clock_elapsed = ?, clock_speed = ? WHERE job_id = ?",
                (json.dumps(forced), now, job.elapsed_at(now), speed, job_id)
                if "speed" in changes
                else (json.dumps(forced), job.clock_at, job.clock_elapsed, job.clock_speed, job_id),
            )
            return _get(database, job_id)

    def forget_all(self) -> None:
        """Remove every job and what was promoted from it."""
        with self._data.writing() as database:
            database.execute("DELETE FROM jobs")
            database.execute("DELETE FROM objects WHERE path LIKE ?", (f"{self._data.jobs.name}{os.sep}%",))
        for directory in self._data.jobs.iterdir():
            shutil.rmtree(directory, ignore_errors=True)


def _get(database: sqlite3.Connection, job_id: str) -> Job:
    row = database.execute("SELECT * FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    return _job_of(row)


def _of_user(database: sqlite3.Connection, user_id: str) -> list[Job]:
    rows = database.execute("SELECT * FROM jobs WHERE user_id = ? ORDER BY number DESC", (user_id,))
    return [_job_of(row) for row in rows]


def _find_active(database: sqlite3.Connection, user_id: str) -> Job | None:
    now = time.time()
    return next((job for job in _of_user(database, user_id) if not job.state_at(now).is_terminal), None)


def _job_of(row: sqlite3.Row) -> Job:
    facts = dict(row)
    del facts["number"]
    return Job(**(facts | {"parameters": json.loads(row["parameters"]), "forced": json.loads(row["forced"])}))
