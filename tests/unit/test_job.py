"""Reading the converter's jobs: usual values, unusual ones, and what is never shown."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.job import (
    MAX_ERROR_CHARACTERS,
    STAGES,
    JobStatus,
    bounded_text,
    is_job_id,
    parse_job,
    parse_job_error,
    parse_timestamp,
    public_parameters,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["job_id", "user_id", "status", "stage", "progress", "created_at", "updated_at", "parameters", "error"]


@given(JSON)
def test_whatever_json_comes_is_a_job_or_none(payload: object) -> None:
    parse_job(payload)


@given(st.dictionaries(st.sampled_from(FIELDS[1:]), JSON))
def test_whatever_its_fields_are_a_job_keeps_its_promises(fields: dict[str, object]) -> None:
    job = parse_job({"job_id": "job-1", **fields})
    assert job is not None
    assert job.stage is None or job.stage in STAGES
    assert job.progress is None or 0 <= job.progress <= 100
    assert all(moment is None or moment.tzinfo is UTC for moment in (job.created_at, job.updated_at))
    assert job.is_terminal == (job.status in {"completed", "failed", "cancelled"})


@pytest.mark.parametrize("text", ["a", "A-z_0", "x" * 128])
def test_ids_of_letters_digits_dash_and_underscore_are_accepted(text: str) -> None:
    assert is_job_id(text)


@pytest.mark.parametrize("text", ["", "x" * 129, "a b", "a/b", "..", "a.b", "a\n", "ä", "٣", "%61", "a\0"])
def test_any_other_id_is_refused(text: str) -> None:
    assert not is_job_id(text)


@pytest.mark.parametrize("status", list(JobStatus))
def test_every_status_is_read_in_any_case(status: JobStatus) -> None:
    for text in (status.value, status.value.upper(), status.value.title()):
        job = parse_job({"job_id": "j", "status": text})
        assert job is not None
        assert job.status is status


@pytest.mark.parametrize("status", ["paused", "", None, 7, [], {}])
def test_an_unknown_status_counts_as_running(status: object) -> None:
    job = parse_job({"job_id": "j", "status": status})
    assert job is not None
    assert job.status is JobStatus.RUNNING
    assert not job.is_terminal


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (0, 0),
        (55.5, 55.5),
        (100, 100),
        (-1, 0),
        (101, 100),
        (10**400, 100),
        (-(10**400), 0),
        *((odd, None) for odd in (None, math.nan, math.inf, True, "50", [])),
    ],
)
def test_progress_is_a_number_from_0_to_100_or_unknown(value: object, read: float | None) -> None:
    job = parse_job({"job_id": "j", "progress": value})
    assert job is not None
    assert job.progress == read


@pytest.mark.parametrize(
    ("value", "read"),
    [(None, None), ("alice", "alice"), ("", ""), (42, "42"), (["alice"], "['alice']"), (True, "True")],
)
def test_a_user_id_is_read_as_text(value: object, read: str | None) -> None:
    """A list that contains the caller's id does not name the caller."""
    job = parse_job({"job_id": "j", "user_id": value})
    assert job is not None
    assert job.user_id == read


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00",
        "2026-03-01 12:00:00",
        " 2026-03-01T12:00:00Z ",
        "2026-03-01T20:00:00+08:00",
        "20260301T120000Z",
        NOON.timestamp(),
        int(NOON.timestamp()),
    ],
)
def test_every_usual_form_of_a_time_is_read_as_utc(value: object) -> None:
    assert parse_timestamp(value) == NOON


@pytest.mark.parametrize(
    "value",
    [None, "", "noon", True, [], {}, "2026-13-01", 10**400, math.nan, math.inf, -1e300, "0001-01-01T00:00:00+23:00"],
)
def test_any_other_time_is_none(value: object) -> None:
    assert parse_timestamp(value) is None


def test_parameters_show_plain_values_and_neither_owner_nor_place() -> None:
    assert public_parameters(
        {
            "platform": "KL730",
            "model_id": 1001,
            "quantize": True,
            "ratio": 0.5,
            "user_id": "alice",
            "tenantId": "t",
            "object_key": "k",
            "objectKey": "k",
            "URL": "http://internal",
            "access_token": "s",
            "token": "s",
            "nested": {"user_id": "x"},
            "list": [1],
            "none": None,
            "nan": math.nan,
            "text": "a\r\nb",
        }
    ) == {"platform": "KL730", "model_id": 1001, "quantize": True, "ratio": 0.5, "text": "a  b"}


def test_parameters_are_bounded_in_number_and_length() -> None:
    assert len(public_parameters({f"p{number}": number for number in range(1_000)})) == 64
    assert public_parameters({"n" * 200: "v" * 1_000}) == {"n" * 100: "v" * 500}
    assert public_parameters(["platform"]) == {}


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        ({"code": "c", "message": "m"}, "c", "m"),
        ({"code": "c"}, "c", ""),
        ({"message": "m"}, "error", "m"),
        ("m", "error", "m"),
        ({"code": 7, "message": ["m"]}, "7", "['m']"),
        (
            {"message": "Error:\r\n\t\x1b[1;31mFile\x1b[0m \x1b\n\u2028bad op\n"},
            "error",
            "Error:\n        File  \n\nbad op",
        ),
        ({"code": "c" * 200, "message": "m" * 500}, "c" * 100, "m" * 500),
        (
            {"message": "first\n" + "m" * 600 + "\nlast"},
            "error",
            "first\n" + "m" * 242 + "\n…\n" + "m" * 243 + "\nlast",
        ),
    ],
)
def test_an_error_is_read_as_bounded_text(value: object, code: str, message: str) -> None:
    error = parse_job_error(value)
    assert error is not None
    assert error.as_dict() == {"code": code, "message": message}
    assert len(error.message) <= MAX_ERROR_CHARACTERS


@pytest.mark.parametrize("value", [None, "", {}, [], 7, {"code": "", "message": None}])
def test_no_error_is_none(value: object) -> None:
    assert parse_job_error(value) is None


@given(st.text(max_size=2_000), st.integers(0, 600))
def test_bounded_text_is_printable_and_bounded(text: str, most: int) -> None:
    bounded = bounded_text(text, most)
    assert len(bounded) <= most
    assert bounded.isprintable()


@pytest.mark.parametrize(("stage", "index"), [("onnx", 0), ("bie", 1), ("nef", 2), (None, None), ("other", None)])
def test_a_stage_has_an_index(stage: str | None, index: int | None) -> None:
    job = parse_job({"job_id": "j", "stage": stage})
    assert job is not None
    assert job.stage_index == index
