"""Reading what the converter says, as liberally as it may say it, and saying to it only what was meant."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import urlsplit

import pytest
import responses

from app.clients.converter import ConverterConflictError
from app.clients.transport import UpstreamResponse
from app.domain.job import JobStatus
from app.errors import (
    ConverterBusyError,
    ConverterRejectedError,
    ConverterUnavailableError,
    GatewayError,
    IDPUnavailableError,
    PromoteFailedError,
    ServiceClientUnauthorizedError,
)
from tests.clients.upstreams import MOCKED_SEND, Clients, message
from tests.support.fakes import call_context

BASE = "http://converter.test"
JOBS = BASE + "/api/v1/jobs"
DEEP = b'{"error":' * 50_000 + b"1" + b"}" * 50_000


@pytest.fixture
def converter() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(target=MOCKED_SEND, assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients(BASE)
    clients.mock_connections()
    yield clients
    clients.close()


class Uploads:
    """Answers every upload with one response."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.response = UpstreamResponse(status, headers or {}, body)

    def post(self, path: str, chunks: Iterator[bytes], **_: object) -> UpstreamResponse:
        for _chunk in chunks:
            pass
        return self.response


def upload_failure(clients: Clients, status: int, body: bytes, headers: dict[str, str] | None = None) -> GatewayError:
    clients.converter._uploads = Uploads(status, body, headers)  # type: ignore[assignment]
    with pytest.raises(GatewayError) as caught:
        clients.converter.create_job(message(), call_context())
    return caught.value


# --- the service token of an upload


@pytest.mark.parametrize(
    ("announced_bytes", "scopes"),
    [
        (0, ["converter:job.write"]),
        (64_000_000, ["converter:job.write"]),
        (64_000_001, ["converter:job.write"] * 2),
        (None, ["converter:job.write"] * 2),
    ],
)
def test_in_front_of_a_large_body_a_token_of_more_than_a_minute_is_fetched_again(
    clients: Clients, announced_bytes: int | None, scopes: list[str]
) -> None:
    """A body of unknown size (chunked) may be large, too."""
    clients.tokens.service_token("converter:job.write", call_context())
    clients.clock.now = 61
    clients.converter._uploads = Uploads(201, b'{"job_id": "job-1"}')  # type: ignore[assignment]
    clients.converter.create_job(message(announced_bytes=announced_bytes), call_context())
    assert clients.token_source.scopes == scopes


@pytest.mark.parametrize("status", [401, 403])
def test_an_upload_with_a_revoked_token_can_be_tried_again(clients: Clients, status: int) -> None:
    clients.tokens.service_token("converter:job.write", call_context())
    clients.converter._uploads = Uploads(status, b"no")  # type: ignore[assignment]
    for failure in (IDPUnavailableError, ServiceClientUnauthorizedError):
        with pytest.raises(GatewayError) as caught:
            clients.converter.create_job(message(announced_bytes=10), call_context())
        assert type(caught.value) is failure
    assert len(clients.token_source.scopes) == 2


# --- get and list


def test_a_job_is_read_with_all_that_it_has(converter: responses.RequestsMock, clients: Clients) -> None:
    converter.get(
        JOBS + "/job-1",
        json={
            "job_id": "job-1",
            "user_id": "alice",
            "status": "Completed",
            "stage": "nef",
            "progress": 100,
            "created_at": "2026-03-01T20:00:00+08:00",
            "parameters": {"platform": "730", "user_id": "alice", "object_key": "k"},
            "error": None,
        },
    )
    job = clients.converter.get_job("job-1", call_context())
    assert (job.status, job.stage, job.progress) == (JobStatus.COMPLETED, "nef", 100)
    assert job.created_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert job.parameters == {"platform": "730"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"status": None, "stage": None, "progress": None, "created_at": None, "parameters": None, "error": None},
        {"status": 3, "stage": 4, "progress": "half", "created_at": "yesterday", "parameters": [], "error": 7},
        {"status": [], "stage": {}, "progress": [], "created_at": {}, "parameters": "x", "error": []},
        {"status": "paused", "stage": "tflite", "progress": True, "created_at": True, "parameters": {"a": {}}},
        {"progress": 10**400, "created_at": 10**400, "updated_at": -(10**400)},
        {"status": "x" * 100_000, "parameters": {"k" * 100_000: "v" * 100_000}},
    ],
)
def test_odd_fields_of_a_job_are_as_good_as_none(
    converter: responses.RequestsMock, clients: Clients, fields: dict[str, object]
) -> None:
    converter.get(JOBS + "/job-1", json={"job_id": "job-1", **fields})
    job = clients.converter.get_job("job-1", call_context())
    assert (job.status, job.stage, job.created_at) == (JobStatus.RUNNING, None, None)
    assert job.progress in {None, 100}
    assert all(len(name) <= 100 and len(str(value)) <= 500 for name, value in job.parameters.items())


