"""Transactions, durability settings, and the translation of failures."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from app.errors import ModelStoreUnavailableError, OwnershipMismatchError
from app.library.database import MAX_REASON_CHARACTERS, Database, UniqueViolationError
from app.library.leases import SQLLeases
from app.library.migrating import migrate
from app.library.tables import UTCDateTime, jobs, leases, revoked_sessions
from tests.support.parallel import in_parallel
from tests.support.simultaneous import next_line, ready_programs, tell_all
from tests.support.stores import make_database

SECRET = "s3cret-pa55word"


def only_sqlite(database: Database) -> bool:
    return database.sqlite_path is not None


def a_lease(name: str, expires_at: datetime) -> dict[str, object]:
    return {"name": name, "holder": "h", "expires_at": expires_at}


def test_ping_returns_when_the_database_answers(database: Database) -> None:
    database.ping()


def test_a_write_is_committed_when_its_block_ends(database: Database, clock: Callable[[], datetime]) -> None:
    with database.write() as connection:
        connection.execute(sa.insert(leases).values(a_lease("a", clock())))
    with database.read() as connection:
        assert connection.scalars(sa.select(leases.c.name)).all() == ["a"]


def test_an_exception_in_the_block_rolls_back_and_passes_unchanged(
    database: Database, clock: Callable[[], datetime]
) -> None:
    def write_and_fail() -> None:
        with database.write() as connection:
            connection.execute(sa.insert(leases).values(a_lease("a", clock())))
            raise OwnershipMismatchError("mine, not the database's")

    with pytest.raises(OwnershipMismatchError):
        write_and_fail()
    with database.read() as connection:
        assert not connection.scalars(sa.select(leases.c.name)).all()


def test_an_os_error_of_the_caller_passes_unchanged(database: Database) -> None:
    with pytest.raises(ConnectionResetError), database.read():
        raise ConnectionResetError


def test_a_duplicate_key_is_a_unique_violation_without_values_in_its_reason(
    database: Database, clock: Callable[[], datetime]
) -> None:
    with pytest.raises(UniqueViolationError) as caught, database.write() as connection:
        connection.execute(sa.insert(leases), [a_lease("tell-nobody", clock()), a_lease("tell-nobody", clock())])
    assert isinstance(caught.value.__cause__, sa.exc.IntegrityError)
    assert "tell-nobody" not in caught.value.reason


def test_a_broken_statement_is_a_chained_failure_without_values_in_its_reason(database: Database) -> None:
    with pytest.raises(ModelStoreUnavailableError) as caught, database.read() as connection:
        connection.execute(sa.text("SELECT CAST(:x AS integer) FROM no_such_table"), {"x": "tell-nobody"})
    assert isinstance(caught.value.__cause__, sa.exc.SQLAlchemyError)
    assert "tell-nobody" not in f"{caught.value.reason} {caught.value.__cause__}"
    assert 0 < len(caught.value.reason) <= MAX_REASON_CHARACTERS


@pytest.mark.parametrize("field", [{"filename": "\ud800"}, {"size": 1 << 70}], ids=["no Unicode", "over 64 bits"])
def test_a_value_that_the_driver_cannot_send_is_translated_too(
    database: Database, clock: Callable[[], datetime], field: dict[str, object]
) -> None:
    row = {"upload_id": "u", "user_id": "alice", "filename": "", "started_at": clock()}
    with pytest.raises(ModelStoreUnavailableError), database.write() as connection:
        connection.execute(sa.insert(jobs).values(row | field))


def test_an_unreachable_server_is_reported_without_url_and_password() -> None:
    database = Database(f"postgresql://someone:{SECRET}@127.0.0.1:1/nothing")
    with pytest.raises(ModelStoreUnavailableError) as caught:
        database.ping()
    assert "refused" in caught.value.reason.lower()
    for told in (SECRET, "127.0.0.1", "nothing", "postgresql"):
        assert told not in caught.value.reason
    assert SECRET not in f"{caught.value.__cause__}"
    database.dispose()


def test_a_missing_folder_is_a_failure_of_the_database(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'missing' / 'v.db'}")
    with pytest.raises(ModelStoreUnavailableError):
        database.ping()
    database.dispose()


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://someone:{SECRET}@host/db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory",
        f"postgresql+asyncpg://someone:{SECRET}@host/db",
        f"postgresql://someone:{SECRET}@host:port/db",
        SECRET,
        "",
    ],
)
def test_an_unusable_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        Database(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["a%20b", "what?", "x?y=z", "a#b", "100%", "a b", "ü@:&;[x"])
def test_the_folder_of_a_sqlite_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "visiona.db"
    url = f"sqlite:///{path}"
    migrate(url)
    database = Database(url, pool_size=1)
    assert SQLLeases(database, clock=lambda: datetime.now(UTC)).acquire("a", "b", 60)
    database.dispose()
    assert [folder.name for folder in tmp_path.iterdir()] == [name]
    assert path.stat().st_size > 0


def test_a_plain_postgresql_url_gets_the_driver_that_we_ship() -> None:
    database = Database("postgresql://host/db")
    assert database.sqlite_path is None
    database.dispose()


def test_waiting_for_a_pooled_connection_is_bounded(database_url: str) -> None:
    database = Database(database_url, pool_size=1, pool_timeout_seconds=0.05)
    with ThreadPoolExecutor(1) as pool, database.read(), pytest.raises(ModelStoreUnavailableError):
        pool.submit(database.ping).result()
    database.ping()
    database.dispose()


def test_a_writer_that_waits_too_long_for_another_process_gives_up(database_url: str) -> None:
    one = Database(database_url, busy_timeout_seconds=0.05)
    two = Database(database_url, busy_timeout_seconds=0.05)
    later = datetime(2030, 1, 1, tzinfo=UTC)
    with one.write() as connection:
        connection.execute(sa.insert(leases).values(a_lease("a", later)))
        with pytest.raises(ModelStoreUnavailableError), two.write() as other:
            other.execute(sa.insert(leases).values(a_lease("a", later)))
    two.ping()
    one.dispose()
    two.dispose()


def test_a_writer_that_waits_too_long_for_its_own_process_gives_up(database_url: str) -> None:
    database = Database(database_url, busy_timeout_seconds=0.05)
    later = datetime(2030, 1, 1, tzinfo=UTC)

    def write() -> None:
        with database.write() as connection:
            connection.execute(sa.insert(leases).values(a_lease("a", later)))

    with ThreadPoolExecutor(1) as pool, database.write() as connection:
        connection.execute(sa.insert(leases).values(a_lease("a", later)))
        with pytest.raises(ModelStoreUnavailableError):
            pool.submit(write).result()
    database.dispose()


def test_a_reader_does_not_wait_for_a_writer_and_sees_only_what_is_committed(
    database: Database, clock: Callable[[], datetime]
) -> None:
    def names() -> int:
        with database.read() as connection:
            return len(connection.scalars(sa.select(leases.c.name)).all())

    with ThreadPoolExecutor(1) as pool, database.write() as connection:
        connection.execute(sa.insert(leases).values(a_lease("a", clock())))
        assert pool.submit(names).result(timeout=5) == 0
    assert names() == 1


def test_two_transactions_that_read_before_they_write_queue_instead_of_failing(
    database: Database, clock: Callable[[], datetime]
) -> None:
    """A deferred SQLite transaction would fail here with `database is locked`, with any timeout."""
    with database.write() as connection:
        connection.execute(sa.insert(leases).values(a_lease("a", clock())))

    def bump(_: int) -> None:
        with database.write() as connection:
            found = connection.execute(sa.select(leases.c.expires_at).with_for_update()).scalar_one()
            connection.execute(sa.update(leases).values(expires_at=found + timedelta(seconds=1)))

    assert in_parallel(8, bump) == [None] * 8
    with database.read() as connection:
        assert connection.execute(sa.select(leases.c.expires_at)).scalar_one() == clock() + timedelta(seconds=8)


def test_sqlite_connections_sync_each_commit_check_foreign_keys_and_find_the_log_mode_set(
    database: Database,
) -> None:
    if not only_sqlite(database):
        return
    with database.read() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_a_new_sqlite_file_and_its_folder_are_private(tmp_path: Path) -> None:
    path = tmp_path / "var" / "deep" / "v.db"
    database = Database(f"sqlite:///{path}")
    database.ensure_file()
    database.enable_wal()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    plain.close()
    database.dispose()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    moment=st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis wants the bounds so
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.just(timezone(timedelta(hours=8))),
    )
)
def test_a_time_is_read_back_in_utc_to_the_microsecond(database: Database, moment: datetime) -> None:
    with database.write() as connection:
        connection.execute(sa.delete(revoked_sessions))
        connection.execute(sa.insert(revoked_sessions).values(sid="s", expires_at=moment))
        found = connection.execute(sa.select(revoked_sessions.c.expires_at)).scalar_one()
    assert found == moment
    assert found.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(ModelStoreUnavailableError) as caught, database.write() as connection:
        connection.execute(sa.insert(leases).values(a_lease("a", datetime(2026, 1, 1))))  # noqa: DTZ001
    assert "without a zone" in str(caught.value.__cause__)


KILLED_BETWEEN_WRITE_AND_COMMIT = """
import os, signal, sys
import sqlalchemy as sa
from datetime import datetime, UTC
from app.library.database import Database
from app.library.tables import leases
database = Database(sys.argv[1])
for name in ("committed", "not committed"):
    with database.write() as connection:
        connection.execute(sa.insert(leases).values(name=name, holder="h", expires_at=datetime.now(UTC)))
        if name == "not committed":
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_before_its_commit_leaves_nothing_and_no_lock(
    database: Database, database_url: str, repository_root: Path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BETWEEN_WRITE_AND_COMMIT, database_url], cwd=repository_root, check=False
    )
    assert killed.returncode == -9
    with database.write() as connection:
        assert connection.scalars(sa.select(leases.c.name)).all() == ["committed"]
        if only_sqlite(database):
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


