"""Every case of the corpus, cut into arrivals: the outcome is always the same."""

import re
from collections.abc import Iterable

import pytest

from tests.corpus.case import Case
from tests.corpus.cases import CASES
from tests.corpus.giving import cut, give, lent

#: Every cut of a longer message would take too long; nothing in a longer one is new.
SPLIT_BELOW_BYTES = 1_500


def of(cases: Iterable[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])


def telling_points(body: bytes) -> list[int]:
    """Return the cuts within and next to line ends and delimiters, and every eleventh one of the rest."""
    near = {found.start() + offset for found in re.finditer(rb"[\r\n]|--", body) for offset in (-1, 0, 1, 2)}
    return [point for point in range(1, len(body)) if point in near or point % 11 == 0]


def assert_same_outcome_for_each(points: Iterable[int], case: Case) -> None:
    expected = give(case.content_type, cut(case.body)).outcome
    for point in points:
        found = give(case.content_type, cut(case.body, point)).outcome
        assert found == expected, f"cut at {point}, before {case.body[point : point + 20]!r}"


@of(case for case in CASES if len(case.body) <= SPLIT_BELOW_BYTES)
def test_message_cut_near_a_line_end_or_delimiter_has_the_same_outcome(case: Case) -> None:
    assert_same_outcome_for_each(telling_points(case.body), case)


@pytest.mark.soak
@of(case for case in CASES if len(case.body) <= SPLIT_BELOW_BYTES)
def test_message_cut_anywhere_has_the_same_outcome(case: Case) -> None:
    assert_same_outcome_for_each(range(1, len(case.body)), case)


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