@pytest.mark.parametrize("job_id", [None, "", 1, [], "a/b", "../x", "a" * 129, "job-1\n", "jöb"])
def test_a_response_without_a_usable_job_id_is_unusable(
    converter: responses.RequestsMock, clients: Clients, job_id: object
) -> None:
    converter.get(JOBS + "/job-1", json={"job_id": job_id})
    with pytest.raises(ConverterUnavailableError):
        clients.converter.get_job("job-1", call_context())


def test_a_response_about_another_job_is_unusable(converter: responses.RequestsMock, clients: Clients) -> None:
    converter.get(JOBS + "/job-1", json={"job_id": "job-2"})
    with pytest.raises(ConverterUnavailableError):
        clients.converter.get_job("job-1", call_context())


LIST = [{"job_id": "job-1"}, {"job_id": "job-2"}]


@pytest.mark.parametrize("payload", [LIST, {"jobs": LIST}, {"jobs": LIST, "next": None}])
def test_a_list_may_come_bare_or_wrapped(converter: responses.RequestsMock, clients: Clients, payload: object) -> None:
    converter.get(JOBS, json=payload)
    assert [job.job_id for job in clients.converter.list_jobs("alice", call_context())] == ["job-1", "job-2"]


@pytest.mark.parametrize("payload", [{}, {"jobs": None}, {"jobs": {}}, {"jobs": "none"}, None, 5, "[]", True])
def test_a_response_that_is_not_a_list_is_unusable(
    converter: responses.RequestsMock, clients: Clients, payload: object
) -> None:
    converter.get(JOBS, json=payload)
    with pytest.raises(ConverterUnavailableError):
        clients.converter.list_jobs("alice", call_context())


def test_entries_that_are_not_jobs_are_left_out_of_a_list(converter: responses.RequestsMock, clients: Clients) -> None:
    converter.get(
        JOBS,
        json=[
            None,
            7,
            [],
            {"status": "running"},
            {"job_id": "foreign", "user_id": "bob"},
            {"job_id": "of-a-list", "user_id": ["alice"]},
            {"job_id": "of-a-truth", "user_id": True},
            {"job_id": "ended", "user_id": "alice", "status": "failed"},
            {"job_id": "mine", "user_id": "alice", "status": "running"},
            {"job_id": "unsaid", "status": "queued"},
        ],
    )
    jobs = clients.converter.list_jobs("alice", call_context())
    assert {job.job_id: (job.user_id, job.is_terminal) for job in jobs} == {
        "foreign": ("bob", False),
        "of-a-list": ("['alice']", False),
        "of-a-truth": ("True", False),
        "ended": ("alice", True),
        "mine": ("alice", False),
        "unsaid": (None, False),
    }


@pytest.mark.parametrize("user_id", ["alice", "a b&status=done#x", "auth0|50%2F", "ü+/?=;"])
def test_the_user_id_of_a_listing_arrives_unchanged(
    converter: responses.RequestsMock, clients: Clients, user_id: str
) -> None:
    converter.get(
        JOBS, json=[], match=[responses.matchers.query_param_matcher({"user_id": user_id, "status": "in_progress"})]
    )
    assert clients.converter.list_jobs(user_id, call_context()) == []


def test_each_call_uses_the_scope_that_the_contract_names(converter: responses.RequestsMock, clients: Clients) -> None:
    converter.get(JOBS + "/job-1", json={"job_id": "job-1"})
    converter.get(JOBS, json=[])
    converter.post(JOBS + "/job-1/promote", json={"object_key": "a"})
    clients.converter.get_job("job-1", call_context())
    clients.converter.list_jobs("alice", call_context())
    clients.converter.promote("job-1", tenant_id="t", user_id="alice", context=call_context())
    assert clients.token_source.scopes == ["converter:job.read", "converter:job.write"]
    assert [call.request.headers["Authorization"] for call in converter.calls] == [
        "Bearer token-1",
        "Bearer token-1",
        "Bearer token-2",
    ]


