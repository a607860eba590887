"""All metrics of the gateway, with their labels and help texts. docs/operations.md lists them.

    UPSTREAM_TRIES("converter", "converter.get_job").inc()

Calling a metric with the values of its labels returns prometheus-client's object for them. Counting costs microseconds
and never fails. The values are words of the code (routes, calls, kinds, codes of the catalog) and never what a client
has sent, so their number is bounded.

Under gunicorn each worker counts for itself and `/metrics` reports the sum (`app/metrics_files.py`). Without gunicorn,
for example in a test, only this process counts. prometheus-client decides that when it is imported, so the import waits
until something is counted.
"""

import platform
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import structlog

from app.metrics_files import shared_directory
from app.version import VERSION

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.metrics_core import Metric

log = structlog.get_logger(__name__)

M = TypeVar("M")
Known = Sequence[tuple[str, ...]]

#: All metrics of this module, in order.
FAMILIES: "list[Family[Any]]" = []

_lock = threading.Lock()
_process: dict[str, Any] = {}


class Family(Generic[M]):
    """One metric. Call it with the values of its labels, in order, to count for them. Thread-safe."""

    def __init__(
        self, kind: str, name: str, meaning: str, labels: Sequence[str] = (), *, known: Known = (), **options: Any
    ) -> None:
        """`kind` names prometheus-client's class, `options` are its own. `known` are the values that begin at zero."""
        self.kind = kind
        self.name = name
        self.meaning = meaning
        self.labels = tuple(labels)
        self._known = known
        self._options = options
        self._metric: Any = None
        self._children: dict[tuple[str, ...], M] = {}
        FAMILIES.append(self)

    def __call__(self, *values: str) -> M:
        """Return what counts for these values. It counts nothing if the files have no space for another series."""
        child = self._children.get(values)
        return self._add(values) if child is None else child

    def begin(self) -> None:
        """Set known series to zero: a series that begins with its first event would show no increase."""
        for values in self._known:
            self(*values)

    def _add(self, values: tuple[str, ...]) -> M:
        with _lock:
            if "failure" in _process:
                return cast(M, _NOTHING)
            try:
                if self._metric is None:
                    self._metric = self._make()
                child = self._metric.labels(*values) if self.labels else self._metric
            except OSError as error:
                # Counting must not fail a request. The files may be damaged now, so no more series are added to them;
                # existing series go on.
                _process["failure"] = error
                log.warning("metrics.files_full", metric=self.name, cause=type(error).__name__)
                return cast(M, _NOTHING)
            self._children[values] = child
            return cast(M, child)

    def _make(self) -> Any:
        import prometheus_client  # noqa: PLC0415 - see the docstring of the module

        return getattr(prometheus_client, self.kind)(
            self.name, self.meaning, self.labels, registry=_registry(), **self._options
        )


class _Nothing:
    """Counts nothing."""

    def inc(self, amount: float = 1) -> None:
        del amount

    def dec(self, amount: float = 1) -> None:
        del amount

    def set(self, value: float) -> None:
        del value

    def observe(self, amount: float) -> None:
        del amount


_NOTHING = _Nothing()


def _counter(name: str, meaning: str, *labels: str, known: Known = ()) -> "Family[Counter]":
    return Family("Counter", name, meaning, labels, known=known)


def _gauge(name: str, meaning: str, *labels: str, known: Known = (), mode: str = "livesum") -> "Family[Gauge]":
    """`mode` says how the values of several workers are combined. Those of dead workers are dropped."""
    return Family("Gauge", name, meaning, labels, known=known, multiprocess_mode=mode)


def _histogram(
    name: str, meaning: str, *labels: str, buckets: Sequence[float], known: Known = ()
) -> "Family[Histogram]":
    return Family("Histogram", name, meaning, labels, known=known, buckets=buckets)


def _registry() -> "CollectorRegistry":
    if "registry" not in _process:
        from prometheus_client import CollectorRegistry, disable_created_metrics  # noqa: PLC0415

        disable_created_metrics()
        # A registry of our own: the default one has metrics of one process, which would be those of any worker.
        _process["registry"] = CollectorRegistry()
    registry: CollectorRegistry = _process["registry"]
    return registry


_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

# --- Requests

