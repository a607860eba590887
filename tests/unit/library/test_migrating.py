"""Migrations: killed at any moment, and equal to the tables of the code."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from app.domain.model import Model
from app.domain.usual_time import size_class
from app.errors import ModelStoreUnavailableError
from app.library import migrating
from app.library.database import Database
from app.library.ledger import SQLJobLedger
from app.library.migrating import migrate, pending_migrations
from app.library.models import SQLModelStore
from app.library.sessions import SQLRevokedSessions
from app.library.tables import jobs, metadata, models
from tests.support.forking import run_module


def test_a_migrated_database_has_the_tables_that_the_code_expects(database: Database) -> None:
    with database.write() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_an_absent_database_lacks_all_revisions_and_is_not_created(empty_database_url: str) -> None:
    assert pending_migrations(empty_database_url)[0] == "0001"
    if empty_database_url.startswith("sqlite"):
        assert not Path(empty_database_url.removeprefix("sqlite:///")).parent.exists()


def test_nothing_is_pending_after_migrating_once_or_twice(empty_database_url: str) -> None:
    migrate(empty_database_url)
    assert pending_migrations(empty_database_url) == []
    migrate(empty_database_url)
    assert pending_migrations(empty_database_url) == []


def test_a_database_of_a_newer_version_is_refused_with_its_revision(database: Database, database_url: str) -> None:
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for refused in (migrate, pending_migrations):
        with pytest.raises(ModelStoreUnavailableError, match="9999"):
            refused(database_url)


def test_a_migration_killed_after_any_statement_leaves_all_or_nothing_and_the_next_start_finishes_it(
    empty_database_url: str, repository_root: Path
) -> None:
    killed_after = 0
    returncode = -signal.SIGKILL
    while returncode == -signal.SIGKILL:
        killed_after += 5
        module = ["tests.unit.library.killed_migration", empty_database_url, str(killed_after)]
        returncode = run_module(module, directory=repository_root, environment=os.environ).returncode
        if returncode == -signal.SIGKILL:
            database = Database(empty_database_url)
            with database.read() as connection:
                assert sa.inspect(connection).get_table_names() == []
            database.dispose()
    assert returncode == 0
    assert killed_after > 10, "the hook killed nothing of the migration itself"
    assert pending_migrations(empty_database_url) == []


def upgrade_to(database: Database, revision: str) -> None:
    """Migrate an empty database to an older revision."""
    with database.write() as connection:
        command.upgrade(migrating._config(connection), revision)


def older_values(model: Model) -> dict[str, Any]:
    """Return the model's values for a table of revision 0006 or before."""
    return {name: value for name, value in asdict(model).items() if name != "is_verified"}


def test_existing_models_stay_when_their_jobs_become_unique_per_user(
    empty_database_url: str, a_model: Callable[..., Model], request: pytest.FixtureRequest
) -> None:
    before = Database(empty_database_url)
    request.addfinalizer(before.dispose)
    before.ensure_file()
    upgrade_to(before, "0002")
    existing = [a_model(id=f"model-{number}", source_job_id=f"job-{number}") for number in range(3)]
    with before.write() as connection:
        connection.execute(models.insert(), [older_values(model) for model in existing])
    with pytest.raises(ModelStoreUnavailableError), before.write() as connection:
        connection.execute(models.insert(), older_values(a_model(user_id="bob", source_job_id="job-1")))
    before.dispose()

    migrate(empty_database_url)

    store = SQLModelStore(before)
    assert [store.find("alice", model.id) for model in existing] == existing
    bobs = a_model(user_id="bob", source_job_id="job-1")
    assert store.add(bobs) == bobs
    assert store.add(a_model(source_job_id="job-1")) == existing[1]
    with before.read() as connection:
        assert {index["name"] for index in sa.inspect(connection).get_indexes("models")} >= {"ix_models_page"}


def database_at(revision: str, url: str, request: pytest.FixtureRequest) -> Database:
    """Return a database of an older revision."""
    database = Database(url)
    request.addfinalizer(database.dispose)
    database.ensure_file()
    upgrade_to(database, revision)
    return database


def test_sessions_revoked_before_the_feed_stay_revoked_and_are_not_news(
    empty_database_url: str, request: pytest.FixtureRequest
) -> None:
    database = database_at("0004", empty_database_url, request)
    with database.write() as connection:
        statement = sa.text("INSERT INTO revoked_sessions (sid, expires_at) VALUES ('sid', '2032-01-01 00:00:00+00')")
        connection.execute(statement)

    migrate(empty_database_url)

    sessions = SQLRevokedSessions(database, clock=lambda: datetime.now(UTC))
    moment, _ = sessions.revoked_since(None)
    assert sessions.is_revoked("sid")
    assert sessions.revoked_since(moment)[1] == []


def test_jobs_from_before_the_advice_stay_and_have_none(
    empty_database_url: str, request: pytest.FixtureRequest
) -> None:
    database = database_at("0005", empty_database_url, request)
    with database.write() as connection:
        statement = sa.text(
            "INSERT INTO jobs (upload_id, user_id, job_id, filename, size, status, parameters, started_at) VALUES"
            " ('upload', 'alice', 'job', 'm.onnx', 7, 'completed', '{\"platform\": \"720\"}', '2026-11-01 12:00:00+00')"
        )
        connection.execute(statement)

    migrate(empty_database_url)

    record = SQLJobLedger(database, clock=lambda: datetime.now(UTC)).find_job("alice", "job")
    assert record is not None
    assert (record.filename, record.size, record.advice) == ("m.onnx", 7, None)