def test_an_id_that_is_no_path_segment_stays_one(converter: responses.RequestsMock, clients: Clients) -> None:
    with pytest.raises(ConverterUnavailableError):
        clients.converter.get_job("../users?x=#y", call_context())
    assert {urlsplit(str(call.request.url)).path for call in converter.calls} == {"/api/v1/jobs/..%2Fusers%3Fx%3D%23y"}


# --- refusals


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("3600", 3600),
        ("999999999", 3600),
        ("9999999999", 5),
        ("", 5),
        ("-1", 5),
        ("1.5", 5),
        ("soon", 5),
        ("٣", 5),
        ("7, 8", 5),
        # The three forms of a date (RFC 9110, section 5.6.7), two minutes after the response's own.
        ("Wed, 21 Oct 2026 07:28:00 GMT", 120),
        ("Wednesday, 21-Oct-26 07:28:00 GMT", 120),
        ("Wed Oct 21 07:28:00 2026", 120),
        ("Wed, 21 Oct 2026 07:25:59 GMT", 0),
        ("Sat, 01 Jan 2050 00:00:00 GMT", 3600),
        ("Wed, 99 Oct 2026 07:28:00 GMT", 5),
        ("Wed, 21 Oct 99999 07:28:00 GMT", 5),
        ("Wed, 21 Oct 2026 07:28:00 +999999", 5),
    ],
)
def test_retry_after_is_passed_on_where_it_makes_sense_and_bounded(
    converter: responses.RequestsMock, clients: Clients, value: str, seconds: float
) -> None:
    headers = {"Retry-After": value, "Date": "Wed, 21 Oct 2026 07:26:00 GMT"}
    converter.get(JOBS, status=429, headers=headers)
    with pytest.raises(ConverterBusyError) as caught:
        clients.converter.list_jobs("alice", call_context())
    assert caught.value.retry_after_seconds == seconds
    failure = upload_failure(clients, 429, b"", headers)
    assert isinstance(failure, ConverterBusyError)
    assert failure.retry_after_seconds == seconds


@pytest.mark.parametrize("date", [{}, {"Date": "now"}])
def test_without_a_date_header_our_own_clock_counts(clients: Clients, date: dict[str, str]) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    failure = upload_failure(clients, 429, b"", {"Retry-After": until, **date})
    assert failure.retry_after_seconds == pytest.approx(99, abs=2)


@pytest.mark.parametrize(
    ("body", "job_id", "user_id"),
    [
        (b'{"error": {}, "active_job": {"job_id": "job-7", "user_id": "alice"}}', "job-7", "alice"),
        (b'{"active_job": {"job_id": "job-7", "user_id": "bob"}}', "job-7", "bob"),
        (b'{"active_job": {"job_id": "job-7"}}', "job-7", None),
        (b'{"active_job": {"job_id": "../7"}}', None, None),
        (b'{"active_job": null}', None, None),
        (b'{"active_job": "job-7"}', None, None),
        (b"{}", None, None),
        (b"", None, None),
        (b"[]", None, None),
        (DEEP, None, None),
    ],
)
def test_a_conflict_is_one_with_or_without_its_active_job(
    clients: Clients, body: bytes, job_id: str | None, user_id: str | None
) -> None:
    failure = upload_failure(clients, 409, body)
    assert isinstance(failure, ConverterConflictError)
    assert (failure.job.job_id if failure.job else None) == job_id
    assert (failure.job.user_id if failure.job else None) == user_id


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b'{"error": {"code": "bad_model", "message": "Opset 42"}}', "bad_model", "Opset 42"),
        ('{"error": {"code": "模型", "message": "不支援"}}'.encode(), "模型", "不支援"),
        (
            b'{"error": {"code": "c", "message": "a\\r\\nSet-Cookie: x\\u0000\\u001b[31m\\u202e"}}',
            "c",
            "a\nSet-Cookie: x  ",
        ),
        (b'{"error": {"message": "only this"}}', "error", "only this"),
        (b'{"error": {"code": 42}}', "42", ""),
        (b'{"error": "a bare text"}', "error", "a bare text"),
        (b'{"error": {"code": null, "message": null}}', "rejected", ""),
        (b'{"error": []}', "rejected", ""),
        (b"<html>", "rejected", ""),
        (b"", "rejected", ""),
        (DEEP, "rejected", ""),
    ],
)
def test_a_rejection_passes_code_and_message_on_as_plain_text(
    clients: Clients, status: int, body: bytes, code: str, text: str
) -> None:
    failure = upload_failure(clients, status, body)
    assert isinstance(failure, ConverterRejectedError)
    assert failure.extensions["upstream_code"] == code
    message_text = failure.extensions["upstream_message"]
    assert message_text == text
    assert failure.texts["upstream_message"] == message_text


