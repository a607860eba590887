"""Model records: one a job, seen by their owner only, listed newest first."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.model import Model
from app.errors import LibraryFullError, ModelStoreUnavailableError
from app.library.database import Database
from app.library.models import SQLModelStore
from tests.support.parallel import in_parallel

MakeModel = Callable[..., Model]


def test_a_model_comes_back_as_it_was_recorded(store: SQLModelStore, a_model: MakeModel) -> None:
    model = a_model()
    assert store.add(model) == model
    assert store.find("alice", model.id) == model
    assert store.find_by_source_job_id("alice", model.source_job_id) == model


def test_the_second_model_of_a_job_is_the_first(store: SQLModelStore, a_model: MakeModel) -> None:
    first = store.add(a_model(source_job_id="job"))
    assert store.add(a_model(source_job_id="job")) == first
    assert store.page("alice", limit=10, after=None) == [first]


def test_recording_the_same_model_again_changes_nothing(store: SQLModelStore, a_model: MakeModel) -> None:
    model = store.add(a_model())
    assert store.add(replace(model, name="another")) == model


def test_of_20_threads_that_record_models_of_one_job_all_get_the_same(store: SQLModelStore, a_model: MakeModel) -> None:
    assert len(set(in_parallel(20, lambda _: store.add(a_model(source_job_id="job"))))) == 1


def test_another_users_model_of_the_same_job_keeps_nobody_from_having_one(
    store: SQLModelStore, a_model: MakeModel
) -> None:
    theirs = store.add(a_model(source_job_id="job", user_id="bob"))
    own = a_model(source_job_id="job")
    assert store.add(own) == own
    assert store.find_by_source_job_id("alice", "job") == own
    assert store.find_by_source_job_id("bob", "job") == theirs


@pytest.mark.parametrize("field", ["id", "storage_key"])
def test_a_taken_id_or_storage_key_never_gives_somebody_elses_model(
    store: SQLModelStore, a_model: MakeModel, field: str
) -> None:
    taken = store.add(a_model())
    with pytest.raises(ModelStoreUnavailableError):
        store.add(replace(a_model(user_id="bob"), **{field: getattr(taken, field)}))


def test_other_users_cannot_see_rename_or_delete_a_model(store: SQLModelStore, a_model: MakeModel) -> None:
    model = store.add(a_model())
    assert store.find("bob", model.id) is None
    assert store.find_by_source_job_id("bob", model.source_job_id) is None
    assert store.model_ids_by_job("bob", [model.source_job_id]) == {}
    assert store.page("bob", limit=10, after=None) == []
    assert store.rename("bob", model.id, "mine") is None
    assert not store.delete("bob", model.id)
    assert store.find("alice", model.id) == model


def test_renaming_changes_the_name_only(store: SQLModelStore, a_model: MakeModel) -> None:
    model = store.add(a_model())
    renamed = store.rename("alice", model.id, "新名字")
    assert renamed == replace(model, name="新名字")
    assert store.find("alice", model.id) == renamed
    assert store.rename("alice", "absent", "x") is None


def test_after_a_delete_the_job_may_have_another_model(store: SQLModelStore, a_model: MakeModel) -> None:
    model = store.add(a_model(source_job_id="job"))
    assert store.delete("alice", model.id)
    assert not store.delete("alice", model.id)
    assert store.find("alice", model.id) is None
    again = a_model(source_job_id="job")
    assert store.add(again) == again


def test_pages_list_every_model_once_newest_first_even_with_equal_times(
    store: SQLModelStore, a_model: MakeModel
) -> None:
    now = a_model().created_at
    made = [store.add(a_model(created_at=now + timedelta(microseconds=number // 3))) for number in range(10)]
    store.add(a_model(user_id="bob"))
    seen: list[Model] = []
    while page := store.page("alice", limit=4, after=(seen[-1].created_at, seen[-1].id) if seen else None):
        seen.extend(page)
    assert seen == sorted(made, key=lambda model: (model.created_at, model.id), reverse=True)


def test_models_are_found_by_several_job_ids_at_once(store: SQLModelStore, a_model: MakeModel) -> None:
    models = [store.add(a_model()) for _ in range(3)]
    wanted = [model.source_job_id for model in models] + ["absent"]
    assert store.model_ids_by_job("alice", iter(wanted)) == {model.source_job_id: model.id for model in models}
    assert store.model_ids_by_job("alice", []) == {}


def test_the_bytes_of_a_user_are_the_sum_of_their_models(store: SQLModelStore, a_model: MakeModel) -> None:
    assert store.find_with_usage("alice", "absent") == (None, 0)
    model = store.add(a_model(size=6 * 1024**3))
    store.add(a_model(size=1))
    store.add(a_model(size=5, user_id="bob"))
    assert store.find_with_usage("alice", model.source_job_id) == (model, 6 * 1024**3 + 1)
    assert store.find_with_usage("bob", model.source_job_id) == (None, 5)


def test_a_model_that_fits_into_the_quota_to_the_last_byte_is_added_and_a_larger_one_is_not(
    store: SQLModelStore, a_model: MakeModel
) -> None:
    store.add(a_model(size=3))
    store.add(a_model(size=100, user_id="bob"))
    with pytest.raises(LibraryFullError):
        store.add(a_model(size=8), quota_bytes=10)
    fitting = a_model(size=7)
    assert store.add(fitting, quota_bytes=10) == fitting
    assert store.add(replace(fitting, size=8), quota_bytes=10) == fitting, (
        "the model of a job is found in a full library"
    )
    assert store.find_with_usage("alice", "absent") == (None, 10)


def test_of_20_models_that_are_added_at_once_as_many_are_stored_as_fit(database_url: str, a_model: MakeModel) -> None:
    """Also if two replicas add them."""
    replicas = [Database(database_url), Database(database_url)]
    stores = [SQLModelStore(database) for database in replicas]
    results = in_parallel(20, lambda number: stores[number % 2].add(a_model(size=3), quota_bytes=10))
    for database in replicas:
        database.dispose()
    assert [type(result) for result in results].count(Model) == 3
    assert [type(result) for result in results].count(LibraryFullError) == 17


def test_models_of_all_users_are_read_in_batches_and_by_storage_key(store: SQLModelStore, a_model: MakeModel) -> None:
    made = [store.add(a_model(user_id=user)) for user in ("alice", "bob", "carol")]
    seen: list[Model] = []
    while batch := store.batch(limit=2, after_id=seen[-1].id if seen else None):
        seen.extend(batch)
    assert sorted(seen, key=lambda model: model.id) == sorted(made, key=lambda model: model.id)
    keys = [model.storage_key for model in made]
    assert store.known_storage_keys([*keys, "no/record"]) == frozenset(keys)
    assert store.known_storage_keys([]) == frozenset()
