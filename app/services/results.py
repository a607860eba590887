"""From a promoted result to a model in the library: pull, check, store, record.

Promotes of one job take turns by the job's lease, in all processes, and so does deleting its model. The second promote
finds the model of the first one (`find_with_usage`). A model is not visible before it is complete and checked.

The user's quota is checked before the pull if the size is announced, and during it. Of two results that fit alone but
not together, the database accepts one (`ModelStore.add`).
"""

import hashlib
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime

import structlog

from app.clients.converter import Promotion
from app.clients.file_access import FileAccessClient
from app.domain.call import CallContext
from app.domain.job import Job
from app.domain.model import Model, clean_filename, stem_of, storage_key_of
from app.errors import GatewayError, LibraryFullError, ModelStoreUnavailableError, ResultCorruptError
from app.services.leases import HeldLease
from app.services.ports import ModelStore, Storage, StorageWriter
from app.services.transfers import Transfer

log = structlog.get_logger(__name__)

DEFAULT_CONTENT_TYPE = "application/octet-stream"


def lease_name(job_id: str) -> str:
    """Return the name of the lease that promoting a job and deleting its model share."""
    return f"job:{job_id}"


class ResultPuller:
    """Pulls results into the library. Thread-safe; the caller holds the job's lease and a transfer slot."""

    def __init__(
        self,
        files: FileAccessClient,
        storage: Storage,
        models: ModelStore,
        quota_bytes: int | None,
        clock: Callable[[], datetime],
        *,
        require_pair: Callable[[], None],
    ) -> None:
        """`quota_bytes` is how much one user may store; None means no limit.

        `require_pair` raises StorageMismatchError if the storage and the database do not belong together.
        """
        self._files = files
        self._storage = storage
        self._models = models
        self._quota_bytes = quota_bytes
        self._clock = clock
        self._require_pair = require_pair

    def pull(
        self,
        user_id: str,
        job: Job,
        promotion: Promotion,
        *,
        source_filename: str,
        used_bytes: int,
        lease: HeldLease,
        transfer: Transfer,
        context: CallContext,
    ) -> Model:
        """Pull the promoted result, check it, store it and record it as the user's model.

        `used_bytes` is the size of the user's models so far.

        Raises ResultCorruptError if size or SHA-256 differ from the announced ones, LibraryFullError, and what pulling,
        storing and recording raise. Then nothing is left behind, unless the database fails while the model is recorded:
        the record may have been written, so the file stays for the sweep.
        """
        self._require_pair()
        quota = _Quota(self._quota_bytes, used_bytes)
        quota.require_space(promotion.size or 0)
        model_id = uuid.uuid4().hex
        storage_key = storage_key_of(job.job_id, model_id)
        with _StoredResult(self._storage, storage_key, lease, quota, transfer) as result:
            size = self._files.pull(promotion.object_key, result, context)
            sha256 = result.sha256
            _check(promotion, size, sha256)
            lease.renew(is_before_long_step=True)
            result.commit()
        filename = _filename(promotion, job, source_filename)
        model = Model(
            id=model_id,
            user_id=user_id,
            source_job_id=job.job_id,
            name=stem_of(source_filename) or stem_of(filename),
            platform=job.chip or "",
            filename=filename,
            size=size,
            sha256=sha256,
            content_type=promotion.content_type or DEFAULT_CONTENT_TYPE,
            storage_key=storage_key,
            created_at=self._clock(),
            is_verified=promotion.sha256 is not None,
            model_id=job.parameter("model_id"),
            version=job.parameter("version"),
        )
        return self._record(model)

    def _record(self, model: Model) -> Model:
        try:
            recorded = self._models.add(model, quota_bytes=self._quota_bytes)
        except ModelStoreUnavailableError:
            # The commit may have succeeded although its response was lost. The sweep removes a file without a record.
            raise
        except GatewayError:
            # A file without a record is of no use. If it cannot be removed now, the sweep removes it.
            self._remove(model.storage_key)
            raise
        if recorded.id != model.id:
            self._remove(model.storage_key)
        return recorded

    def _remove(self, storage_key: str) -> None:
        try:
            self._storage.delete(storage_key)
        except GatewayError as failure:
            log.warning("storage.delete_failed", code=failure.code)


@dataclass(frozen=True, slots=True)
class _Quota:
    """How much one user may store, None for no limit, and how much of that was in use before the pull."""

    quota_bytes: int | None
    used_bytes: int

    def require_space(self, size: int) -> None:
        """Raise LibraryFullError if `size` more bytes do not fit."""
        if self.quota_bytes is not None and self.used_bytes + size > self.quota_bytes:
            raise LibraryFullError(self.quota_bytes)


class _StoredResult(AbstractContextManager["_StoredResult"]):
    """Writes a pull to a file that becomes visible at `commit`, and hashes it on the way."""

    def __init__(self, storage: Storage, key: str, lease: HeldLease, quota: _Quota, transfer: Transfer) -> None:
        self._storage = storage
        self._key = key
        self._lease = lease
        self._quota = quota
        self._transfer = transfer
        self._open = ExitStack()
        self._begin()

    def _begin(self) -> None:
        self._hash = hashlib.sha256()
        self._size = 0
        self._writer: StorageWriter = self._open.enter_context(self._storage.open_writer(self._key))

    def write(self, data: bytes) -> None:
        self._lease.renew()
        self._size += len(data)
        self._transfer.moved(len(data))
        self._quota.require_space(self._size)
        self._hash.update(data)
        self._writer.write(data)

    def restart(self) -> None:
        self._open.close()  # removes the incomplete file
        self._begin()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def commit(self) -> None:
        self._writer.commit()

    def __exit__(self, *_exception: object) -> None:
        self._open.close()


def _check(promotion: Promotion, size: int, sha256: str) -> None:
    if promotion.size is not None and promotion.size != size:
        raise ResultCorruptError(f"{size} bytes were received, {promotion.size} were announced")
    if promotion.sha256 is not None and promotion.sha256 != sha256:
        raise ResultCorruptError("the SHA-256 differs from the announced one")


def _filename(promotion: Promotion, job: Job, source_filename: str) -> str:
    default = f"{stem_of(source_filename) or job.job_id}.nef"
    return clean_filename(promotion.filename or default, f"{job.job_id}.nef")
