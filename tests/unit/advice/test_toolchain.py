"""The chip table: it is complete, and each of its conditions has a predicate and a text."""

import pytest

from app.advice.conditions import CONDITIONS
from app.advice.texts import condition_text
from app.advice.toolchain import toolchain
from app.advice.verdicts import REWRITTEN
from app.errors import LANGUAGES

TABLE = toolchain()
USED = {
    support.condition
    for chips in TABLE.operators.values()
    for support in chips.values()
    if support.condition is not None
}


def test_the_table_names_its_source_and_its_chips() -> None:
    assert "655441c" in TABLE.source
    assert TABLE.chips == ("520", "720", "530", "630", "730")
    assert (TABLE.opsets, TABLE.legacy_opsets, TABLE.legacy_lacks) == ((8, 18), (8, 12), {"730"})
    assert TABLE.first_user_model_id == 32768


def test_each_operator_has_an_entry_for_each_chip() -> None:
    assert all(tuple(chips) == TABLE.chips for chips in TABLE.operators.values())


def test_each_condition_that_is_used_has_a_predicate() -> None:
    assert USED == set(TABLE.conditions) == {key for key in CONDITIONS if key.isdigit()}
    assert {condition for _, condition in REWRITTEN.values()} == set(CONDITIONS) - USED


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_condition_has_a_text(language: str) -> None:
    assert all(condition_text(key, language) != key for key in CONDITIONS)


def test_an_operator_that_the_table_lacks_does_not_run_on_the_npu() -> None:
    assert not TABLE.support("Gelu", "730").npu
    assert TABLE.chips_with("Gelu") == ()
    assert TABLE.chips_with("Sigmoid") == ("720", "530", "630", "730")
