"""The records of the model library. Implements the port `ModelStore`.

The files are the storage's; this module neither opens nor removes one. What a name may look like is the domain's.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from app.domain.model import Model
from app.errors import ModelStoreUnavailableError
from app.library.database import Database
from app.library.tables import UTCDateTime, models, quarantined_models

_TRIES = 3


class SQLModelStore:
    """Model records in a database; see the port `ModelStore` for what each method promises. Thread-safe.

    Every method raises ModelStoreUnavailableError when the database fails.
    """

    def __init__(self, database: Database) -> None:
        """Keep the records in `database`."""
        self._database = database

    def add(self, model: Model) -> Model:
        """Record a model and return it, or the user's own that was made of the same job before."""
        values = {column.name: getattr(model, column.name) for column in models.columns}
        for _ in range(_TRIES):
            with self._database.write() as connection:
                connection.execute(self._database.insert(models).values(values).on_conflict_do_nothing())
                row = connection.execute(
                    sa.select(models).where(
                        models.c.user_id == model.user_id, models.c.source_job_id == model.source_job_id
                    )
                ).one_or_none()
            if row is not None:
                return _model(row)
            # The row in our way was deleted meanwhile (PostgreSQL only), or its id was in our way, not its job.
        raise ModelStoreUnavailableError("the id or the storage key of a new model is taken")

    def find_by_source_job_id(self, user_id: str, job_id: str) -> Model | None:
        """The user's model that was made of this job, or None."""
        return self._find(models.c.user_id == user_id, models.c.source_job_id == job_id)

    def model_ids_by_job(self, user_id: str, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Of these jobs, those that the user has a model of: job id to model id. For a page of them, not thousands."""
        wanted = list(job_ids)
        if not wanted:
            return {}
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(models.c.source_job_id, models.c.id).where(
                    models.c.user_id == user_id, models.c.source_job_id.in_(wanted)
                )
            )
            return {row.source_job_id: row.id for row in rows}

    def find(self, user_id: str, model_id: str) -> Model | None:
        """The user's model, or None."""
        return self._find(models.c.user_id == user_id, models.c.id == model_id)

    def page(self, user_id: str, *, limit: int, after: tuple[datetime, str] | None) -> Sequence[Model]:
        """At most `limit` models, newest first by (created_at, id), after that key."""
        statement = (
            sa.select(models)
            .where(models.c.user_id == user_id)
            .order_by(models.c.created_at.desc(), models.c.id.desc())
            .limit(limit)
        )
        if after is not None:
            key = sa.tuple_(sa.literal(after[0], UTCDateTime), sa.literal(after[1], sa.Text))
            statement = statement.where(sa.tuple_(models.c.created_at, models.c.id) < key)
        with self._database.read() as connection:
            return [_model(row) for row in connection.execute(statement)]

    def rename(self, user_id: str, model_id: str, name: str) -> Model | None:
        """Change the display name; the changed model, or None if the user has no such model."""
        with self._database.write() as connection:
            row = connection.execute(
                sa.update(models)
                .where(models.c.user_id == user_id, models.c.id == model_id)
                .values(name=name)
                .returning(models)
            ).one_or_none()
        return None if row is None else _model(row)

    def delete(self, user_id: str, model_id: str) -> bool:
        """Remove the record. False if the user has no such model."""
        with self._database.write() as connection:
            removed = connection.execute(
                sa.delete(models).where(models.c.user_id == user_id, models.c.id == model_id).returning(models.c.id)
            )
            return removed.first() is not None

    def bytes_of(self, user_id: str) -> int:
        """The size of all the user's models together, in bytes: what a quota is compared with."""
        with self._database.read() as connection:
            total = connection.execute(
                sa.select(sa.func.coalesce(sa.func.sum(models.c.size), 0)).where(models.c.user_id == user_id)
            ).scalar_one()
            return int(total)

    def batch(self, *, limit: int, after_id: str | None) -> Sequence[Model]:
        """At most `limit` models of all users, by id, after that id: for the sweep, which sees every row once."""
        statement = sa.select(models).order_by(models.c.id).limit(limit)
        if after_id is not None:
            statement = statement.where(models.c.id > after_id)
        with self._database.read() as connection:
            return [_model(row) for row in connection.execute(statement)]

    def all(self, *, batch_size: int, progress: Callable[[], None] = lambda: None) -> Iterator[Model]:
        """Every model of every user, read in batches; `progress` is called after each."""
        after: str | None = None
        while batch := self.batch(limit=batch_size, after_id=after):
            progress()
            yield from batch
            after = batch[-1].id

    def known_storage_keys(self, storage_keys: Collection[str]) -> frozenset[str]:
        """Those of the keys that a record names, in quarantine too: for the sweep. Some hundreds at a time, not all."""
        if not storage_keys:
            return frozenset()
        with self._database.read() as connection:
            return frozenset(
                connection.scalars(
                    sa.union(
                        *(
                            sa.select(table.c.storage_key).where(table.c.storage_key.in_(storage_keys))
                            for table in (models, quarantined_models)
                        )
                    )
                )
            )

    def _find(self, *conditions: sa.ColumnElement[bool]) -> Model | None:
        with self._database.read() as connection:
            row = connection.execute(sa.select(models).where(*conditions)).one_or_none()
        return None if row is None else _model(row)


def _model(row: Row[Any]) -> Model:
    return Model(**row._asdict())
