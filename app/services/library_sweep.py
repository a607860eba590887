"""The part of the sweep that changes the library: files without a record, and records without a file.

Four rules protect what is still in use. Only a pair is swept. Everything is left alone for an hour. What is found is
checked again under the lease of its job. And it stays in quarantine for seven days before it is removed.
"""

import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app import metrics
from app.domain.model import Model, job_of_storage_key
from app.errors import GatewayError
from app.library.models import SQLModelStore
from app.library.pairing import LibraryPair, PairState
from app.library.quarantine import QUARANTINE_TIME, Quarantine
from app.library.storage import FileStorage
from app.services.leases import HeldLease, LeaseHolder
from app.services.results import lease_name

log = structlog.get_logger(__name__)

UNTOUCHED_SECONDS = 3_600.0
#: Crashes leave at most this many records without a file, or files without a record. More means a lost storage or
#: database.
_MOST_REMNANTS = 10
_MOST_REMNANTS_SHARE = 0.05
_BATCH = 200


class _JobBusyError(GatewayError):
    """The job is being promoted, or its model deleted, so its files and records are in use."""


@dataclass(frozen=True, slots=True)
class LibrarySweep:
    """Sweeps one library. The caller holds the sweep's lease, which each step renews."""

    models: SQLModelStore
    storage: FileStorage
    pair: LibraryPair
    quarantine: Quarantine
    leases: LeaseHolder
    clock: Callable[[], datetime]

    def pair_state(self, lease: HeldLease) -> PairState:
        """Pair the database and the storage if that is safe, and return their state."""
        return self.pair.establish(lease.renew)

    def steps(self) -> dict[str, Callable[[HeldLease], int]]:
        """Return the steps by name, in their order, for a pair. Each returns the number of remnants that it handled."""
        return {
            "temporary_files": self._remove_temporaries,
            "restored": lambda lease: self.quarantine.restore_known(lease.renew),
            "files_without_record": self._quarantine_files,
            "records_without_file": self._quarantine_records,
            "quarantine": lambda lease: self.quarantine.remove_older(self.clock() - QUARANTINE_TIME, lease.renew),
        }

    def _remove_temporaries(self, _lease: HeldLease) -> int:
        return self.storage.remove_stale_temporaries(older_than_seconds=UNTOUCHED_SECONDS, is_in_use=self._is_in_use)

    def _is_in_use(self, key: str) -> bool:
        """Return whether a promote may be writing this file: it holds the lease of its job."""
        job_id = job_of_storage_key(key)
        return job_id is None or self.leases.is_held(lease_name(job_id))

    def _quarantine_files(self, lease: HeldLease) -> int:
        before = self.clock() - timedelta(seconds=UNTOUCHED_SECONDS)
        old = (file.key for file in self.storage.files() if file.modified_at < before and job_of_storage_key(file.key))
        orphans, seen = [], 0
        while keys := list(itertools.islice(old, _BATCH)):
            lease.renew()
            seen += len(keys)
            orphans += sorted(set(keys) - self.models.known_storage_keys(keys))
        if len(orphans) > max(_MOST_REMNANTS, seen * _MOST_REMNANTS_SHARE):
            metrics.SWEEP_ALARMS("database").inc()
            log.error("sweep.database_looks_lost", files=seen, files_without_record=len(orphans))
            return 0
        return sum(self._quarantine_file(key, lease) for key in orphans)

    def _quarantine_file(self, key: str, lease: HeldLease) -> bool:
        def move() -> bool:
            # A storage may report when a file was begun, so its record may be a second old.
            if self.models.known_storage_keys([key]):
                return False
            self.storage.quarantine(key, self.clock())
            log.warning("sweep.quarantined", remnant="file", key=key)
            return True

        return self._alone_with_job(str(job_of_storage_key(key)), lease, move)

    def _quarantine_records(self, lease: HeldLease) -> int:
        missing, seen = [], 0
        before = self.clock() - timedelta(seconds=UNTOUCHED_SECONDS)
        for model in self.models.all(batch_size=_BATCH, progress=lease.renew):
            seen += 1
            if model.created_at < before and not self.storage.has_file(model.storage_key):
                missing.append(model)
        if len(missing) > max(_MOST_REMNANTS, seen * _MOST_REMNANTS_SHARE):
            metrics.SWEEP_ALARMS("storage").inc()
            log.error("sweep.storage_looks_lost", records=seen, missing_files=len(missing))
            return 0
        return sum(self._quarantine_record(model, lease) for model in missing)

    def _quarantine_record(self, model: Model, lease: HeldLease) -> bool:
        def move() -> bool:
            if self.storage.has_file(model.storage_key) or not self.quarantine.add_record(model, self.clock()):
                return False
            log.warning("sweep.quarantined", remnant="record", key=model.storage_key)
            return True

        return self._alone_with_job(model.source_job_id, lease, move)

    def _alone_with_job(self, job_id: str, lease: HeldLease, work: Callable[[], bool]) -> bool:
        """Do the work under the lease of the job. Return False, and do nothing, if the job is in use."""
        lease.renew()
        try:
            with self.leases.held(lease_name(job_id), uuid.uuid4().hex, error=_JobBusyError):
                return work()
        except _JobBusyError:
            return False
