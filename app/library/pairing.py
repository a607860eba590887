"""Which storage belongs to which database: both have the same random library id.

A wrong database or storage looks like one that has lost everything. The id tells them apart, so the sweep removes
nothing unless both sides have the same id.

The id is written to the database first and then to the storage, so the storage needs no conditional writes. `paired_at`
is set when the id was read back from the storage; until then a storage without an id is an unfinished pairing and not a
mismatch. Processes that pair the same database and storage at once write the same id.

`python -m app.library.pairing` shows the state of a pair, and `python -m app.library.pairing pair` pairs one by hand.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import uuid4

import sqlalchemy as sa
import structlog

from app import metrics
from app.config import ConfigurationError, Settings, load_settings
from app.domain.model import Model, job_of_storage_key
from app.errors import GatewayError, ModelStoreUnavailableError, StorageMismatchError, StorageUnavailableError
from app.library.database import Database
from app.library.migrating import pending_migrations
from app.library.models import SQLModelStore
from app.library.storage import FileStorage
from app.library.storage_urls import open_storage
from app.library.tables import library

_BATCH = 200
_ROW = 1

log = structlog.get_logger(__name__)


class PairState(StrEnum):
    """The state of a database and a storage."""

    PAIRED = "paired"
    #: Neither side has an id yet, or pairing was interrupted.
    UNPAIRED = "unpaired"
    #: The ids differ, or exist on one side only.
    MISMATCH = "mismatch"


class LibraryPair:
    """A database and a storage that should belong together. Thread-safe.

    Every method raises ModelStoreUnavailableError when the database fails, and StorageUnavailableError when the storage
    does.
    """

    def __init__(
        self,
        database: Database,
        storage: FileStorage,
        models: SQLModelStore,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        """Compare `database` with `storage`. Connects to nothing."""
        self._database = database
        self._storage = storage
        self._models = models
        self._clock = clock
        #: The confirmed id that was last read from the database, and when.
        self._confirmed = ("", datetime.min.replace(tzinfo=UTC))

    def state(self) -> PairState:
        """Return the state. Changes nothing."""
        for _ in range(2):  # another process may pair them between our two reads
            ours, is_confirmed = self.database_id()
            theirs = self._storage.library_id()
            if theirs is None and not is_confirmed:
                return PairState.UNPAIRED
            if ours == theirs:
                return PairState.PAIRED
        return PairState.MISMATCH

    def require_match(self, *, max_age: timedelta = timedelta()) -> None:
        """Raise StorageMismatchError if the ids differ or exist on one side only. Without any id both may be used.

        The database's id never changes, so a reading of it is used for `max_age`. The storage's is always read.
        Return if the database fails: a caller that needs it gets the failure anyway.
        """
        confirmed_id, read_at = self._confirmed
        if self._clock() - read_at < max_age and self._storage.library_id() == confirmed_id:
            return
        try:
            state = self.state()
        except ModelStoreUnavailableError:
            return
        if state is PairState.MISMATCH:
            metrics.LIBRARY_ALARMS(state).inc()
            raise StorageMismatchError("the database and the storage do not have the same library id")

    def establish(self, progress: Callable[[], None] = lambda: None) -> PairState:
        """Pair the two if neither has an id and they fit, and return the new state. Raise an alarm unless it is PAIRED.

        They fit if the file of every record is there. A database without records fits only an empty storage, because it
        may be the wrong one. `progress` is called from time to time while the records are read.
        """
        state = self.state()
        if state is PairState.UNPAIRED:
            problem = self._problem(progress)
            if problem is None:
                self._write(uuid4().hex)
                state = self.state()
            else:
                log.error("library.unpaired", problem=problem)
        if state is PairState.PAIRED and not self.database_id()[1]:
            self._write(uuid4().hex)  # a pairing was interrupted between its two sides
        elif state is PairState.MISMATCH:
            log.error("library.mismatch", database=self.database_id()[0], storage=self._storage.library_id())
        if state is not PairState.PAIRED:
            metrics.LIBRARY_ALARMS(state).inc()
        return state

    def pair(self, *, force: bool = False) -> str:
        """Pair the two even if files or records are missing, and return their id.

        The id is the database's, else the storage's, else a new one. Raises StorageMismatchError for a mismatch unless
        `force` is set.
        """
        if self.state() is PairState.MISMATCH and not force:
            raise StorageMismatchError("the ids differ, or exist on one side only")
        decided = self._write(self._storage.library_id() or uuid4().hex, replace=True)
        if self.state() is not PairState.PAIRED:
            raise StorageUnavailableError("the storage does not return the id that was written to it")
        return decided

    def database_id(self) -> tuple[str | None, bool]:
        """Return the database's id, and whether it was read back from the storage."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(library)).one_or_none()
        if row is None:
            return None, False
        if row.paired_at is not None:
            self._confirmed = row.id, self._clock()
        return row.id, row.paired_at is not None

    def models_without_file(self, progress: Callable[[], None] = lambda: None) -> Iterator[Model]:
        """Iterate over the records whose file is missing from the storage."""
        for model in self._models.all(batch_size=_BATCH, progress=progress):
            # Deleting a model removes its record first. Read the record again: it may have just been deleted.
            if not self._storage.has_file(model.storage_key) and self._models.find(model.user_id, model.id):
                yield model

    def _problem(self, progress: Callable[[], None]) -> str | None:
        """Return why only an operator may pair the two, or None if the gateway may."""
        if next(self.models_without_file(progress), None) is not None:
            return "a record's file is missing"
        if self._models.batch(limit=1, after_id=None):
            return None
        if any(job_of_storage_key(file.key) for file in self._storage.files()):
            return "the storage has files and the database has no records"
        return None

    def _write(self, proposed: str, *, replace: bool = False) -> str:
        """Write one id to both sides and return it: the database's, or `proposed` if it has none.

        An id that the storage has got meanwhile stays, unless `replace` is set: another database was faster.
        """
        with self._database.write() as connection:
            connection.execute(
                self._database.insert(library).values(only_row=_ROW, id=proposed).on_conflict_do_nothing()
            )
            decided: str = connection.execute(sa.select(library.c.id)).scalar_one()
        theirs = self._storage.library_id()
        if theirs is None or (replace and theirs != decided):
            self._storage.write_library_id(decided)
        if self._storage.library_id() == decided:
            with self._database.write() as connection:
                connection.execute(sa.update(library).where(library.c.id == decided).values(paired_at=self._clock()))
            log.info("library.paired", library=decided)
        return decided


