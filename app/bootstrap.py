"""The composition root: assemble the gateway from its settings.

Nothing here opens a connection. Database engines and upstream sessions connect at their first use, which is after
gunicorn has forked its workers.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from app.clients.converter import SCOPE_READ, SCOPE_WRITE, ConverterClient
from app.clients.file_access import SCOPE_READ as SCOPE_READ_FILES
from app.clients.file_access import FileAccessClient
from app.clients.health import UpstreamHealth
from app.clients.identity_provider import IdentityProvider
from app.clients.member_center import SCOPE_DELEGATE_DOWNLOADS, MemberCenterClient
from app.clients.retry import Retrier
from app.clients.tokens import ServiceTokens
from app.clients.transport import Upstream
from app.clients.upload import UploadTransport
from app.clients.watchdog import Watchdog
from app.config import LIBRARY_DOWNLOAD_SLOTS, PULL_SLOTS, Settings
from app.domain.basic_credentials import basic_authorization
from app.domain.call import Deadline
from app.library.database import Database
from app.library.leases import SQLLeases
from app.library.ledger import SQLJobLedger
from app.library.models import SQLModelStore
from app.library.pairing import LibraryPair
from app.library.quarantine import Quarantine
from app.library.sessions import SQLRevokedSessions
from app.library.storage import FileStorage
from app.library.storage_urls import open_storage
from app.metrics_files import shared_directory
from app.services.conversions import ConversionService
from app.services.deferred_writes import DeferredWrites
from app.services.host_slots import HostSlots
from app.services.leases import LeaseHolder
from app.services.library_sweep import LibrarySweep
from app.services.model_library import ModelLibrary
from app.services.notes import JobNotes
from app.services.ownership import JobOwnership
from app.services.polls import polled_jobs
from app.services.ports import RevokedSessions
from app.services.readiness import Readiness
from app.services.results import ResultPuller
from app.services.running_uploads import RunningUploads
from app.services.session_gate import SessionGate
from app.services.sweep import Sweep
from app.services.transfers import TransferKind, TransferSlots
from app.services.uploads import UploadRunner
from app.services.usual_times import UsualTimes

#: The background threads that use the database: sweep, deferred writes, readiness, and the probe of a silent server.
_BACKGROUND_THREADS = 4
#: The database connections of a worker's requests and of the look for uploads to end. Each holds one for a transaction
#: of milliseconds, and none while it transfers a file or waits for an upstream.
_REQUEST_CONNECTIONS = 8

#: How long a promote relies on the library id that the process has read from the database. `/readyz` reads it again.
_PAIR_MAX_AGE = timedelta(seconds=60)

#: The scopes of the service tokens.
_SCOPES = (SCOPE_WRITE, SCOPE_READ, SCOPE_READ_FILES, SCOPE_DELEGATE_DOWNLOADS)


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that requests need, assembled once for each process. `conversions` is None if not enabled."""

    settings: Settings
    identity_provider: IdentityProvider
    sessions: SessionGate
    library: ModelLibrary
    conversions: ConversionService | None
    sweep: Sweep
    deferred_writes: DeferredWrites
    slots: TransferSlots
    readiness: Readiness
    upstream_health: UpstreamHealth
    clock: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Stores:
    """What must survive a crash and be true for every worker: the database and the storage.

    `checks` has one call for each part that must work for this process to serve; it raises a GatewayError, or a
    ConfigurationError, if the part does not.
    """

    ledger: SQLJobLedger
    leases: SQLLeases
    revoked_sessions: RevokedSessions
    models: SQLModelStore
    storage: FileStorage
    pair: LibraryPair
    quarantine: Quarantine
    checks: Mapping[str, Callable[[], None]]
    close: Callable[[], None]


