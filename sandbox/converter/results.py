"""Making a job's result and registering it as an object that the File Access Agent can serve.

The first promote makes the result, under a lock per job. It becomes visible only when it is complete. If two processes
promote the same job at once, they make the same bytes, so it does not matter whose rename is last.
"""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from sandbox.converter.jobs import MODEL_FILE, Jobs
from sandbox.converter.progress import Job
from sandbox.data_directory import DataDirectory
from sandbox.file_access.objects import Objects, StoredObject
from sandbox.object_keys import as_segment
from sandbox.result import expected_result


class Results:
    """Promotes completed jobs. Thread-safe."""

    def __init__(self, data: DataDirectory, jobs: Jobs) -> None:
        self._data = data
        self._jobs = jobs
        self._objects = Objects(data)
        self._locks = _LocksByName()

    def promote(self, job: Job, tenant_id: str) -> StoredObject:
        """Return the job's result as an object, the same for every call."""
        object_key = object_key_of(job, tenant_id)
        with self._locks.locked(job.job_id):
            return self._objects.find(object_key) or self._make(job, object_key)

    def _make(self, job: Job, object_key: str) -> StoredObject:
        directory = self._jobs.directory_of(job.job_id)
        draft = directory / f".result-{secrets.token_hex(8)}"
        digest = hashlib.sha256()
        with (directory / MODEL_FILE).open("rb") as model, draft.open("wb") as file:
            for piece in expected_result(model, job.parameters):
                digest.update(piece)
                file.write(piece)
            size = file.tell()
        path = draft.replace(directory / "result")
        stored = StoredObject(
            object_key=object_key,
            path=os.fspath(path.relative_to(self._data.path)),
            filename=f"{stem_of(job)}_kl{job.parameters['platform']}.nef",
            size=size,
            sha256=digest.hexdigest(),
            content_type="application/octet-stream",
            modified_at=time.time(),
        )
        self._objects.add(stored)
        return stored


def stem_of(job: Job) -> str:
    """Return the model's name without its extension, safe for a key and a file name."""
    return as_segment(PurePosixPath(job.model_filename.replace("\\", "/")).stem, "model")


def object_key_of(job: Job, tenant_id: str) -> str:
    """Return a key with blanks, `+`, `%` and Chinese, so that a wrong encoding fails at once."""
    user = as_segment(job.user_id, "user")
    return f"{as_segment(tenant_id, 'tenant')}/{user}/{job.job_id}/{stem_of(job)} 已轉換 a+b 100%.nef"


class _LocksByName:
    """One lock per name; a name takes memory only while its lock is held."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        with self._guard:
            lock, holders = self._locks.get(name, (threading.Lock(), 0))
            self._locks[name] = (lock, holders + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, holders = self._locks.pop(name)
                if holders > 1:
                    self._locks[name] = (lock, holders - 1)