FILLS_THE_DISK = """
import resource, sys
from datetime import datetime, UTC
from app.errors import ModelStoreUnavailableError
from app.library.database import Database
from app.library.sessions import SQLRevokedSessions
database = Database(sys.argv[1])
sessions = SQLRevokedSessions(database, clock=lambda: datetime.now(UTC))
sessions.revoke("before", datetime.max.replace(tzinfo=UTC))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
noted = 1
try:
    while noted < 1000:
        sessions.revoke(f"{noted:04}" + "x" * 2000, datetime.max.replace(tzinfo=UTC))
        noted += 1
except ModelStoreUnavailableError as error:
    print(noted, error.reason)
assert sessions.is_revoked("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
sessions.revoke("after", datetime.max.replace(tzinfo=UTC))
database.dispose()
"""


def test_a_full_disk_is_a_failure_that_rolls_back_and_ends_with_free_space(
    tmp_path: Path, repository_root: Path
) -> None:
    path = tmp_path / "v.db"
    make_database(path)
    url = f"sqlite:///{path}"
    run = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, url], cwd=repository_root, check=True, capture_output=True, text=True
    )
    noted, _, reason = run.stdout.strip().partition(" ")
    assert "Error" in reason
    database = Database(url)
    with database.read() as connection:
        sids = connection.scalars(sa.select(revoked_sessions.c.sid)).all()
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    assert len(sids) == int(noted) + 1
    assert {"before", "after"} <= set(sids)
    database.dispose()


