"""MC's responses: which tokens are believed and for how long, which failure is which, and what the log may know."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
import responses
from structlog.testing import capture_logs

from app.clients.bulkhead import BulkheadFullFailure
from app.clients.retry import Call
from app.clients.token_responses import DownloadToken
from app.clients.tokens import IssuedToken
from app.errors import (
    GatewayError,
    IDPMisconfiguredError,
    IDPUnavailableError,
    MCTokenUnavailableError,
    ServiceClientUnauthorizedError,
)
from tests.clients.upstreams import MOCKED_SEND, Clients
from tests.support.clocks import FakeClock
from tests.support.fakes import call_context

BASE = "http://mc.test"
TOKEN = BASE + "/oauth/token"
DOWNLOAD_TOKENS = BASE + "/file-access/download-tokens"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def mc() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(target=MOCKED_SEND, assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients(BASE)
    clients.mock_connections()
    clients.member_center._clock = FakeClock(NOW)
    yield clients
    clients.close()


def with_service_token(mc: responses.RequestsMock) -> None:
    mc.post(TOKEN, json={"access_token": "service-token-s3cret", "expires_in": 3600})


def service_token(clients: Clients) -> IssuedToken:
    return clients.member_center._fetch_service_token("a", call_context())


def mint(clients: Clients) -> DownloadToken:
    return clients.member_center.mint_download_token(
        tenant_id="tenant-1",
        user_id="alice",
        object_key="results/job 1/模型.nef",
        context=call_context(**{"X-Request-ID": "r-1"}),
    )


# --- service tokens


def test_a_service_token_is_asked_for_as_the_contract_says(mc: responses.RequestsMock, clients: Clients) -> None:
    with_service_token(mc)
    context = call_context(**{"X-Request-ID": "r-1"})
    assert clients.member_center.tokens.service_token("a b", context) == "service-token-s3cret"
    request = mc.calls[0].request
    assert parse_qs(str(request.body)) == {"grant_type": ["client_credentials"], "scope": ["a b"]}
    assert request.headers["Authorization"].startswith("Basic ")
    assert request.headers["X-Request-ID"] == "r-1"


@pytest.mark.parametrize(
    "expires_in",
    [
        0,
        -1,
        -0.5,
        True,
        False,
        "",
        " ",
        "soon",
        "-5",
        "1e3",
        "６０",
        "6 0",
        "60.",
        ".5",
        "60\n",
        [],
        {},
        [60],
        "0",
        "0.0",
        1e-400,
    ],
)
def test_nonsense_in_expires_in_makes_mc_unavailable(
    mc: responses.RequestsMock, clients: Clients, expires_in: object
) -> None:
    mc.post(TOKEN, json={"access_token": "t", "expires_in": expires_in})
    with pytest.raises(IDPUnavailableError):
        clients.member_center.tokens.service_token("a", call_context())
    assert len(mc.calls) == 1
    assert clients.sleep.waits == []


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_in_expires_in_make_mc_unavailable(
    mc: responses.RequestsMock, clients: Clients, literal: str
) -> None:
    mc.post(TOKEN, body=f'{{"access_token": "t", "expires_in": {literal}}}')
    with pytest.raises(IDPUnavailableError):
        clients.member_center.tokens.service_token("a", call_context())


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (None, 60),
        (3600, 3600),
        (59.5, 59.5),
        ("300", 300),
        (" 300", 300),
        (299.5, 299.5),
        ("299.5", 299.5),
        (10**9, 86_400),
        (10**400, 86_400),
        ("9" * 12, 86_400),
    ],
)
def test_a_usable_expires_in_is_believed_up_to_a_day(
    mc: responses.RequestsMock, clients: Clients, expires_in: object, seconds: float
) -> None:
    mc.post(TOKEN, json={"access_token": "t", "expires_in": expires_in})
    assert service_token(clients).expires_in == seconds


def test_a_token_without_expires_in_lives_for_a_minute(mc: responses.RequestsMock, clients: Clients) -> None:
    """RFC 6749, section 5.1: the member is recommended, and not required."""
    mc.post(TOKEN, json={"access_token": "t"})
    assert service_token(clients).expires_in == 60


@pytest.mark.parametrize(
    "token", [None, "", 7, [], {}, True, "a b", "a\r\nX: y", "a\n", "a\0", "töken", "代幣", "x" * (16 * 1024 + 1)]
)
def test_an_access_token_that_no_header_could_carry_makes_mc_unavailable(
    mc: responses.RequestsMock, clients: Clients, token: object
) -> None:
    mc.post(TOKEN, json={"access_token": token, "expires_in": 60})
    with pytest.raises(IDPUnavailableError):
        clients.member_center.tokens.service_token("a", call_context())


def test_an_access_token_of_four_kilobytes_with_every_visible_character_is_taken(
    mc: responses.RequestsMock, clients: Clients
) -> None:
    token = "".join(map(chr, range(0x21, 0x7F))) * 44
    mc.post(TOKEN, json={"access_token": token, "expires_in": 60})
    assert clients.member_center.tokens.service_token("a", call_context()) == token


@pytest.mark.parametrize("status", [200, 201, 203])
def test_any_2xx_with_a_token_will_do(mc: responses.RequestsMock, clients: Clients, status: int) -> None:
    mc.post(TOKEN, json={"access_token": "t", "expires_in": 60}, status=status)
    assert clients.member_center.tokens.service_token("a", call_context()) == "t"


def test_the_life_of_a_token_is_counted_from_before_it_was_asked_for(
    mc: responses.RequestsMock, clients: Clients
) -> None:
    times = iter([10.0, 30.0])
    clients.member_center._monotonic = lambda: next(times)
    mc.post(TOKEN, json={"access_token": "t", "expires_in": 60})
    assert service_token(clients).issued_at == 10.0


# --- download tokens


def test_a_download_token_is_asked_for_as_the_contract_says(mc: responses.RequestsMock, clients: Clients) -> None:
    with_service_token(mc)
    mc.post(
        DOWNLOAD_TOKENS,
        json={"token": "dt"},
        match=[
            responses.matchers.json_params_matcher(
                {
                    "tenant_id": "tenant-1",
                    "user_id": "alice",
                    "object_key": "results/job 1/模型.nef",
                    "method": "GET",
                    "expires_in_seconds": 300,
                }
            ),
            responses.matchers.header_matcher({"Authorization": "Bearer service-token-s3cret", "X-Request-ID": "r-1"}),
        ],
    )
    assert mint(clients).token == "dt"
    assert parse_qs(str(mc.calls[0].request.body))["scope"] == ["files:download.delegate"]


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        ({"expires_at": "2026-03-01T12:05:00Z"}, 300),
        ({"expires_at": "2026-03-01T12:05:00z"}, 300),
        ({"expires_at": "2026-03-01T12:05:00.250Z"}, 300.25),
        ({"expires_at": "2026-03-01T12:05:00.123456789Z"}, 300.123456),
        ({"expires_at": "2026-03-01T20:05:00+08:00"}, 300),
        ({"expires_at": "2026-03-01T20:05:00+0800"}, 300),
        ({"expires_at": "2026-03-01T04:35:30.5-07:30"}, 330.5),
        ({"expires_at": "2026-03-01T12:05:00"}, 300),
        ({"expires_at": "2026-03-01 12:05:00"}, 300),
        ({"expires_at": int(NOW.timestamp()) + 300}, 300),
        ({"expires_in_seconds": 120}, 120),
        ({"expires_in_seconds": "120"}, 120),
        ({"expires_in_seconds": 10**400}, 86_400),
        ({"expires_at": "2026-03-01T12:05:00Z", "expires_in_seconds": 7}, 300),
        ({"expires_at": "when it suits", "expires_in_seconds": 7}, 7),
        ({"expires_at": None, "expires_in_seconds": None}, 300),
        ({"expires_at": 10**400}, 300),
        ({"expires_at": []}, 300),
        ({"expires_in_seconds": -5}, 300),
        ({"expires_in_seconds": True}, 300),
        ({}, 300),
    ],
)
def test_every_way_of_saying_how_long_a_download_token_lives_is_understood(
    mc: responses.RequestsMock, clients: Clients, life: dict[str, object], seconds: float
) -> None:
    with_service_token(mc)
    mc.post(DOWNLOAD_TOKENS, json={"token": "dt", **life})
    assert mint(clients) == DownloadToken("dt", pytest.approx(seconds))


@pytest.mark.parametrize("expires_at", ["2026-03-01T11:59:59Z", "2026-03-01T12:00:00Z", "1970-01-01", 0])
def test_a_download_token_that_has_already_expired_is_unusable(
    mc: responses.RequestsMock, clients: Clients, expires_at: object
) -> None:
    with_service_token(mc)
    mc.post(DOWNLOAD_TOKENS, json={"token": "dt", "expires_at": expires_at})
    with pytest.raises(MCTokenUnavailableError):
        mint(clients)


@pytest.mark.parametrize(
    "token", ["+/=&?#%", "a b", "%2F%2e%2e", "&access_token=x", "代幣", "x" * 4096, '"<>\\', "é\t"]
)
def test_a_download_token_may_hold_any_character_and_arrives_unchanged_in_the_address(
    mc: responses.RequestsMock, clients: Clients, token: str
) -> None:
    with_service_token(mc)
    mc.post(DOWNLOAD_TOKENS, json={"token": token})
    url = clients.files.download_url("a/b c+d%.nef", mint(clients).token)
    assert url.isascii()
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "files.example", "/files/a/b%20c%2Bd%25.nef")
    assert parts.fragment == ""
    assert parse_qs(parts.query, strict_parsing=True) == {"access_token": [token]}


@pytest.mark.parametrize("token", [None, "", 5, [], "a\r\nSet-Cookie: x=1", "a\nb", "a\rb", "a\0b", "x" * 16_385])
def test_a_download_token_that_is_none_or_breaks_lines_is_unusable(
    mc: responses.RequestsMock, clients: Clients, token: object
) -> None:
    with_service_token(mc)
    mc.post(DOWNLOAD_TOKENS, json={"token": token})
    with pytest.raises(MCTokenUnavailableError):
        mint(clients)
    assert clients.sleep.waits == []


# --- the four classes of failure


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (400, IDPMisconfiguredError),
        (401, ServiceClientUnauthorizedError),
        (403, ServiceClientUnauthorizedError),
        (500, IDPUnavailableError),
        (302, IDPUnavailableError),
    ],
)
def test_a_failing_service_token_keeps_its_own_code_inside_other_calls(
    mc: responses.RequestsMock, clients: Clients, status: int, failure: type[GatewayError]
) -> None:
    mc.post(TOKEN, status=status, body="s3cret detail")
    clients.converter._tokens = clients.files._tokens = clients.member_center.tokens
    for call in (
        lambda: mint(clients),
        lambda: clients.converter.get_job("job-1", call_context()),
        lambda: clients.converter.list_jobs("alice", call_context()),
        lambda: clients.converter.promote("job-1", tenant_id="t", user_id="alice", context=call_context()),
        lambda: clients.files.pull("a/b", None, call_context()),  # type: ignore[arg-type]
    ):
        with pytest.raises(GatewayError) as caught:
            call()
        assert type(caught.value) is failure
        assert "s3cret" not in caught.value.reason


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_delegation_drops_the_service_token_and_is_not_tried_again(
    mc: responses.RequestsMock, clients: Clients, status: int
) -> None:
    with_service_token(mc)
    mc.post(DOWNLOAD_TOKENS, status=status)
    for _ in range(2):
        with pytest.raises(ServiceClientUnauthorizedError):
            mint(clients)
    assert [call.request.url for call in mc.calls] == [TOKEN, DOWNLOAD_TOKENS] * 2


def test_a_delegation_with_a_revoked_token_can_be_tried_again(mc: responses.RequestsMock, clients: Clients) -> None:
    with_service_token(mc)
    mc.post(DOWNLOAD_TOKENS, status=401)
    clients.member_center.tokens.service_token("files:download.delegate", call_context())
    for failure in (IDPUnavailableError, ServiceClientUnauthorizedError):
        with pytest.raises(GatewayError) as caught:
            mint(clients)
        assert type(caught.value) is failure
    assert [call.request.url for call in mc.calls] == [TOKEN, DOWNLOAD_TOKENS] * 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 5),
        ({"Retry-After": "17"}, 17),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "Date": "Wed, 21 Oct 2026 07:26:00 GMT"}, 120),
    ],
)
def test_mcs_retry_after_is_passed_on(
    mc: responses.RequestsMock, clients: Clients, headers: dict[str, str], seconds: float, status: int
) -> None:
    mc.post(TOKEN, status=status, headers=headers)
    with pytest.raises(IDPUnavailableError) as caught:
        clients.member_center.tokens.service_token("a", call_context())
    assert caught.value.retry_after_seconds == seconds


@pytest.mark.parametrize("status", [429, 503])
def test_the_retry_after_of_a_download_token_is_passed_on(
    mc: responses.RequestsMock, clients: Clients, status: int
) -> None:
    with_service_token(mc)
    mc.post(DOWNLOAD_TOKENS, status=status, headers={"Retry-After": "17"})
    with pytest.raises(MCTokenUnavailableError) as caught:
        mint(clients)
    assert caught.value.retry_after_seconds == 17


# --- events


def mc_events(logs: list[dict[str, object]]) -> list[dict[str, object]]:
    prefix = "conversion.mc_token."
    return [
        {**entry, "event": str(entry["event"]).removeprefix(prefix)}
        for entry in logs
        if str(entry["event"]).startswith(prefix)
    ]


def test_tokens_that_were_obtained_are_logged_with_everything_but_themselves(
    mc: responses.RequestsMock, clients: Clients
) -> None:
    with_service_token(mc)
    mc.post(DOWNLOAD_TOKENS, json={"token": "download-s3cret", "expires_in_seconds": 120})
    with capture_logs() as logs:
        mint(clients)
    obtained, delegated = mc_events(logs)
    assert obtained["event"] == "obtained"
    assert (obtained["endpoint"], obtained["scope"]) == ("token", "files:download.delegate")
    assert (obtained["token_len"], obtained["expires_in"]) == (20, 3600)
    assert isinstance(obtained["duration"], float)
    assert delegated["event"] == "delegated_obtained"
    assert (delegated["token_len"], delegated["expires_in"]) == (15, 120)
    assert isinstance(delegated["duration"], float)
    assert "s3cret" not in str(logs)


LOST = responses.ConnectionError("reset")


@pytest.mark.parametrize(
    ("reply", "events"),
    [
        ({"status": 503}, ["endpoint_error"] * 3 + ["retry_exhausted"]),
        ({"body": LOST}, ["network_error"] * 3 + ["retry_exhausted"]),
        ({"body": b"ha", "headers": {"Content-Length": "9"}}, ["body_read_failed"] * 3 + ["retry_exhausted"]),
        ({"status": 400, "body": b"s3cret"}, ["endpoint_error"]),
        ({"status": 401, "body": b"s3cret"}, ["endpoint_error"]),
        ({"body": b"s3cret"}, ["parse_failed"]),
        ({"json": ["s3cret"]}, ["invalid_shape"]),
        ({"json": {"access_token": "s3 cret\r", "token": "s3cret\r", "expires_in": "s3cret"}}, ["invalid_shape"]),
    ],
)
@pytest.mark.parametrize("endpoint", ["token", "download-tokens"])
def test_every_failure_is_logged_under_its_name_and_without_the_body(
    mc: responses.RequestsMock, clients: Clients, endpoint: str, reply: dict[str, object], events: list[str]
) -> None:
    if endpoint == "token":
        mc.post(TOKEN, auto_calculate_content_length=False, **reply)  # type: ignore[arg-type]
    else:
        with_service_token(mc)
        mc.post(DOWNLOAD_TOKENS, auto_calculate_content_length=False, **reply)  # type: ignore[arg-type]
    with capture_logs() as logs, pytest.raises(GatewayError):
        mint(clients)
    failures = [entry for entry in mc_events(logs) if entry["event"] != "obtained"]
    assert [entry["event"] for entry in failures] == events
    assert {entry["endpoint"] for entry in failures} == {endpoint}
    assert {entry["scope"] for entry in failures} == {"files:download.delegate"}
    if len(events) > 1:
        assert [entry["try_number"] for entry in failures[:-1]] == [1, 2, 3]
    assert "s3cret" not in str(logs)
    assert "the-service-client-secret" not in str(logs)


def test_a_full_bulkhead_makes_mc_unavailable_to_those_who_wait_for_a_token(clients: Clients) -> None:
    class Full:
        def wait(self, call: Call, event: threading.Event, seconds: float) -> bool:
            assert call is Call.TOKEN
            raise BulkheadFullFailure("too many calls hang")

    clients.retrier.bulkheads[Call.TOKEN.upstream] = Full()  # type: ignore[index,assignment]
    with pytest.raises(IDPUnavailableError, match="too many calls hang"):
        clients.member_center.wait(Call.TOKEN, threading.Event(), 1.0)