def open_stores(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Stores:
    """Return the stores that the settings name, without connecting to them."""
    database = Database(settings.database_url.get_secret_value(), pool_size=_REQUEST_CONNECTIONS + _BACKGROUND_THREADS)
    storage = open_storage(settings.storage_url, deadline_seconds=settings.request_deadline_seconds)
    models = SQLModelStore(database)
    pair = LibraryPair(database, storage, models, clock=clock)

    def check_storage() -> None:
        storage.ping()
        pair.require_match()

    return Stores(
        ledger=SQLJobLedger(database, clock=clock),
        leases=SQLLeases(database, clock=clock),
        revoked_sessions=SQLRevokedSessions(database, clock=clock),
        models=models,
        storage=storage,
        pair=pair,
        quarantine=Quarantine(database, storage, models),
        checks={
            "database": database.ping,
            "storage": check_storage,
            "configuration": settings.require_what_it_names,
        },
        close=database.dispose,
    )


def build_gateway(
    settings: Settings,
    *,
    stores: Stores | None = None,
    retrier: Retrier | None = None,
    clock: Callable[[], datetime] = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
) -> Gateway:
    """Assemble the gateway. Tests hand in stores, a retrier that does not sleep, and clocks."""
    stores = stores or open_stores(settings, clock)
    slots = TransferSlots(
        {
            TransferKind.UPLOAD: settings.max_uploads,
            TransferKind.PULL: PULL_SLOTS,
            TransferKind.LIBRARY_DOWNLOAD: LIBRARY_DOWNLOAD_SLOTS,
        },
        HostSlots(shared_directory()),
    )
    writes = DeferredWrites(monotonic=monotonic)
    leases = LeaseHolder(stores.leases, writes, monotonic=monotonic)
    shared = _Shared(settings, stores, slots, writes, leases, retrier or Retrier(monotonic=monotonic), clock, monotonic)
    member_center = build_member_center(settings, shared.retrier, clock, monotonic)
    conversions = _conversions(shared, member_center) if settings.is_conversion_enabled else None
    return Gateway(
        settings=settings,
        identity_provider=build_identity_provider(settings, member_center, clock, monotonic),
        sessions=SessionGate(stores.revoked_sessions, monotonic),
        library=ModelLibrary(stores.models, stores.storage, leases, slots),
        conversions=conversions,
        sweep=_sweep(shared, conversions.ownership if conversions else None),
        deferred_writes=writes,
        slots=slots,
        readiness=Readiness(stores.checks, monotonic=monotonic),
        upstream_health=shared.retrier.health,
        clock=clock,
        monotonic=monotonic,
    )


def build_member_center(
    settings: Settings, retrier: Retrier, clock: Callable[[], datetime], monotonic: Callable[[], float]
) -> MemberCenterClient:
    """Return the client of MC. Without a service client in the settings it is for sign-ins only."""
    secret, authorization = settings.service_client_secret, None
    if settings.service_client_id and secret:
        authorization = basic_authorization(
            settings.service_client_id, secret.get_secret_value(), settings.basic_credentials
        )
    return MemberCenterClient(
        Upstream("", watchdog=Watchdog(), ca_file=settings.ca_file),
        retrier,
        issuer=settings.oidc_issuer,
        service_authorization=authorization,
        clock=clock,
        monotonic=monotonic,
    )


def build_identity_provider(
    settings: Settings,
    member_center: MemberCenterClient,
    clock: Callable[[], datetime],
    monotonic: Callable[[], float],
) -> IdentityProvider:
    """Return the client of MC for sign-ins."""
    return IdentityProvider(
        member_center,
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        authorization=basic_authorization(
            settings.oidc_client_id, settings.oidc_client_secret.get_secret_value(), settings.basic_credentials
        ),
        clock=clock,
        monotonic=monotonic,
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the parts of one process share."""

    settings: Settings
    stores: Stores
    slots: TransferSlots
    writes: DeferredWrites
    leases: LeaseHolder
    retrier: Retrier
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]

    def new_deadline(self) -> Deadline:
        """Return the deadline of a request that begins now."""
        return Deadline(self.settings.request_deadline_seconds, self.monotonic)


def _conversions(shared: _Shared, member_center: MemberCenterClient) -> ConversionService:
    stores = shared.stores
    member_center.tokens.begin_to_count(_SCOPES)
    watchdog = Watchdog()
    converter = _converter(shared, member_center.tokens, watchdog)
    files = _files(shared, member_center.tokens, watchdog)
    ownership = JobOwnership(converter, stores.ledger, shared.writes, clock=shared.clock, monotonic=shared.monotonic)
    usual_times = UsualTimes(stores.ledger, monotonic=shared.monotonic)
    return ConversionService(
        converter=converter,
        files=files,
        member_center=member_center,
        ownership=ownership,
        polled_jobs=polled_jobs(converter, monotonic=shared.monotonic),
        uploads=_uploads(shared, converter, ownership, usual_times),
        usual_times=usual_times,
        results=_results(shared, files),
        ledger=stores.ledger,
        notes=JobNotes(stores.ledger, shared.writes, clock=shared.clock),
        models=stores.models,
        leases=shared.leases,
        slots=shared.slots,
        tenant_id=_required(shared.settings.tenant_id),
        clock=shared.clock,
        new_deadline=shared.new_deadline,
    )


def _converter(shared: _Shared, tokens: ServiceTokens, watchdog: Watchdog) -> ConverterClient:
    url, ca_file = _required(shared.settings.converter_base_url), shared.settings.ca_file
    return ConverterClient(
        Upstream(url, watchdog=watchdog, ca_file=ca_file),
        UploadTransport(url, watchdog, ca_file),
        tokens,
        shared.retrier,
    )


def _files(shared: _Shared, tokens: ServiceTokens, watchdog: Watchdog) -> FileAccessClient:
    url = _required(shared.settings.faa_base_url)
    return FileAccessClient(
        Upstream(url, watchdog=watchdog, ca_file=shared.settings.ca_file),
        shared.settings.faa_public_base_url or url,
        tokens,
        shared.retrier,
        monotonic=shared.monotonic,
    )


def _uploads(
    shared: _Shared, converter: ConverterClient, ownership: JobOwnership, usual_times: UsualTimes
) -> UploadRunner:
    return UploadRunner(
        converter,
        ownership,
        shared.stores.ledger,
        shared.leases,
        shared.slots,
        running=RunningUploads(shared.stores.leases, shared.stores.ledger),
        writes=shared.writes,
        usual_times=usual_times,
        max_parts=shared.settings.max_parts,
        wants_digest=shared.settings.upload_digest == "sha256",
        clock=shared.clock,
        new_deadline=shared.new_deadline,
    )


def _results(shared: _Shared, files: FileAccessClient) -> ResultPuller:
    stores = shared.stores
    return ResultPuller(
        files,
        stores.storage,
        stores.models,
        shared.settings.library_bytes_per_user,
        shared.clock,
        require_pair=partial(stores.pair.require_match, max_age=_PAIR_MAX_AGE),
    )


def _sweep(shared: _Shared, ownership: JobOwnership | None) -> Sweep:
    stores = shared.stores
    return Sweep(
        library=LibrarySweep(
            models=stores.models,
            storage=stores.storage,
            pair=stores.pair,
            quarantine=stores.quarantine,
            leases=shared.leases,
            clock=shared.clock,
        ),
        ledger=stores.ledger,
        expired_leases=stores.leases,
        leases=shared.leases,
        ownership=ownership,
        clock=shared.clock,
    )


def _required(value: str | None) -> str:
    if value is None:  # pragma: no cover - the settings enable it only with all of them
        raise ValueError("the settings enable conversion without all that it needs")
    return value