def test_jobs_from_before_the_usual_times_count_for_them(
    empty_database_url: str, request: pytest.FixtureRequest
) -> None:
    database = database_at("0006", empty_database_url, request)
    sizes = {"0": 0, "1": 1, "7": 7, "8": 8, "large": 5 * 2**30, "none": None}
    with database.write() as connection:
        for job_id, size in sizes.items():
            connection.execute(
                sa.text(
                    "INSERT INTO jobs (upload_id, user_id, job_id, filename, size, status, parameters, started_at)"
                    " VALUES (:id, 'alice', :id, 'm.onnx', :size, 'completed', '{\"platform\": \"720\"}',"
                    " '2026-11-01 12:00:00+00')"
                ),
                {"id": job_id, "size": size},
            )

    migrate(empty_database_url)

    with database.read() as connection:
        rows = connection.execute(sa.select(jobs.c.job_id, jobs.c.chip, jobs.c.size_class)).all()
    assert {row.job_id: (row.chip, row.size_class) for row in rows} == {
        job_id: (None, None) if size is None else ("720", size_class(size)) for job_id, size in sizes.items()
    }


def test_only_the_newest_of_many_jobs_get_the_key_of_usual_times(
    empty_database_url: str, request: pytest.FixtureRequest
) -> None:
    """The tables are locked until that is done, while processes of an earlier version still need them."""
    database = database_at("0006", empty_database_url, request)
    with database.write() as connection:
        for month, count in (("10", 10), ("11", 10_000)):
            connection.execute(
                sa.text(
                    f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"
                    " INSERT INTO jobs (upload_id, user_id, job_id, filename, size, status, parameters, started_at)"
                    f" SELECT '{month}-' || n, 'alice', '{month}-' || n, 'm.onnx', 7, 'completed',"
                    f" '{{\"platform\": \"720\"}}', '2026-{month}-01 12:00:00+00' FROM numbers"
                )
            )

    migrate(empty_database_url)

    with database.read() as connection:
        unknown = connection.scalars(sa.select(jobs.c.job_id).where(jobs.c.chip.is_(None), jobs.c.size_class.is_(None)))
        assert set(unknown) == {f"10-{number}" for number in range(1, 11)}


HOLDS_THE_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print(1, flush=True)
sys.stdin.read()
"""


def test_a_lock_that_is_held_for_too_long_is_reported(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'v.db'}"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK, tmp_path / "v.db.migrating"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"1\n"
    with pytest.raises(ModelStoreUnavailableError, match="too long"):
        migrate(url, lock_timeout_seconds=0)
    holder.kill()
    holder.communicate()
    migrate(url)


def test_a_folder_that_cannot_be_made_is_a_failure_of_the_database(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelStoreUnavailableError):
        migrate(f"sqlite:///{tmp_path / 'file' / 'v.db'}")


def run_command(environment: dict[str, str], root: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VISIONA_")}
    return run_module(["app.library.migrating"], directory=root, environment=inherited | environment)


def test_the_command_migrates_the_database_of_the_environment(tmp_path: Path, repository_root: Path) -> None:
    url = f"sqlite:///{tmp_path / 'v.db'}"
    environment = {
        "VISIONA_OIDC_ISSUER": "http://127.0.0.1:1",
        "VISIONA_OIDC_CLIENT_ID": "gateway",
        "VISIONA_OIDC_CLIENT_SECRET": "tell-nobody",
        "VISIONA_PUBLIC_BASE_URL": "http://localhost:8080",
        "VISIONA_SECRET_KEY": "k" * 32,
        "VISIONA_DATABASE_URL": url,
    }
    done = run_command(environment, repository_root)
    assert (done.returncode, done.stderr) == (0, "")
    assert pending_migrations(url) == []

    failed = run_command(
        environment | {"VISIONA_DATABASE_URL": "postgresql://u:tell-nobody@127.0.0.1:1/x"}, repository_root
    )
    assert failed.returncode == 1
    assert "tell-nobody" not in failed.stdout + failed.stderr
    assert "could not be migrated" in failed.stderr


def test_the_command_names_missing_settings(repository_root: Path) -> None:
    failed = run_command({}, repository_root)
    assert failed.returncode == 2
    assert "VISIONA_OIDC_ISSUER" in failed.stderr


def test_a_database_at_two_revisions_at_once_is_refused(database: Database, database_url: str) -> None:
    """As a merge that went wrong leaves it; to guess would be to migrate from the wrong one."""
    with database.write() as connection:
        connection.execute(sa.text("INSERT INTO alembic_version (version_num) VALUES ('0001')"))
    for refused in (migrate, pending_migrations):
        with pytest.raises(ModelStoreUnavailableError, match="several revisions"):
            refused(database_url)


def test_a_lock_file_that_cannot_be_opened_is_our_databases_failure(tmp_path: Path) -> None:
    (tmp_path / "v.db.migrating").mkdir()
    with pytest.raises(ModelStoreUnavailableError, match="lock file"):
        migrate(f"sqlite:///{tmp_path / 'v.db'}")


def test_alembics_own_command_is_sent_to_ours() -> None:
    """It would not know which database, and a URL in a file would be a password in a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrating.__file__).parent / "migrations"))
    with pytest.raises(TypeError, match=r"python -m app\.library\.migrating"):
        command.upgrade(config, "head")