@contextmanager
def opened_library(settings: Settings) -> Iterator[tuple[Database, FileStorage, LibraryPair]]:
    """Open the database and the storage of the settings, for a command.

    Raises ModelStoreUnavailableError if the database does not have this version's schema. A missing SQLite file is not
    created.
    """
    url = settings.database_url.get_secret_value()
    if pending_migrations(url):
        raise ModelStoreUnavailableError("the database lacks migrations: is VISIONA_DATABASE_URL right?")
    database = Database(url, pool_size=1)
    try:
        storage = open_storage(settings.storage_url)
        yield (
            database,
            storage,
            LibraryPair(database, storage, SQLModelStore(database), clock=lambda: datetime.now(UTC)),
        )
    finally:
        database.dispose()


def run_command(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace, Settings], None]) -> int:
    """Run a command of the library and return its exit code: 2 for invalid settings, 1 for a failure."""
    arguments = parser.parse_args()
    try:
        work(arguments, load_settings())
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except GatewayError as failure:
        sys.stderr.write(f"Failed: {failure.reason}\n")
        return 1
    return 0


def _work(arguments: argparse.Namespace, settings: Settings) -> None:
    with opened_library(settings) as (database, storage, pair):
        if arguments.action == "pair":
            sys.stdout.write(f"Paired. The library id is {pair.pair(force=arguments.force)}.\n")
            return
        models = SQLModelStore(database)
        keys = [key for file in storage.files() if job_of_storage_key(key := file.key)]
        known = sum(len(models.known_storage_keys(keys[at : at + _BATCH])) for at in range(0, len(keys), _BATCH))
        sys.stdout.write(
            f"state                 {pair.state()}\n"
            f"id in the database    {pair.database_id()[0] or 'none'}\n"
            f"id in the storage     {storage.library_id() or 'none'}\n"
            f"records               {sum(1 for _ in models.all(batch_size=_BATCH))}\n"
            f"records without file  {sum(1 for _ in pair.models_without_file())}\n"
            f"files                 {len(keys)}\n"
            f"files without record  {len(keys) - known}\n"
        )


def main() -> int:
    """Show the state of the environment's pair, or pair it."""
    parser = argparse.ArgumentParser(
        prog="python -m app.library.pairing",
        description="Show whether the database and the storage belong together, or pair them.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("show", help="show both ids and what is missing on either side (the default)")
    pair = actions.add_parser("pair", help="give both the same id")
    pair.add_argument(
        "--force", action="store_true", help="also if the two have different ids, or only one of them has an id"
    )
    return run_command(parser, _work)


if __name__ == "__main__":
    sys.exit(main())