REQUESTS = _counter("visiona_requests_total", "Requests with a response.", "route", "method", "status", "code")
REQUEST_SECONDS = _histogram(
    "visiona_request_seconds",
    "Seconds from the head of a request to the head of its response.",
    "route",
    "method",
    buckets=_REQUEST_BUCKETS,
)
FAILURES = _counter(
    "visiona_failures_total",
    "Responses that were problem documents, by code and by who is responsible.",
    "code",
    "blame",
)

# --- The process

BUILD_INFO = _gauge("visiona_build_info", "1, with the versions as labels.", "version", "python", mode="livemax")
WORKERS = _gauge("visiona_workers", "Number of live workers.")
WORKER_STARTS = _counter("visiona_worker_starts_total", "Worker starts, including the first ones.")
WORKER_STARTED = _gauge(
    "visiona_worker_start_timestamp_seconds", "When the oldest live worker started.", mode="livemin"
)
WORKER_THREADS = _gauge("visiona_worker_threads", "Number of threads of all workers.")
WORKER_REQUESTS = _gauge(
    "visiona_worker_requests", "Number of requests that a thread handles or that wait for a thread."
)

# --- Upstreams

UPSTREAM_TRIES = _counter(
    "visiona_upstream_tries_total", "Tries of calls to upstreams, including retries.", "upstream", "call"
)
UPSTREAM_RETRIES = _counter("visiona_upstream_retries_total", "Retries of calls to upstreams.", "upstream", "call")
UPSTREAM_FAILURES = _counter(
    "visiona_upstream_failures_total", "Tries without a usable response.", "upstream", "call", "kind"
)
UPSTREAM_GIVEN_UP = _counter(
    "visiona_upstream_given_up_total", "Calls whose last try failed.", "upstream", "call", "kind"
)
UPSTREAM_SECONDS = _histogram(
    "visiona_upstream_try_seconds", "Seconds that a try took.", "upstream", "call", buckets=_CALL_BUCKETS
)

# --- Long transfers

_KINDS = ("upload", "pull", "library_download")
TRANSFERS = _counter(
    "visiona_transfers_total",
    "Uploads, pulls and library downloads that have ended, by outcome.",
    "kind",
    "outcome",
    "reason",
    known=[
        (kind, outcome, reason)
        for kind in _KINDS
        for outcome, reason in (
            ("completed", "none"),
            ("refused", "upload_capacity"),
            ("refused", "too_many_requests"),
            ("aborted", "client_gone"),
        )
    ],
)
TRANSFERS_IN_FLIGHT = _gauge(
    "visiona_transfers_in_flight",
    "Number of long transfers in progress; each has a slot.",
    "kind",
    known=[(kind,) for kind in _KINDS],
)
TRANSFER_SLOTS = _gauge(
    "visiona_transfer_slots", "Number of slots for long transfers of all workers, free or not.", "kind"
)
TRANSFER_BYTES = _counter(
    "visiona_transfer_bytes_total",
    "Bytes of long transfers, counted while they are transferred.",
    "kind",
    known=[(kind,) for kind in _KINDS],
)
TRANSFER_SECONDS = _histogram(
    "visiona_transfer_seconds",
    "Seconds that long transfers took, with any outcome.",
    "kind",
    buckets=(0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0),
    known=[(kind,) for kind in _KINDS],
)
DROPPED_IDENTITIES = _counter(
    "visiona_dropped_identities_total", "Parts of uploads that named a user or tenant and were dropped.", known=[()]
)

# --- Tokens, ownership, promotes

SERVICE_TOKENS = _counter("visiona_service_tokens_total", "Service token requests, by outcome.", "scope", "event")
DOWNLOAD_TOKENS = _counter(
    "visiona_download_tokens_total",
    "Download tokens that were requested from MC and obtained.",
    "event",
    known=[("asked",), ("obtained",)],
)
OWNERSHIP = _counter(
    "visiona_ownership_total",
    "Decisions on whether a caller owns a job, by result.",
    "decision",
    known=[
        (word,) for word in ("memory", "ledger", "rebuilt", "denied", "denied_again", "contradicted", "unattributed")
    ],
)
OWNERSHIP_REBUILDS = _counter(
    "visiona_ownership_rebuilds_total",
    "Requests to the converter for a user's running jobs.",
    "outcome",
    known=[("done",), ("failed",)],
)
PROMOTES = _counter(
    "visiona_promotes_total",
    "Promotes of results to the library, by outcome.",
    "outcome",
    known=[(word,) for word in ("new", "existing", "refused", "failed")],
)

