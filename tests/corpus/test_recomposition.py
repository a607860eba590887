"""Every case of the corpus, in process: refused with its code, or read by four readers as what was meant."""

import pytest

from tests.corpus.case import Case, Passes, Refused
from tests.corpus.cases import CASES
from tests.corpus.giving import give
from tests.corpus.judgement import assert_every_reader_sees
from tests.corpus.request_framings import FRAMINGS


def test_the_corpus_has_at_least_150_cases_of_different_names_and_contents() -> None:
    refused = [case for case in CASES if isinstance(case.outcome, Refused)]
    print(f"{len(CASES)} messages, of which {len(refused)} are refused, and {len(FRAMINGS)} framings of a request")
    assert len(CASES) >= 150
    assert min(len(refused), len(CASES) - len(refused)) >= 50
    assert len({case.name for case in CASES}) == len(CASES)
    assert len({(case.body, case.content_type) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_message_is_refused_by_its_code_or_read_alike_by_everybody(case: Case) -> None:
    given = give(case.content_type, [case.body] if case.body else [])

    if isinstance(case.outcome, Passes):
        assert (given.code, given.is_whole) == (None, True)
        assert_every_reader_sees(given.content_type, given.body, case.outcome.parts)
    else:
        assert given.code == case.outcome.code
        assert not given.is_whole
        boundary = given.content_type.partition("boundary=")[2].encode()
        assert b"--%b--" % boundary not in given.body
