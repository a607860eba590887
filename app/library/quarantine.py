"""Where the sweep moves what looks like the remnant of a crash: it deletes nothing before seven days have passed.

Files get another name in the storage, records move to another table. Only the sweep and the command
`python -m app.library.quarantine` see them. The command lists them and, with `restore`, brings them back.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.config import Settings
from app.domain.model import Model
from app.library.database import Database
from app.library.models import SQLModelStore
from app.library.pairing import opened_library, run_command
from app.library.storage import FileStorage
from app.library.tables import models, quarantined_models

#: How long something stays in quarantine.
QUARANTINE_TIME = timedelta(days=7)

_COLUMNS = [column.name for column in models.columns]


class Quarantine:
    """The quarantine of one library. Thread-safe.

    Every method raises ModelStoreUnavailableError when the database fails, and StorageUnavailableError when the storage
    does.
    """

    def __init__(self, database: Database, storage: FileStorage, store: SQLModelStore) -> None:
        """Quarantine records of `database` and files of `storage`."""
        self._database = database
        self._storage = storage
        self._store = store

    def add_record(self, model: Model, at: datetime) -> bool:
        """Move a record out of the library. Return False if it is gone."""
        is_it = models.c.id == model.id
        moved = sa.select(
            *(models.c[name] for name in _COLUMNS), sa.literal(at, quarantined_models.c.quarantined_at.type)
        )
        with self._database.write() as connection:
            connection.execute(
                sa.insert(quarantined_models).from_select([*_COLUMNS, "quarantined_at"], moved.where(is_it))
            )
            return connection.execute(sa.delete(models).where(is_it).returning(models.c.id)).first() is not None

    def records(self) -> Sequence[tuple[Model, datetime]]:
        """Return all records in quarantine and since when, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(quarantined_models).order_by(quarantined_models.c.quarantined_at, quarantined_models.c.id)
            ).all()
        return [(Model(**{name: getattr(row, name) for name in _COLUMNS}), row.quarantined_at) for row in rows]

    def restore_record(self, model: Model) -> bool:
        """Move a record back. Return False, and change nothing, if its job has another model by now."""
        is_it = quarantined_models.c.id == model.id
        moved = sa.select(*(quarantined_models.c[name] for name in _COLUMNS)).where(is_it)
        with self._database.write() as connection:
            insert = self._database.insert(models).from_select(_COLUMNS, moved)
            restored = connection.execute(insert.on_conflict_do_nothing().returning(models.c.id)).first()
            if restored is not None:
                connection.execute(sa.delete(quarantined_models).where(is_it))
            return restored is not None

    def restore_known(self, progress: Callable[[], None]) -> int:
        """Move back files that have a record, and records that have a file. Return how many.

        They were not remnants: a wrong database or storage was in use for a while.
        """
        count = 0
        for file in list(self._storage.quarantined()):
            progress()
            if self._store.known_storage_keys([file.key]):
                count += self._storage.restore(file)
        for model, _ in self.records():
            progress()
            if self._storage.has_file(model.storage_key):
                count += self.restore_record(model)
        return count

    def remove_older(self, than: datetime, progress: Callable[[], None]) -> int:
        """Remove for good what was quarantined before then and is not needed. Return how many."""
        count = 0
        for file in list(self._storage.quarantined()):
            progress()
            if file.quarantined_at < than and not self._is_needed(file.key):
                self._storage.remove_quarantined(file)
                count += 1
        for model, since in self.records():
            progress()
            if since < than and not (self._storage.has_file(model.storage_key) and self.restore_record(model)):
                with self._database.write() as connection:
                    connection.execute(sa.delete(quarantined_models).where(quarantined_models.c.id == model.id))
                count += 1
        return count

    def _is_needed(self, key: str) -> bool:
        return bool(self._store.known_storage_keys([key])) and not self._storage.has_file(key)


def _work(arguments: argparse.Namespace, settings: Settings) -> None:
    with opened_library(settings) as (database, storage, _):
        quarantine = Quarantine(database, storage, SQLModelStore(database))
        wanted = None if arguments.action == "restore" and arguments.all else set(getattr(arguments, "key", ()))
        for file in list(storage.quarantined()):
            done = storage.restore(file) if wanted is None or file.key in wanted else None
            _tell("file", file.key, file.size, file.quarantined_at, done)
        for model, since in quarantine.records():
            done = quarantine.restore_record(model) if wanted is None or model.storage_key in wanted else None
            _tell("record", model.storage_key, model.size, since, done)


def _tell(kind: str, key: str, size: int, since: datetime, is_restored: bool | None) -> None:
    """Print one entry. `is_restored` is None if it was not to be restored."""
    outcome = {True: "restored", False: "not restored: the library has another one", None: "in quarantine"}[is_restored]
    until = since + QUARANTINE_TIME
    sys.stdout.write(f"{kind:6}  {key}  {size} bytes  until {until:%Y-%m-%d %H:%M:%SZ}  {outcome}\n")


def main() -> int:
    """List what is in quarantine, or restore it."""
    parser = argparse.ArgumentParser(
        prog="python -m app.library.quarantine",
        description="List what the sweep has put into quarantine, or restore it.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="list all entries (the default)")
    restore = actions.add_parser("restore", help="move entries back to the library")
    which = restore.add_mutually_exclusive_group(required=True)
    which.add_argument("key", nargs="*", default=[], help="the keys to restore, as the list shows them")
    which.add_argument("--all", action="store_true", help="restore everything")
    return run_command(parser, _work)


if __name__ == "__main__":
    sys.exit(main())
