"""The sweep's part that touches the library: files that no record names, and records whose file is missing.

Nothing is removed here that could still be somebody's. Only a pair is swept, everything is left alone for an hour,
what is found is looked at again under the lease of its job, and then it stays in quarantine for a week.
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
from app.services.leases import HeldLease, LeaseKeeper
from app.services.results import lease_name

log = structlog.get_logger(__name__)

UNTOUCHED_SECONDS = 3_600.0
#: How many records without file, or files without record, crashes may leave. More is a lost storage or database.
_MOST_REMNANTS = 10
_MOST_REMNANTS_SHARE = 0.05
_BATCH = 200


class _JobBusyError(GatewayError):
    """A promote or a delete of the job is under way: whatever is there may still be its."""


@dataclass(frozen=True, slots=True)
class LibrarySweep:
    """Sweeps one library. For the holder of the sweep's lease, which each step keeps."""

    models: SQLModelStore
    storage: FileStorage
    pair: LibraryPair
    quarantine: Quarantine
    leases: LeaseKeeper
    clock: Callable[[], datetime]

    def pair_state(self, lease: HeldLease) -> PairState:
        """Pair the database and the storage if that is safe, and return how they stand."""
        return self.pair.establish(lease.keep)

    def steps(self) -> dict[str, Callable[[HeldLease], int]]:
        """The steps by name, in their order. Each returns how many remnants it dealt with. For a pair only."""
        return {
            "temporary_files": self._remove_temporaries,
            "restored": lambda lease: self.quarantine.restore_known(lease.keep),
            "files_without_record": self._quarantine_files,
            "records_without_file": self._quarantine_records,
            "quarantine": lambda lease: self.quarantine.remove_older(self.clock() - QUARANTINE_TIME, lease.keep),
        }

    def _remove_temporaries(self, _lease: HeldLease) -> int:
        return self.storage.remove_stale_temporaries(older_than_seconds=UNTOUCHED_SECONDS, is_in_use=self._is_in_use)

    def _is_in_use(self, key: str) -> bool:
        """May somebody be writing this file? A writer holds its job's lease, and never continues another one's file."""
        job_id = job_of_storage_key(key)
        return job_id is None or self.leases.is_held(lease_name(job_id))

    def _quarantine_files(self, lease: HeldLease) -> int:
        before = self.clock() - timedelta(seconds=UNTOUCHED_SECONDS)
        old = (file.key for file in self.storage.files() if file.modified_at < before and job_of_storage_key(file.key))
        orphans, seen = [], 0
        while keys := list(itertools.islice(old, _BATCH)):
            lease.keep()
            seen += len(keys)
            orphans += sorted(set(keys) - self.models.known_storage_keys(keys))
        if len(orphans) > max(_MOST_REMNANTS, seen * _MOST_REMNANTS_SHARE):
            metrics.SWEEP_ALARMS("database").inc()
            log.error("sweep.database_looks_lost", files=seen, files_without_record=len(orphans))
            return 0
        return sum(self._quarantine_file(key, lease) for key in orphans)

    def _quarantine_file(self, key: str, lease: HeldLease) -> bool:
        def move() -> bool:
            # A storage may tell when a file was begun and not when it was whole: its record may be a second old.
            if self.models.known_storage_keys([key]):
                return False
            self.storage.quarantine(key, self.clock())
            log.warning("sweep.quarantined", remnant="file", key=key)
            return True

        return self._alone_with_job(str(job_of_storage_key(key)), lease, move)

    def _quarantine_records(self, lease: HeldLease) -> int:
        missing, seen = [], 0
        before = self.clock() - timedelta(seconds=UNTOUCHED_SECONDS)
        for model in self.models.all(batch_size=_BATCH, progress=lease.keep):
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
        """Do the work while no promote and no delete of the job is under way; False, without it, if one is."""
        lease.keep()
        try:
            with self.leases.held(lease_name(job_id), uuid.uuid4().hex, error=_JobBusyError):
                return work()
        except _JobBusyError:
            return False