# --- Leases, deferred writes and sweeps

LEASES = _counter(
    "visiona_leases_total",
    "Lease events, by kind of lease.",
    "lease",
    "event",
    known=[
        (lease, event)
        for lease in ("upload", "job", "sweep")
        for event in ("taken", "busy", "lost", "renewal_failed", "release_failed")
    ],
)
_DEFERRED = ("ledger", "lease")
DEFERRED_WRITES_WAITING = _gauge(
    "visiona_deferred_writes_waiting",
    "Number of database writes that failed and wait for a retry.",
    "kind",
    known=[(kind,) for kind in _DEFERRED],
)
DEFERRED_WRITES = _counter(
    "visiona_deferred_writes_total",
    "Deferred database writes, by outcome.",
    "kind",
    "outcome",
    known=[(kind, outcome) for kind in _DEFERRED for outcome in ("written", "lost")],
)
SWEEPS = _counter(
    "visiona_sweeps_total",
    "Sweeps, by outcome.",
    "outcome",
    known=[(word,) for word in ("done", "partial", "skipped", "crashed")],
)
SWEPT = _counter(
    "visiona_swept_total",
    "Remnants that sweeps removed, quarantined or restored.",
    "remnant",
    known=[
        (word,)
        for word in (
            "temporary_files",
            "restored",
            "files_without_record",
            "records_without_file",
            "quarantine",
            "expired_leases",
            "forgotten_uploads",
        )
    ],
)
LIBRARY_ALARMS = _counter(
    "visiona_library_alarms_total",
    "Checks that found the database and the storage not paired.",
    "state",
    known=[("mismatch",), ("unpaired",)],
)
SWEEP_ALARMS = _counter(
    "visiona_sweep_alarms_total",
    "Times that a sweep found so much missing that it changed nothing.",
    "lost",
    known=[("storage",), ("database",)],
)
LAST_SWEEP = _gauge("visiona_last_sweep_timestamp_seconds", "When the last complete sweep ended.", mode="livemax")

#: The labels of a request without a route, and of a method that is not HTTP's.
NO_ROUTE, OTHER_METHOD = "none", "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def request_ended(route: str | None, method: str, status: int, code: str | None, seconds: float) -> None:
    """Count a request. `route` is the registered one (None: no route), `code` is the catalog's (None: no failure)."""
    route, method = route or NO_ROUTE, method if method in _METHODS else OTHER_METHOD
    REQUESTS(route, method, str(status), code or "none").inc()
    REQUEST_SECONDS(route, method).observe(seconds)


def begin_to_count() -> None:
    """Set all known series to zero. Call it in each worker, after the fork."""
    for family in FAMILIES:
        family.begin()


def worker_started(threads: int) -> None:
    """Count this worker. Call it when the application is loaded."""
    BUILD_INFO(VERSION, platform.python_version()).set(1)
    WORKERS().set(1)
    WORKER_STARTS().inc()
    WORKER_STARTED().set(time.time())
    WORKER_THREADS().set(threads)
    WORKER_REQUESTS().set(0)


class IncompleteMetricsError(Exception):
    """Several workers count, each for itself, so what one of them could report would be wrong."""


def exposition(accept: str, *, is_one_of_several: bool) -> tuple[bytes, str]:
    """Return all metrics as text, and its content type, in the form that the Accept header prefers.

    Raises IncompleteMetricsError if this `is_one_of_several` workers and they have no common directory.
    """
    from prometheus_client import CollectorRegistry  # noqa: PLC0415
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    encode, content_type = choose_encoder(accept)
    directory = shared_directory()
    if directory is None:
        if is_one_of_several:
            raise IncompleteMetricsError
        return encode(cast(Any, _registry())), content_type
    registry = CollectorRegistry()
    registry.register(cast(Any, _AllWorkers(directory)))
    return encode(cast(Any, registry)), content_type


class _AllWorkers:
    """Collects from the files of all workers that have begun to count."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> "Iterable[Metric]":
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        files = []
        for path in self._directory.glob("*.db"):
            with suppress(FileNotFoundError):  # the gauges of a worker that has just ended
                # A new file is empty for a moment, and prometheus-client cannot read an empty one.
                if path.stat().st_size:
                    files.append(str(path))
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)
        return merged
