"""The records of the model library. Implements the port `ModelStore`.

The files are the storage's; this module neither opens nor removes one. What a name may look like is the domain's.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from app.domain.filters import ALL_MODELS, ModelFilter
from app.domain.model import Model
from app.errors import LibraryFullError, ModelStoreUnavailableError
from app.library.database import Database
from app.library.search import contains_all, joined, parameter
from app.library.tables import jobs, models, newest_first, quarantined_models

_TRIES = 3


def _of_source_job(name: str) -> sa.Label[str]:
    """Return a parameter of the job that a model was made from, as a column."""
    is_source = sa.and_(jobs.c.user_id == models.c.user_id, jobs.c.job_id == models.c.source_job_id)
    found = sa.select(parameter(jobs.c.parameters, name)).where(is_source).correlate(models)
    return found.scalar_subquery().label(name)


_MODEL_ID, _VERSION = _of_source_job("model_id"), _of_source_job("version")
#: Of a model as its owner sees it: everything in `Model`.
_COLUMNS = (*models.c, _MODEL_ID, _VERSION)


class SQLModelStore:
    """Model records in a database; see the port `ModelStore` for the methods. Thread-safe.

    Every method raises ModelStoreUnavailableError when the database fails.
    """

    def __init__(self, database: Database) -> None:
        """Store the records in `database`."""
        self._database = database

    def add(self, model: Model, *, quota_bytes: int | None = None) -> Model:
        """Add a model and return it, or return the user's existing model of the same job.

        Raises LibraryFullError if the user's models would then be larger than the quota. Additions of one user take
        turns, because two of them that run at the same time do not see each other's row.
        """
        values = [sa.literal(getattr(model, column.name), column.type).label(column.name) for column in models.columns]
        fits = sa.true() if quota_bytes is None else _bytes_of(model.user_id) + model.size <= quota_bytes
        insert = self._database.insert(models).from_select([*models.columns], sa.select(*values).where(fits))
        for _ in range(_TRIES):
            with self._database.write(lock=None if quota_bytes is None else f"models of {model.user_id}") as connection:
                added = connection.execute(insert.on_conflict_do_nothing().returning(models.c.id)).first()
                if added is not None:
                    return model
                row = connection.execute(
                    sa.select(*_COLUMNS).where(
                        models.c.user_id == model.user_id, models.c.source_job_id == model.source_job_id
                    )
                ).one_or_none()
                used_bytes = connection.execute(sa.select(_bytes_of(model.user_id))).scalar_one()
            if row is not None:
                return _model(row)
            if quota_bytes is not None and used_bytes + model.size > quota_bytes:
                raise LibraryFullError(quota_bytes)
            # The conflicting row was deleted meanwhile (PostgreSQL only), or has the same id and another job.
        raise ModelStoreUnavailableError("the id or the storage key of a new model is taken")

    def find_by_source_job_id(self, user_id: str, job_id: str) -> Model | None:
        """Return the user's model that was made from this job, or None."""
        return self._find(models.c.user_id == user_id, models.c.source_job_id == job_id)

    def find_with_usage(self, user_id: str, job_id: str) -> tuple[Model | None, int]:
        """Return the user's model that was made from this job, or None, and the bytes of all of the user's models."""
        used = sa.select(_bytes_of(user_id).label("used_bytes")).subquery()
        is_wanted = sa.and_(models.c.user_id == user_id, models.c.source_job_id == job_id)
        with self._database.read() as connection:
            row = connection.execute(sa.select(used, *_COLUMNS).select_from(used.outerjoin(models, is_wanted))).one()
        values = row._asdict()
        used_bytes = int(values.pop("used_bytes"))
        return None if row.id is None else Model(**values), used_bytes

    def model_ids_by_job(self, user_id: str, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the ids of the user's models by job id, for jobs that have one. For a page of jobs at a time."""
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
        """Return the user's model, or None."""
        return self._find(models.c.user_id == user_id, models.c.id == model_id)

    def page(
        self, user_id: str, *, limit: int, after: tuple[datetime, str] | None, wanted: ModelFilter = ALL_MODELS
    ) -> Sequence[Model]:
        """Return at most `limit` wanted models after that key, newest first by (created_at, id)."""
        own = sa.select(*_COLUMNS).where(models.c.user_id == user_id)
        if wanted.words:
            text = joined(models.c.name, models.c.filename, _MODEL_ID.element, _VERSION.element)
            own = own.where(contains_all(text, wanted.words))
        if wanted.chip is not None:
            own = own.where(models.c.platform == wanted.chip)
        statement = newest_first(own, models.c.created_at, models.c.id, limit=limit, after=after)
        with self._database.read() as connection:
            return [_model(row) for row in connection.execute(statement)]

    def rename(self, user_id: str, model_id: str, name: str) -> Model | None:
        """Change the display name. Return the changed model, or None if the user has no such model."""
        with self._database.write() as connection:
            row = connection.execute(
                sa.update(models)
                .where(models.c.user_id == user_id, models.c.id == model_id)
                .values(name=name)
                .returning(*_COLUMNS)
            ).one_or_none()
        return None if row is None else _model(row)

    def delete(self, user_id: str, model_id: str) -> bool:
        """Remove the record. Return False if the user has no such model."""
        with self._database.write() as connection:
            removed = connection.execute(
                sa.delete(models).where(models.c.user_id == user_id, models.c.id == model_id).returning(models.c.id)
            )
            return removed.first() is not None

    def batch(self, *, limit: int, after_id: str | None) -> Sequence[Model]:
        """Return at most `limit` models of all users after that id, ordered by id."""
        statement = sa.select(models).order_by(models.c.id).limit(limit)
        if after_id is not None:
            statement = statement.where(models.c.id > after_id)
        with self._database.read() as connection:
            return [_model(row) for row in connection.execute(statement)]

    def all(self, *, batch_size: int, progress: Callable[[], None] = lambda: None) -> Iterator[Model]:
        """Iterate over all models of all users, read in batches. Calls `progress` after each batch."""
        after: str | None = None
        while batch := self.batch(limit=batch_size, after_id=after):
            progress()
            yield from batch
            after = batch[-1].id

    def known_storage_keys(self, storage_keys: Collection[str]) -> frozenset[str]:
        """Return the keys that a record has, also in quarantine. For some hundred keys at a time."""
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
            row = connection.execute(sa.select(*_COLUMNS).where(*conditions)).one_or_none()
        return None if row is None else _model(row)


def _bytes_of(user_id: str) -> sa.ScalarSelect[int]:
    total = sa.func.coalesce(sa.func.sum(models.c.size), 0)
    return sa.select(total).where(models.c.user_id == user_id).scalar_subquery()


def _model(row: Row[Any]) -> Model:
    return Model(**row._asdict())
