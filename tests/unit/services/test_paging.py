"""Cursors and page sizes: opaque, exact, and refused if they are not ours."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequestError
from app.services.paging import decode_cursor, encode_cursor, parse_limit
from tests.unit.services.bench import Bench

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
TAIPEI = timezone(timedelta(hours=8))
MOMENTS = st.builds(
    lambda since, zone: (EPOCH + since).astimezone(zone),
    st.timedeltas(timedelta(0), timedelta(days=70_000)),
    st.sampled_from([UTC, TAIPEI]),
)
IDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=128)


@given(MOMENTS, IDS)
def test_a_cursor_decodes_to_its_key(moment: datetime, row_id: str) -> None:
    cursor = encode_cursor((moment, row_id))
    assert decode_cursor(cursor) == (moment, row_id)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert len(cursor) <= 300


@pytest.mark.parametrize("cursor", [None, ""])
def test_no_cursor_is_the_first_page(cursor: str | None) -> None:
    assert decode_cursor(cursor) is None


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@given(st.text(max_size=400) | st.text(max_size=60).map(encoded))
def test_any_other_text_is_refused_or_a_key(text: str) -> None:
    try:
        key = decode_cursor(text)
    except InvalidRequestError:
        return
    assert key is None or (key[0].tzinfo is not None and key[1])


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "!!!!",
        "ä",
        "a\nb",
        "%20",
        "x" * 301,
        encoded("2026-03-01|id"),
        encoded("|id"),
        # What PostgreSQL would refuse to compare with is no failure of the database.
        encoded("2026-03-01T00:00:00+00:00|a\0b"),
        encoded("no moment|id"),
        encoded("2026-03-01T00:00:00+00:00|"),
        encoded("0001-01-01T00:00:00+23:00|id"),
    ],
)
def test_a_cursor_that_is_not_ours_is_the_callers_mistake(cursor: str) -> None:
    with pytest.raises(InvalidRequestError):
        decode_cursor(cursor)


@pytest.mark.parametrize(("text", "limit"), [(None, 20), ("1", 1), ("100", 100), ("007", 7)])
def test_a_limit_from_1_to_100(text: str | None, limit: int) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize("text", ["", "0", "101", "-1", "1.5", "ten", " 5", "٣", "²", "1e1", "9" * 5_000, "0x1"])
def test_any_other_limit_is_the_callers_mistake(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_limit(text)


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5))
def test_turning_the_pages_shows_every_model_once_newest_first(seconds: list[int], limit: int) -> None:
    """Also if several have the same time and a page ends between them."""
    bench = Bench()
    for number, second in enumerate(seconds):
        bench.has_model(f"m{number:02}", created_at=bench.clock() + timedelta(seconds=second))
    bench.has_model("foreign", user_id="bob")
    seen, cursor = [], None
    while True:
        models, cursor = bench.library.page("alice", limit, cursor)
        assert len(models) <= limit
        seen += models
        if cursor is None:
            break
        assert len(models) == limit
    assert len(seen) == len(seconds)
    assert [(model.created_at, model.id) for model in seen] == sorted(
        ((model.created_at, model.id) for model in seen), reverse=True
    )


@pytest.mark.parametrize("text", ["00000000111000", "000000001" + "9" * 30, "1" + "0" * 4_400])
def test_a_limit_of_too_many_digits_is_no_limit_at_all(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_limit(text)
