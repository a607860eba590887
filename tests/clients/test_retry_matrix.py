"""The retry matrix, row by row and failure by failure: how many tries, which waits, which failure in the end.

The contract (docs/upstreams.md) stands here a second time, as data, and is compared with `MATRIX`. The cases are made
from `Call`, so that a new call without a row, a caller and an expectation fails.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import requests
import responses
import urllib3

from app.clients.retry import MATRIX, Call
from app.clients.transport import (
    NotConnectedFailure,
    ResponseLostFailure,
    ServerFailure,
    Timeouts,
    UnusableResponseFailure,
    UpstreamFailure,
    UpstreamResponse,
)
from app.errors import GatewayError
from tests.clients.upstreams import JOB, MOCKED_SEND, Clients, Sink, message
from tests.support.calls import SERVICE_CALLS
from tests.support.fakes import call_context

BASE = "http://upstream.test"


@dataclass(frozen=True)
class Row:
    """A row of the contract."""

    retries: int
    timeouts: Timeouts
    waits: tuple[float, ...] = (1.0, 2.0)
    only_unsent: bool = False


CONTROL_10 = Timeouts(connect_seconds=5, idle_seconds=10, total_seconds=10)
CONTROL_30 = Timeouts(connect_seconds=5, idle_seconds=30, total_seconds=30)
STREAM = Timeouts(connect_seconds=5, idle_seconds=60, total_seconds=None)

CONTRACT: dict[Call, Row] = {
    Call.TOKEN: Row(2, CONTROL_10),
    Call.DOWNLOAD_TOKEN: Row(2, CONTROL_10),
    Call.GET_JOB: Row(2, CONTROL_10),
    Call.LIST_JOBS: Row(2, CONTROL_10),
    Call.PROMOTE: Row(2, CONTROL_30),
    Call.CREATE_JOB: Row(2, STREAM, only_unsent=True),
    Call.GET_FILE: Row(2, STREAM),
}

CALLERS: dict[Call, Callable[[Clients], object]] = {
    Call.TOKEN: lambda c: c.member_center.tokens.service_token("converter:job.read", call_context()),
    Call.DOWNLOAD_TOKEN: lambda c: c.member_center.mint_download_token(
        tenant_id="t", user_id="alice", object_key="a/b", context=call_context()
    ),
    Call.GET_JOB: lambda c: c.converter.get_job("job-1", call_context()),
    Call.LIST_JOBS: lambda c: c.converter.list_jobs("alice", call_context()),
    Call.PROMOTE: lambda c: c.converter.promote("job-1", tenant_id="t", user_id="alice", context=call_context()),
    Call.CREATE_JOB: lambda c: c.converter.create_job(message(), call_context()),
    Call.GET_FILE: lambda c: c.files.pull("a/b", Sink(), call_context()),
}

METHODS: dict[Call, tuple[str, str]] = {
    Call.TOKEN: ("POST", "/oauth/token"),
    Call.DOWNLOAD_TOKEN: ("POST", "/file-access/download-tokens"),
    Call.GET_JOB: ("GET", "/api/v1/jobs/job-1"),
    Call.LIST_JOBS: ("GET", "/api/v1/jobs"),
    Call.PROMOTE: ("POST", "/api/v1/jobs/job-1/promote"),
    Call.CREATE_JOB: ("POST", "/api/v1/jobs"),
    Call.GET_FILE: ("GET", "/files/a/b"),
}

GOOD: dict[Call, bytes] = {
    Call.TOKEN: b'{"access_token": "at", "expires_in": 3600}',
    Call.DOWNLOAD_TOKEN: b'{"token": "dt"}',
    Call.GET_JOB: JOB,
    Call.LIST_JOBS: b'{"jobs": [' + JOB + b"]}",
    Call.PROMOTE: b'{"object_key": "a/b"}',
    Call.CREATE_JOB: JOB,
    Call.GET_FILE: b"the bytes of the result",
}

UNAVAILABLE: dict[Call, str] = {
    Call.TOKEN: "idp_unavailable",
    Call.DOWNLOAD_TOKEN: "mc_token_unavailable",
    Call.GET_JOB: "converter_unavailable",
    Call.LIST_JOBS: "converter_unavailable",
    Call.PROMOTE: "converter_unavailable",
    Call.CREATE_JOB: "converter_unavailable",
    Call.GET_FILE: "file_service_unavailable",
}

STATUSES: dict[Call, dict[int, str]] = {
    Call.TOKEN: dict.fromkeys((400, 401, 403, 404, 409, 410, 413, 418, 422), "idp_misconfigured")
    | {429: "idp_unavailable"},
    Call.DOWNLOAD_TOKEN: dict.fromkeys((400, 404, 409, 410, 413, 418, 422), "download_token_failed")
    | dict.fromkeys((401, 403), "idp_misconfigured")
    | {429: "mc_token_unavailable"},
    Call.GET_JOB: dict.fromkeys((400, 409, 410, 413, 418, 422), "converter_unavailable")
    | {404: "job_not_found", 429: "converter_busy"},
    Call.LIST_JOBS: dict.fromkeys((400, 404, 409, 410, 413, 418, 422), "converter_unavailable")
    | {429: "converter_busy"},
    Call.PROMOTE: dict.fromkeys((400, 410, 413, 418, 422), "promote_failed")
    | {404: "job_not_found", 409: "job_not_completed", 429: "converter_busy"},
    # A body that was whole may have started a job, unless the status says that it was refused.
    Call.CREATE_JOB: dict.fromkeys((204, 206, 302, 304, 404, 408, 410, 418), "upload_outcome_unknown")
    | {
        400: "converter_rejected",
        401: "idp_misconfigured",
        403: "idp_misconfigured",
        409: "active_job_conflict",
        413: "payload_too_large",
        422: "converter_rejected",
        429: "converter_busy",
    },
    Call.GET_FILE: dict.fromkeys((400, 405, 409, 413, 416, 418, 422, 429, 206, 204), "file_service_unavailable")
    | dict.fromkeys((404, 410), "result_missing"),
}

REDIRECTS = (301, 302, 303, 307, 308)
SERVER_ERRORS = (500, 501, 502, 503, 504, 599)


def connection_error(cause: Exception) -> requests.ConnectionError:
    """What requests raises where urllib3 gave up."""
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/", cause))  # type: ignore[arg-type]


UNSENT = {
    "refused": lambda: connection_error(urllib3.exceptions.NewConnectionError(None, "refused")),  # type: ignore[arg-type]
    "unknown host": lambda: connection_error(urllib3.exceptions.NameResolutionError("h", None, OSError("no"))),  # type: ignore[arg-type]
    "connect time-out": lambda: requests.ConnectTimeout(
        urllib3.exceptions.MaxRetryError(None, "/", urllib3.exceptions.ConnectTimeoutError())  # type: ignore[arg-type]
    ),
    "TLS": lambda: requests.exceptions.SSLError(
        urllib3.exceptions.MaxRetryError(None, "/", urllib3.exceptions.SSLError("bad certificate"))  # type: ignore[arg-type]
    ),
}
LOST = {
    "reset": lambda: requests.ConnectionError(urllib3.exceptions.ProtocolError("aborted", ConnectionResetError(104))),
    "time-out": lambda: requests.ReadTimeout("read timed out"),
    "closed": lambda: requests.ConnectionError(urllib3.exceptions.ProtocolError("no response")),
}


class ScriptedUploads:
    """Stands for the upload transport, which makes a session of its own for each try."""

    def __init__(self, outcome: UpstreamFailure | UpstreamResponse) -> None:
        self.outcome = outcome
        self.tries = 0

    def post(self, path: str, chunks: Iterator[bytes], **_: object) -> UpstreamResponse:
        self.tries += 1
        if not isinstance(self.outcome, NotConnectedFailure):
            for _chunk in chunks:
                pass
        if isinstance(self.outcome, UpstreamFailure):
            raise self.outcome
        return self.outcome


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients(BASE)
    clients.mock_connections()
    yield clients
    clients.close()


def outcome_of(
    clients: Clients, call: Call, reply: responses.Response, uploads: UpstreamFailure | UpstreamResponse
) -> tuple[object, int]:
    """What the call came to (a result or the code of a failure), and how many tries it took."""
    if call is Call.CREATE_JOB:
        scripted = ScriptedUploads(uploads)
        clients.converter._uploads = scripted  # type: ignore[assignment]
        return code_or_result(clients, call), scripted.tries
    with responses.RequestsMock(target=MOCKED_SEND, assert_all_requests_are_fired=False) as mock:
        if call is Call.DOWNLOAD_TOKEN:
            mock.add("POST", BASE + "/oauth/token", body=GOOD[Call.TOKEN])
        mock.add(reply)
        result = code_or_result(clients, call)
        return result, reply.call_count


def code_or_result(clients: Clients, call: Call) -> object:
    try:
        return CALLERS[call](clients)
    except GatewayError as failure:
        shown = f"{failure} {failure.reason} {failure.extensions} {failure.texts}"
        return "a part of the body" if "s3cret" in shown else failure.code


def reply_to(call: Call, **fields: object) -> responses.Response:
    method, path = METHODS[call]
    return responses.Response(method, BASE + path, **fields)  # type: ignore[arg-type]


def expected_tries(call: Call, *, was_sent: bool) -> int:
    row = CONTRACT[call]
    return 1 if row.only_unsent and was_sent else 1 + row.retries


@pytest.mark.parametrize("call", SERVICE_CALLS)
def test_every_row_is_as_the_contract_says(call: Call) -> None:
    row, policy = CONTRACT[call], MATRIX[call]
    assert policy.waits_seconds == row.waits
    assert policy.timeouts == row.timeouts
    assert set(policy.retried_on) == (
        {NotConnectedFailure} if row.only_unsent else {NotConnectedFailure, ResponseLostFailure, ServerFailure}
    )


@pytest.mark.parametrize("table", [MATRIX, CONTRACT, CALLERS, METHODS, GOOD, UNAVAILABLE, STATUSES])
def test_no_call_is_forgotten(table: dict[Call, object]) -> None:
    assert set(table) - {Call.SIGN_IN} == set(SERVICE_CALLS)


@pytest.mark.parametrize("call", SERVICE_CALLS)
def test_a_good_response_takes_one_try_and_no_wait(call: Call, clients: Clients) -> None:
    result, tries = outcome_of(clients, call, reply_to(call, body=GOOD[call]), UpstreamResponse(201, {}, GOOD[call]))
    assert not isinstance(result, str) or result == "at"
    assert tries == 1
    assert clients.sleep.waits == []


@pytest.mark.parametrize("failure", UNSENT)
@pytest.mark.parametrize("call", SERVICE_CALLS)
def test_a_failure_to_connect_is_retried_by_every_row(call: Call, failure: str, clients: Clients) -> None:
    result, tries = outcome_of(clients, call, reply_to(call, body=UNSENT[failure]()), NotConnectedFailure(failure))
    assert result == UNAVAILABLE[call]
    assert tries == expected_tries(call, was_sent=False)
    assert clients.sleep.waits == list(CONTRACT[call].waits)


@pytest.mark.parametrize("failure", LOST)
@pytest.mark.parametrize("call", SERVICE_CALLS)
def test_a_lost_response_is_retried_unless_a_body_was_sent(call: Call, failure: str, clients: Clients) -> None:
    result, tries = outcome_of(clients, call, reply_to(call, body=LOST[failure]()), ResponseLostFailure(failure))
    assert result == ("upload_outcome_unknown" if call is Call.CREATE_JOB else UNAVAILABLE[call])
    assert tries == expected_tries(call, was_sent=True)
    assert clients.sleep.waits == list(CONTRACT[call].waits[: tries - 1])


@pytest.mark.parametrize("status", SERVER_ERRORS)
@pytest.mark.parametrize("call", SERVICE_CALLS)
def test_a_5xx_is_retried_unless_a_body_was_sent(call: Call, status: int, clients: Clients) -> None:
    result, tries = outcome_of(
        clients, call, reply_to(call, body=b"s3cret", status=status), ServerFailure("5xx", status=status)
    )
    assert result == ("upload_outcome_unknown" if call is Call.CREATE_JOB else UNAVAILABLE[call])
    assert tries == expected_tries(call, was_sent=True)
    assert clients.sleep.waits == list(CONTRACT[call].waits[: tries - 1])


@pytest.mark.parametrize("received", [b"", b"half"])
@pytest.mark.parametrize("call", [call for call in SERVICE_CALLS if call is not Call.CREATE_JOB])
def test_a_body_cut_off_while_reading_is_retried(call: Call, received: bytes, clients: Clients) -> None:
    reply = reply_to(call, body=received, headers={"Content-Length": "100"}, auto_calculate_content_length=False)
    result, tries = outcome_of(clients, call, reply, ResponseLostFailure(""))
    assert result == UNAVAILABLE[call]
    assert tries == expected_tries(call, was_sent=True)
    assert clients.sleep.waits == list(CONTRACT[call].waits)


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("call", SERVICE_CALLS)
def test_a_redirect_is_neither_followed_nor_retried(call: Call, status: int, clients: Clients) -> None:
    headers = {"Location": "http://elsewhere.test/"}
    result, tries = outcome_of(
        clients,
        call,
        reply_to(call, body=GOOD[call], status=status, headers=headers),
        UpstreamResponse(status, headers, b""),
    )
    assert result == ("upload_outcome_unknown" if call is Call.CREATE_JOB else UNAVAILABLE[call])
    assert tries == 1
    assert clients.sleep.waits == []


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [(call, status, code) for call in SERVICE_CALLS for status, code in STATUSES[call].items()],
)
def test_a_4xx_has_its_own_meaning_and_is_not_retried(call: Call, status: int, code: str, clients: Clients) -> None:
    result, tries = outcome_of(
        clients, call, reply_to(call, body=b"s3cret", status=status), UpstreamResponse(status, {}, b"s3cret")
    )
    assert result == code
    assert tries == 1
    assert clients.sleep.waits == []


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", [Call.GET_JOB, Call.LIST_JOBS, Call.PROMOTE, Call.GET_FILE])
def test_after_a_refused_token_the_call_is_made_once_more_with_a_new_one(
    call: Call, status: int, clients: Clients
) -> None:
    result, tries = outcome_of(
        clients, call, reply_to(call, body=b"no", status=status), UpstreamResponse(status, {}, b"")
    )
    assert result == "idp_misconfigured"
    assert tries == 2
    assert len(clients.token_source.scopes) == 2
    assert clients.sleep.waits == []


NONSENSE = {
    "empty": b"",
    "HTML": b"<html>Sorry</html>",
    "half JSON": b'{"job_id": "job-1"',
    "NaN": b'{"job_id": NaN, "token": NaN, "access_token": NaN, "expires_in": NaN, "object_key": NaN}',
    "Infinity": b'{"x": -Infinity}',
    "null": b"null",
    "a number": b"42",
    "a text": b'"job-1"',
    "not UTF-8": b'{"job_id": "\xff\xfe"}',
    "a deep nest": b"[" * 100_000,
    "a deep nest of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "an integer of 5000 digits": b'{"expires_in": ' + b"9" * 5_000 + b"}",
    "over a mebibyte": b'{"pad": "' + b"x" * (1 << 20) + b'"}',
}


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("call", [call for call in SERVICE_CALLS if call is not Call.GET_FILE])
def test_a_complete_but_unusable_response_is_not_retried(call: Call, nonsense: str, clients: Clients) -> None:
    body = NONSENSE[nonsense]
    uploads = UnusableResponseFailure("too large") if len(body) > 1 << 20 else UpstreamResponse(200, {}, body)
    result, tries = outcome_of(clients, call, reply_to(call, body=body), uploads)
    assert result == ("upload_outcome_unknown" if call is Call.CREATE_JOB else UNAVAILABLE[call])
    assert tries == 1
    assert clients.sleep.waits == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, gzip"])
@pytest.mark.parametrize("call", [call for call in SERVICE_CALLS if call is not Call.CREATE_JOB])
def test_an_encoded_response_is_refused_unread(call: Call, encoding: str, clients: Clients) -> None:
    reply = reply_to(call, body=b"\x1f\x8b", headers={"Content-Encoding": encoding})
    result, tries = outcome_of(clients, call, reply, UpstreamResponse(200, {}, b""))
    assert result == UNAVAILABLE[call]
    assert tries == 1


@pytest.mark.parametrize("call", [call for call in SERVICE_CALLS if call is not Call.CREATE_JOB])
def test_the_response_of_a_second_try_is_returned(call: Call, clients: Clients) -> None:
    method, path = METHODS[call]
    with responses.RequestsMock(target=MOCKED_SEND) as mock:
        if call is Call.DOWNLOAD_TOKEN:
            mock.add("POST", BASE + "/oauth/token", body=GOOD[Call.TOKEN])
        mock.add(method, BASE + path, status=503)
        mock.add(method, BASE + path, body=GOOD[call])
        CALLERS[call](clients)
    assert clients.sleep.waits == [1.0]
