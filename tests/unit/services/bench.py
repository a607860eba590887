"""The real services on fakes of the ports and the clients."""

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field

from app.domain.call import Deadline
from app.domain.model import Model
from app.errors import GatewayError
from app.services.conversions import ConversionService
from app.services.deferred_writes import DeferredWrites
from app.services.leases import LeaseHolder
from app.services.model_library import ModelLibrary
from app.services.notes import JobNotes
from app.services.ownership import JobOwnership
from app.services.polls import polled_jobs
from app.services.results import ResultPuller
from app.services.running_uploads import RunningUploads
from app.services.transfers import TransferKind, TransferSlots
from app.services.uploads import UploadRunner
from app.services.usual_times import UsualTimes
from app.streaming.progress import UploadProgress
from tests.support.clocks import FakeClock, FakeMonotonic, FakeSleep
from tests.support.fakes import (
    FakeConverter,
    FakeFiles,
    FakeMemberCenter,
    MemoryLeases,
    MemoryLedger,
    MemoryModels,
    MemoryStorage,
    a_job,
)

#: How many slots there are of each kind.
SLOTS = 4
BODY = (
    b'--b\r\nContent-Disposition: form-data; name="platform"\r\n\r\n730\r\n'
    b'--b\r\nContent-Disposition: form-data; name="model"; filename="net.onnx"\r\n\r\nmodel bytes\r\n--b--\r\n'
)


class FakeBody:
    """A request body that arrives in these chunks, or fails where one of them is an exception."""

    def __init__(self, chunks: Iterable[bytes | Exception]) -> None:
        self.progress = UploadProgress()
        self._chunks = chunks

    def __iter__(self) -> Generator[bytes, None, None]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            self.progress.received_bytes += len(chunk)
            yield chunk


def a_body(*chunks: bytes | Exception) -> FakeBody:
    """A request body of these chunks, by default a whole one."""
    return FakeBody(chunks or (BODY,))


@dataclass
class Bench:
    """One process's services. Two of them with the same stores are two processes."""

    converter: FakeConverter = field(default_factory=FakeConverter)
    files: FakeFiles = field(default_factory=FakeFiles)
    member_center: FakeMemberCenter = field(default_factory=FakeMemberCenter)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    leases: MemoryLeases = field(default_factory=MemoryLeases)
    models: MemoryModels = field(default_factory=MemoryModels)
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    clock: FakeClock = field(default_factory=FakeClock)
    monotonic: FakeMonotonic = field(default_factory=FakeMonotonic)
    quota_bytes: int | None = None
    #: The failure of the ledger after an upload has been opened, in tests of the note that follows.
    database_failure: GatewayError | None = None
    #: Raises where database and storage do not belong together.
    require_pair: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.sleep = FakeSleep(self.monotonic)
        self.slots = TransferSlots(dict.fromkeys(TransferKind, SLOTS))
        self._taken_slots = ExitStack()
        self.writes = DeferredWrites(monotonic=self.monotonic, sleep=self.sleep)
        self.keeper = LeaseHolder(self.leases, self.writes, monotonic=self.monotonic, sleep=self.sleep)
        self.ownership = JobOwnership(
            self.converter,  # type: ignore[arg-type]
            self.ledger,
            self.writes,
            clock=self.clock,
            monotonic=self.monotonic,
        )
        self.polled_jobs = polled_jobs(self.converter, monotonic=self.monotonic)  # type: ignore[arg-type]
        self.usual_times = UsualTimes(self.ledger, monotonic=self.monotonic)
        # Nothing looks by itself.
        self.running = RunningUploads(self.leases, self.ledger, sleep=self.sleep, start_thread=lambda _watch: None)
        self.uploads = UploadRunner(
            self.converter,  # type: ignore[arg-type]
            self.ownership,
            self.ledger,
            self.keeper,
            self.slots,
            running=self.running,
            writes=self.writes,
            usual_times=self.usual_times,
            max_parts=10,
            wants_digest=False,
            clock=self.clock,
            new_deadline=lambda: Deadline(60, self.monotonic),
        )
        self.results = ResultPuller(
            self.files,  # type: ignore[arg-type]
            self.storage,
            self.models,
            self.quota_bytes,
            self.clock,
            require_pair=self.require_pair,
        )
        self.library = ModelLibrary(self.models, self.storage, self.keeper, self.slots)
        self.notes = JobNotes(self.ledger, self.writes, clock=self.clock)
        self.service = ConversionService(
            converter=self.converter,  # type: ignore[arg-type]
            files=self.files,  # type: ignore[arg-type]
            member_center=self.member_center,  # type: ignore[arg-type]
            ownership=self.ownership,
            polled_jobs=self.polled_jobs,
            uploads=self.uploads,
            usual_times=self.usual_times,
            results=self.results,
            ledger=self.ledger,
            notes=self.notes,
            models=self.models,
            leases=self.keeper,
            slots=self.slots,
            tenant_id="tenant-1",
            clock=self.clock,
            new_deadline=lambda: Deadline(60, self.monotonic),
        )

    def has_job(self, job_id: str, user_id: str, status: str = "running", /, **fields: object) -> None:
        """Add a job of this user to the converter, which names the user unless `user_id=None`."""
        self.converter.jobs[job_id] = a_job(job_id, status, **({"user_id": user_id} | fields))
        self.converter.owners[job_id] = user_id

    def knows_job(self, job_id: str, user_id: str, status: str = "running", /, **fields: object) -> None:
        """Add a job of this user to the converter and to the ledger."""
        self.has_job(job_id, user_id, status, **fields)
        self.ledger.open_upload(f"upload-{job_id}", user_id, self.clock())
        self.ledger.assign_job(
            user_id, f"upload-{job_id}", self.converter.jobs[job_id], filename=f"{job_id}.onnx", size=11
        )

    def has_model(self, model_id: str = "model-1", user_id: str = "alice", **fields: object) -> Model:
        """Add a model and its file to the library."""
        values: dict[str, object] = {
            "id": model_id,
            "user_id": user_id,
            "source_job_id": f"job-of-{model_id}",
            "name": "net",
            "platform": "730",
            "filename": "net.nef",
            "size": 4,
            "sha256": "0" * 64,
            "content_type": "application/octet-stream",
            "storage_key": f"key/{model_id}",
            "created_at": self.clock(),
        }
        model = Model(**(values | fields))  # type: ignore[arg-type]
        self.models.models[model_id] = model
        self.storage.files[model.storage_key] = b"data"
        return model

    def take_all_slots(self) -> None:
        """Hold every free slot until the test ends."""
        for kind, number in self.slots.free.items():
            for _ in range(number):
                self._taken_slots.enter_context(self.slots.slot(kind))

    def wait_for_callers(self, count: int) -> Callable[[], None]:
        """Make the converter wait for `count` callers. Each of them calls the function that this returns."""
        asked = threading.Semaphore(0)

        def hold_up(_call: str) -> None:
            for _ in range(count):
                assert asked.acquire(timeout=60)

        self.converter.before = hold_up
        return asked.release

    def is_at_rest(self) -> bool:
        """Return whether nothing holds a slot, a lease or an open file any more."""
        return set(self.slots.free.values()) == {SLOTS} and not self.leases.holders and not self.storage.open_readers
