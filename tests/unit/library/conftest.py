"""A migrated database per test, on SQLite and on PostgreSQL, and a clock to turn."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from app.domain.model import Model
from app.library.database import Database
from app.library.leases import SQLLeases
from app.library.ledger import SQLJobLedger
from app.library.migrating import migrate
from app.library.models import SQLModelStore
from app.library.sessions import SQLRevokedSessions
from tests.support.clocks import FakeClock
from tests.support.postgresql import PostgreSQL
from tests.support.stores import make_database


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Which kind of database a test runs on: each test runs on both."""
    return str(request.param)


@pytest.fixture
def empty_database_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that holds nothing yet."""
    if engine == "sqlite":
        return f"sqlite:///{tmp_path / 'var' / 'visiona.db'}"
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture(scope="session")
def migrated_template(postgresql: PostgreSQL) -> str:
    """The URL of a migrated PostgreSQL database, to be copied."""
    url = postgresql.create_database()
    migrate(url)
    return url


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated database."""
    if engine == "sqlite":
        path = tmp_path / "var" / "visiona.db"
        path.parent.mkdir(mode=0o700)
        make_database(path)
        yield f"sqlite:///{path}"
        return
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    url = postgresql.create_database(template=request.getfixturevalue("migrated_template"))
    yield url
    postgresql.drop_database(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def ledger(database: Database, clock: FakeClock) -> SQLJobLedger:
    return SQLJobLedger(database, clock=clock)


@pytest.fixture
def leases(database: Database, clock: FakeClock) -> SQLLeases:
    return SQLLeases(database, clock=clock)


@pytest.fixture
def sessions(database: Database, clock: FakeClock) -> SQLRevokedSessions:
    return SQLRevokedSessions(database, clock=clock)


@pytest.fixture
def store(database: Database) -> SQLModelStore:
    return SQLModelStore(database)


@pytest.fixture
def a_model(clock: FakeClock) -> Callable[..., Model]:
    """Makes a model; say only what the test is about."""

    def make(**fields: object) -> Model:
        id_ = str(fields.get("id", uuid4().hex))
        job_id = str(fields.get("source_job_id", f"job-{id_}"))
        values: dict[str, object] = {
            "id": id_,
            "user_id": "alice",
            "source_job_id": job_id,
            "name": "mobilenet 影像分類",
            "platform": "KL730",
            "filename": "mobilenet.nef",
            "size": 6 * 1024**3,
            "sha256": "0" * 64,
            "content_type": "application/octet-stream",
            "storage_key": f"{id_}-{job_id}",
            "created_at": clock(),
        }
        return Model(**(values | fields))  # type: ignore[arg-type]

    return make


@pytest.fixture
def repository_root() -> Path:
    return Path(__file__).resolve().parents[3]
