"""Every case of the corpus, cut into arrivals in every way: the outcome is always the same."""

from collections.abc import Iterable

import pytest

from tests.corpus.case import Case
from tests.corpus.cases import CASES
from tests.corpus.giving import cut, give, lent

#: Every cut of a longer message would take too long; nothing in a longer one is new.
SPLIT_BELOW_BYTES = 1_500


def of(cases: Iterable[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])


@of(case for case in CASES if len(case.body) <= SPLIT_BELOW_BYTES)
def test_message_cut_anywhere_has_the_same_outcome(case: Case) -> None:
    expected = give(case.content_type, cut(case.body)).outcome

    for point in range(1, len(case.body)):
        found = give(case.content_type, cut(case.body, point)).outcome
        assert found == expected, f"cut at {point}, before {case.body[point : point + 20]!r}"


@of(case for case in CASES if len(case.body) <= SPLIT_BELOW_BYTES)
def test_message_that_comes_byte_by_byte_has_the_same_outcome(case: Case) -> None:
    expected = give(case.content_type, cut(case.body)).outcome

    assert give(case.content_type, cut(case.body, *range(len(case.body)))).outcome == expected


@of(case for case in CASES if len(case.body) > SPLIT_BELOW_BYTES)
def test_long_message_in_pieces_of_any_size_has_the_same_outcome(case: Case) -> None:
    expected = give(case.content_type, cut(case.body)).outcome

    for size in (997, 4_096, 65_536):
        assert give(case.content_type, cut(case.body, *range(0, len(case.body), size))).outcome == expected, size
        assert give(case.content_type, lent(cut(case.body, *range(0, len(case.body), size)))).outcome == expected, size