def test_a_rejection_is_bounded_to_500_characters(clients: Clients) -> None:
    failure = upload_failure(clients, 422, b'{"error": {"code": "%s", "message": "%s"}}' % (b"c" * 600, b"m" * 5_000))
    assert failure.extensions == {"upstream_code": "c" * 100, "upstream_message": "m" * 248 + "\n…\n" + "m" * 248}


@pytest.mark.parametrize("status", [404, 409, 413, 418, 500, 302])
def test_no_other_refusal_repeats_any_part_of_the_body(clients: Clients, status: int) -> None:
    failure = upload_failure(clients, status, b'{"error": {"code": "s3cret", "message": "s3cret"}}')
    assert "s3cret" not in f"{failure} {failure.reason} {failure.extensions} {failure.texts}"


# --- promote


def test_a_promotion_names_the_user_and_returns_the_object_key(
    converter: responses.RequestsMock, clients: Clients
) -> None:
    converter.post(
        JOBS + "/job-1/promote",
        json={
            "job_id": "job-1",
            "object_key": "results/a b+%/模型.nef",
            "filename": "m.nef",
            "size": 7,
            "sha256": "AB" * 32,
            "content_type": "application/octet-stream",
        },
        match=[responses.matchers.json_params_matcher({"tenant_id": "t", "user_id": "alice"})],
    )
    promotion = clients.converter.promote("job-1", tenant_id="t", user_id="alice", context=call_context())
    assert promotion.object_key == "results/a b+%/模型.nef"
    assert (promotion.filename, promotion.size, promotion.sha256) == ("m.nef", 7, "ab" * 32)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"filename": None, "size": None, "sha256": None, "content_type": None},
        {"filename": 5, "size": "7", "sha256": "zz" * 32, "content_type": []},
        {"filename": "", "size": True, "sha256": "ab" * 31, "content_type": ""},
        {"filename": {}, "size": -1, "sha256": 0, "content_type": 1},
        {"size": 7.5, "sha256": "ab" * 33},
    ],
)
def test_odd_members_of_a_promotion_are_unknown(
    converter: responses.RequestsMock, clients: Clients, fields: dict[str, object]
) -> None:
    converter.post(JOBS + "/job-1/promote", json={"object_key": "a/b", **fields})
    promotion = clients.converter.promote("job-1", tenant_id="t", user_id="alice", context=call_context())
    known = (promotion.filename, promotion.size, promotion.sha256, promotion.content_type)
    assert known == (None, None, None, None)


@pytest.mark.parametrize("object_key", [None, "", 1, [], "/a", "a/", "a//b", "../a", "a/./b", "a\nb", "x" * 2_049])
def test_a_promotion_without_a_usable_object_key_has_failed(
    converter: responses.RequestsMock, clients: Clients, object_key: object
) -> None:
    converter.post(JOBS + "/job-1/promote", json={"object_key": object_key})
    with pytest.raises(PromoteFailedError):
        clients.converter.promote("job-1", tenant_id="t", user_id="alice", context=call_context())


@pytest.mark.parametrize("fields", [{"job_id": "job-2"}, {"user_id": "bob"}, {"job_id": 1}, {"user_id": ["alice"]}])
def test_a_promotion_of_another_job_or_another_users_has_failed(
    converter: responses.RequestsMock, clients: Clients, fields: dict[str, object]
) -> None:
    converter.post(JOBS + "/job-1/promote", json={"object_key": "a/b", **fields})
    with pytest.raises(PromoteFailedError):
        clients.converter.promote("job-1", tenant_id="t", user_id="alice", context=call_context())


def test_the_retry_after_of_a_control_call_is_passed_on(clients: Clients) -> None:
    with responses.RequestsMock(target=MOCKED_SEND) as converter:
        converter.get(f"{BASE}/api/v1/jobs/job-1", status=503, headers={"Retry-After": "17"})
        with pytest.raises(ConverterUnavailableError) as caught:
            clients.converter.get_job("job-1", call_context())
    assert caught.value.retry_after_seconds == 17