MIXED_OPERATIONS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, UTC
from app.domain.job import Job, JobStatus
from app.library.database import Database
from app.library.leases import SQLLeases
from app.library.migrating import migrate
from app.library.ledger import SQLJobLedger
from app.library.sessions import SQLRevokedSessions

# A slow disk is not a locked database.
database = Database(sys.argv[1], busy_timeout_seconds=60)
clock = lambda: datetime.now(UTC)
ledger, leases, sessions = (kind(database, clock=clock) for kind in (SQLJobLedger, SQLLeases, SQLRevokedSessions))

def work(thread):
    user = f"user-{thread}"
    for turn in range(int(sys.argv[3])):
        name = f"{sys.argv[2]}-{thread}-{turn}"
        leases.acquire("upload/" + user, name, 60)
        ledger.open_upload(name, user, clock())
        ledger.assign_job(user, name, Job(name, JobStatus.RUNNING), filename="m.onnx", size=1)
        ledger.record_job(user, Job(name, JobStatus.COMPLETED))
        for _ in range(4):
            assert not sessions.is_revoked(name)
        assert ledger.find_job(user, name).job.status is JobStatus.COMPLETED
        assert ledger.history(user, limit=5, after=None)
        leases.release("upload/" + user, name)
    return turn + 1

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(32) as pool:
    print(sum(pool.map(work, range(32))))
database.dispose()
"""


def test_two_processes_of_32_threads_never_find_the_database_locked(database: Database, database_url: str) -> None:
    # 64 threads of 12 operations a turn: 13 turns are the 10,000 of the long form.
    turns = int(os.environ.get("VISIONA_TEST_TURNS", "2"))
    with ready_programs(MIXED_OPERATIONS, [[database_url, name, str(turns)] for name in ("one", "two")]) as programs:
        tell_all(programs)
        assert [next_line(program) for program in programs] == [str(32 * turns)] * 2
    assert SQLLeases(database, clock=lambda: datetime.now(UTC)).acquire("upload/user-0", "me", 1)


class NetworkShare:
    """In an engine's place: SQLite cannot share memory there, keeps its older mode, and says so without failing."""

    def __init__(self) -> None:
        self.executed: list[str] = []
        self.raw_connection = self.cursor = lambda: self

    def execute(self, statement: str) -> None:
        self.executed.append(statement)

    def fetchone(self) -> tuple[str]:
        return ("delete",)

    def close(self) -> None: ...


def test_a_file_system_without_write_ahead_logging_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'v.db'}", pool_size=1)
    share = NetworkShare()
    database._engine = share  # type: ignore[assignment]
    with pytest.raises(ModelStoreUnavailableError, match="write-ahead"):
        database.enable_wal()
    assert share.executed == ["PRAGMA journal_mode=WAL"]


def test_none_is_stored_and_read_as_none() -> None:
    """In both directions, because SQLAlchemy converts every value."""
    column, dialect = UTCDateTime(), sqlite_dialect()
    assert column.process_bind_param(None, dialect) is None
    assert column.process_result_value(None, dialect) is None
