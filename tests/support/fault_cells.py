"""The fault matrix: every upstream call × every fault, and the expected result of each.

A cell is a call and a fault. Its expected result follows from rules: the retry matrix (`MATRIX`), the error catalog and
docs/upstreams.md, which the comments quote. Nothing here was recorded from a run. Where the page leaves a result open,
a comment gives the reason for the rule.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import requests

from app.clients.retry import MATRIX, Call
from app.clients.transport import NotConnectedFailure, ResponseLostFailure, ServerFailure
from app.errors import catalogue
from sandbox.settings import CONVERTER, FILE_ACCESS, MEMBER_CENTER, SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET
from tests.support.clients import Client
from tests.support.multipart_bodies import LazyBytes, model_upload
from tests.support.scaled_stack import ScaledStack

#: What the converter asks for with its 429s, in seconds; the gateway must pass it on.
RETRY_AFTER = "7"
_FILLER_BYTES = 2_000
_LONG_SECONDS = 600
_HTML = {"Content-Type": "text/html"}


class Kind(Enum):
    """How a fault looks to the gateway (docs/upstreams.md, "The retry matrix")."""

    NOT_CONNECTED = auto()
    #: No whole response: the network failed, a timeout passed, or the response was cut off.
    LOST = auto()
    #: A whole response with a status that is not a success.
    STATUS = auto()
    #: A whole response that cannot be read.
    UNUSABLE = auto()
    #: A JSON object without the value that the call is made for, or with a malformed one.
    LACKING = auto()
    #: Odd, but with all that is needed: "The gateway writes strictly and reads liberally".
    HARMLESS = auto()


Make = Callable[["Stage"], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Fault:
    """Something that goes wrong. `rule` is the sandbox's (without call and user), or makes one from the stage."""

    name: str
    kind: Kind
    rule: Mapping[str, Any] | Make = field(default_factory=dict)
    status: int | None = None
    #: How often it happens; None means always.
    times: int | None = None
    #: The call has its effect, and only its response goes wrong.
    is_done: bool = False
    #: The response is so slow that each try ends by its timeout.
    is_slow: bool = False
    #: The response comes before the body is whole.
    is_early: bool = False

    def rule_for(self, stage: "Stage") -> dict[str, Any]:
        rule = dict(self.rule(stage) if callable(self.rule) else self.rule)
        if self.times is not None:
            rule["times"] = self.times
        return rule


@dataclass(frozen=True)
class Stage:
    """The scene of one cell: a user with a job, and an id that marks the request."""

    stack: ScaledStack
    client: Client
    user_id: str
    request_id: str
    job_id: str = ""
    model_bytes: int = 7

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"X-Request-ID": self.request_id, **options.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **options)

    def upload(self) -> requests.Response:
        body = model_upload(LazyBytes(self.model_bytes))
        return self.send("POST", "/api/conversion/init", data=body, headers=body.headers)

    def access_token(self) -> str:
        """A token as Member Center really issues it."""
        response = requests.post(
            f"{self.stack.sandbox.urls.member_center}/oauth/token",
            data={"grant_type": "client_credentials", "scope": "converter:job.read"},
            auth=(SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET),
            timeout=10,
        )
        return str(response.json()["access_token"])


@dataclass(frozen=True)
class Way:
    """How the gateway is brought to make a call, and how the sandbox names that call."""

    service: str
    name: str
    needs: str  # "nothing", a "running" or a "completed" job
    ask: Callable[[Stage], requests.Response]
    success: int
    #: Connections to the same service before the one in question, and the calls that they are for.
    before: int = 0
    call_before: str | None = None


def _promote(stage: Stage) -> requests.Response:
    return stage.send("POST", f"/api/conversion/{stage.job_id}/promote-to-models")


WAYS: Mapping[Call, Way] = {
    Call.TOKEN: Way(
        MEMBER_CENTER, "token", "nothing", lambda stage: stage.send("GET", "/api/conversion/active"), success=200
    ),
    # To poll, to promote and to mint each take a token of their own, where tokens live too briefly to be kept.
    Call.DOWNLOAD_TOKEN: Way(
        MEMBER_CENTER,
        "download_tokens",
        "completed",
        lambda stage: stage.send("GET", f"/api/conversion/{stage.job_id}/download"),
        success=302,
        before=3,
        call_before="token",
    ),
    Call.GET_JOB: Way(
        CONVERTER,
        "get_job",
        "running",
        lambda stage: stage.send("GET", f"/api/conversion/{stage.job_id}"),
        success=200,
    ),
    Call.LIST_JOBS: Way(
        CONVERTER, "list_jobs", "running", lambda stage: stage.send("GET", "/api/conversion/active"), success=200
    ),
    Call.PROMOTE: Way(CONVERTER, "promote", "completed", _promote, success=201, before=1, call_before="get_job"),
    Call.CREATE_JOB: Way(
        CONVERTER, "create_job", "nothing", lambda stage: stage.upload(), success=201, before=1, call_before="list_jobs"
    ),
    Call.GET_FILE: Way(FILE_ACCESS, "get_file", "completed", _promote, success=201),
}

# What can go wrong.

STATUSES = (301, 302, 400, 401, 403, 404, 409, 410, 413, 422, 429, 500, 502, 503, 504)
NOT_CONNECTED = (Fault("refused", Kind.NOT_CONNECTED), Fault("dns_failure", Kind.NOT_CONNECTED))


def _status_fault(status: int, **more: Any) -> Fault:
    headers = {"Location": "http://127.0.0.1:1/elsewhere"} if status < 400 else {"Retry-After": RETRY_AFTER}
    suffix = "_once" if "times" in more else ""
    return Fault(f"status_{status}{suffix}", Kind.STATUS, {"status": status, "headers": headers}, status=status, **more)


def _body(name: str, kind: Kind, body: str, **more: Any) -> Fault:
    return Fault(name, kind, {"status": 200, "body": body, **more})


_CUT = {"status": 200, "body_size": _FILLER_BYTES}
_CUT_MID_BODY = {**_CUT, "cut": "mid_body", "cut_at": _FILLER_BYTES // 2}

COMMON = (
    Fault("reset_before_headers", Kind.LOST, {"cut": "reset"}),
    Fault("closed_before_headers", Kind.LOST, {"cut": "before_headers"}),
    Fault("cut_after_status_line", Kind.LOST, {"status": 200, "cut": "after_status_line"}),
    Fault("cut_after_headers", Kind.LOST, {**_CUT, "cut": "after_headers"}),
    Fault("cut_mid_body", Kind.LOST, _CUT_MID_BODY),
    Fault("stall_before_response", Kind.LOST, {"stall_seconds": _LONG_SECONDS}, is_slow=True),
    Fault("stall_mid_response", Kind.LOST, {**_CUT, "stall_at": 1_000, "stall_seconds": _LONG_SECONDS}, is_slow=True),
    Fault("drip", Kind.LOST, {**_CUT, "drip": {"bytes": 1, "interval_seconds": 0.05}}, is_slow=True),
    *(_status_fault(status) for status in STATUSES),
    _body("empty_body", Kind.UNUSABLE, ""),
    Fault("wrong_content_type", Kind.HARMLESS, {"when": "after", "headers": _HTML}),
    _body("html", Kind.UNUSABLE, "<html><body>Welcome</body></html>", headers=_HTML),
    _body("half_of_json", Kind.UNUSABLE, '{"job_id": "abc", "stat'),
    _body("json_nan", Kind.UNUSABLE, '{"job_id": NaN, "jobs": NaN, "object_key": NaN, "token": NaN}'),
    _body("json_null", Kind.UNUSABLE, "null"),
    _body("json_number", Kind.UNUSABLE, "42"),
    _body("json_text", Kind.UNUSABLE, '"a text"'),
    _body("json_list", Kind.UNUSABLE, "[1]"),
    _body("json_deep", Kind.UNUSABLE, "[" * 100_000),
    _body("fields_missing", Kind.LACKING, "{}"),
    _body("numbers_for_texts", Kind.LACKING, '{"job_id":1,"jobs":2,"object_key":3,"token":4,"access_token":5}'),
    Fault(
        "huge_fields",
        Kind.LACKING,
        {
            "status": 200,
            "body_json": dict.fromkeys(("job_id", "jobs", "object_key", "token", "access_token"), "x" * 100_000),
        },
    ),
    Fault("fifty_megabytes", Kind.UNUSABLE, {"status": 200, "body_size": 50_000_000}),
    # The connection ends before what was announced has come: nothing tells that from one that was cut off.
    Fault("content_length_too_long", Kind.LOST, {**_CUT, "content_length": _FILLER_BYTES + 500}),
    # What is left of it is whole, as far as HTTP can tell, and half of a JSON object.
    Fault("content_length_too_short", Kind.UNUSABLE, {**_CUT, "content_length": 50}),
    Fault("gzip_unasked", Kind.UNUSABLE, {"status": 200, "body_size": _FILLER_BYTES, "gzip": True}),
    # One try only goes wrong: what is retried succeeds, and what is not must not be.
    Fault("reset_before_headers_once", Kind.LOST, {"cut": "reset"}, times=1),
    Fault("cut_mid_body_once", Kind.LOST, _CUT_MID_BODY, times=1),
    Fault("half_of_json_once", Kind.UNUSABLE, {"status": 200, "body": '{"job_id": "ab'}, times=1),
    _status_fault(503, times=1),
    _status_fault(401, times=1),
    _status_fault(404, times=1),
)


def _token_fault(name: str, kind: Kind, expires_in: Any) -> Fault:
    def rule(stage: Stage) -> dict[str, Any]:
        return {"status": 200, "body_json": {"access_token": stage.access_token(), "expires_in": expires_in}}

    return Fault(f"expires_in_{name}", kind, rule)


def _download_fault(name: str, kind: Kind, **life: Any) -> Fault:
    return Fault(name, kind, {"status": 200, "body_json": {"token": "a+token/of=ours", **life}})


ONLY_FOR: Mapping[Call, tuple[Fault, ...]] = {
    Call.TOKEN: (
        _token_fault("words", Kind.LACKING, "soon"),
        _token_fault("negative", Kind.LACKING, -300),
        _token_fault("zero", Kind.LACKING, 0),
        _token_fault("true", Kind.LACKING, True),
        _token_fault("list", Kind.LACKING, [300]),
        _body("expires_in_infinite", Kind.LACKING, '{"access_token": "at", "expires_in": 1e999}'),
        # A number as text can be read, and a number that is too large still says that the token is valid now.
        _token_fault("digits", Kind.HARMLESS, "10"),
        # Optional (RFC 6749, section 5.1).
        _token_fault("null", Kind.HARMLESS, None),
        _token_fault("huge", Kind.HARMLESS, 10**40),
    ),
    Call.DOWNLOAD_TOKEN: (
        # "`expires_at` or `expires_in_seconds`, both optional": one that cannot be read counts as missing.
        _download_fault("expires_at_words", Kind.HARMLESS, expires_at="tomorrow"),
        _download_fault("expires_at_list", Kind.HARMLESS, expires_at=[1]),
        _download_fault("expires_at_year_10000", Kind.HARMLESS, expires_at=1e300),
        _download_fault("expires_in_seconds_words", Kind.HARMLESS, expires_in_seconds="soon"),
        _download_fault("expires_in_seconds_negative", Kind.HARMLESS, expires_in_seconds=-1),
        _download_fault("expires_in_seconds_huge", Kind.HARMLESS, expires_in_seconds=10**40),
        # This can be read and says that the token has expired, so no browser may be redirected with it.
        _download_fault("expires_at_past", Kind.LACKING, expires_at="2001-01-01T00:00:00Z"),
        _body("token_with_line_break", Kind.LACKING, '{"token": "a\\r\\nSet-Cookie: b=c"}'),
    ),
    Call.CREATE_JOB: (
        # The job exists, and only the response went wrong: the converter's list shows the job.
        Fault("response_lost_job_done", Kind.LOST, {"when": "after", "cut": "before_headers"}, is_done=True),
        Fault("response_reset_job_done", Kind.LOST, {"when": "after", "cut": "reset"}, is_done=True),
        Fault(
            "response_stalled_job_done",
            Kind.LOST,
            {"when": "after", "stall_seconds": _LONG_SECONDS},
            is_done=True,
            is_slow=True,
        ),
        Fault("response_unusable_job_done", Kind.UNUSABLE, {"when": "after", "body": "<html>"}, is_done=True),
        *(
            Fault(f"status_{status}_job_done", Kind.STATUS, {"when": "after", "status": status}, status, is_done=True)
            for status in (302, 404, 408, 500, 502, 503, 504)
        ),
        # The response comes while the body is still being sent.
        Fault("status_503_early", Kind.STATUS, {"status": 503, "read_body": False}, status=503, is_early=True),
        Fault("status_422_early", Kind.STATUS, {"status": 422, "read_body": False}, status=422, is_early=True),
    ),
}


@dataclass(frozen=True)
class Cell:
    call: Call
    fault: Fault

    def __str__(self) -> str:
        return f"{self.call.value}-{self.fault.name}"


def cells_of(*calls: Call, faults: Iterable[Fault] | None = None) -> list[Cell]:
    """Return all cells of these calls, or only those with the given faults."""
    given = None if faults is None else tuple(faults)
    return [
        Cell(call, fault)
        for call in calls
        for fault in ((*COMMON, *ONLY_FOR.get(call, ())) if given is None else given)
    ]


# The expected results.


@dataclass(frozen=True)
class Expected:
    """The status of the response, its problem code (None: a success) and the number of tries."""

    status: int
    code: str | None
    tries: int


#: The code for "unavailable" in docs/upstreams.md.
_DOWN: Mapping[Call, str] = {
    Call.TOKEN: "idp_unavailable",
    Call.DOWNLOAD_TOKEN: "mc_token_unavailable",
    Call.GET_JOB: "converter_unavailable",
    Call.LIST_JOBS: "converter_unavailable",
    Call.PROMOTE: "converter_unavailable",
    Call.CREATE_JOB: "converter_unavailable",
    Call.GET_FILE: "file_service_unavailable",
}
_CONVERTER = {Call.GET_JOB, Call.LIST_JOBS, Call.PROMOTE, Call.CREATE_JOB}
#: "a call that can be repeated is made once more with a new one", after a 401 or 403. An upload cannot be repeated.
REPLAYED = {Call.GET_JOB, Call.LIST_JOBS, Call.PROMOTE, Call.GET_FILE}


def expected(cell: Cell) -> Expected:
    """Return the result that docs/upstreams.md and the retry matrix promise for a cell."""
    call, fault = cell.call, cell.fault
    kind = kind_for(call, fault)
    tries = _tries(call, fault, kind)
    code = None if kind is Kind.HARMLESS or (tries > 1 and fault.times is not None) else _code(call, fault, kind)
    if fault.is_done and code == "upload_outcome_unknown":
        code = None  # "201 if the converter's list shows the job"
    return Expected(WAYS[call].success if code is None else catalogue()[code].status, code, tries)


def kind_for(call: Call, fault: Fault) -> Kind:
    """Return the kind of a fault for this call: the same bytes can be harmless for one call only."""
    if call is Call.LIST_JOBS and fault.name == "json_list":
        return Kind.HARMLESS  # a bare list is one of the two forms; "entries that cannot be read are skipped"
    return fault.kind


def _tries(call: Call, fault: Fault, kind: Kind) -> int:
    failure = {Kind.NOT_CONNECTED: NotConnectedFailure, Kind.LOST: ResponseLostFailure}.get(kind)
    if fault.status is not None and fault.status >= 500:
        failure = ServerFailure
    if failure is not None and issubclass(failure, MATRIX[call].retried_on):
        most = MATRIX[call].tries
    else:
        most = 2 if fault.status in {401, 403} and call in REPLAYED else 1
    return most if fault.times is None else min(most, fault.times + 1)


def _code(call: Call, fault: Fault, kind: Kind) -> str:
    if fault.status is not None:
        return _code_of_status(call, fault, fault.status)
    if call is Call.GET_FILE and kind in {Kind.UNUSABLE, Kind.LACKING} and fault.name != "gzip_unasked":
        return "result_corrupt"  # any bytes are a file, but not the announced one
    if call is Call.CREATE_JOB and kind is not Kind.NOT_CONNECTED:
        return "upload_outcome_unknown"  # "the same after a whole body"
    if call is Call.PROMOTE and kind is Kind.LACKING:
        # "no usable object key" means a JSON object without one. Other bodies are "a 2xx that cannot be used".
        return "promote_failed"
    return _DOWN[call]


def _code_of_status(call: Call, fault: Fault, status: int) -> str:
    if status in {401, 403}:
        return "idp_misconfigured"
    if status == 429 and call in _CONVERTER:
        return "converter_busy"
    if call is Call.CREATE_JOB and (status < 400 or status >= 500) and not fault.is_early:
        return "upload_outcome_unknown"  # the body was whole, and the status does not tell whether there is a job
    if status < 400 or status >= 500:
        # "Unavailable means no connection, a lost response, 5xx, a redirect, or a 2xx that cannot be used."
        return _DOWN[call]
    match call:
        case Call.TOKEN | Call.DOWNLOAD_TOKEN if status == 429:
            return _DOWN[call]
        case Call.TOKEN:
            return "idp_misconfigured"  # "any other 4xx" of a service token
        case Call.DOWNLOAD_TOKEN:
            return "download_token_failed"
        case Call.GET_JOB if status == 404:
            return "job_not_found"
        case Call.PROMOTE:
            return {404: "job_not_found", 409: "job_not_completed"}.get(status, "promote_failed")
        case Call.CREATE_JOB:
            refusals = {400: "converter_rejected", 422: "converter_rejected", 413: "payload_too_large"}
            return {409: "active_job_conflict", **refusals}.get(status, "upload_outcome_unknown")
        case Call.GET_FILE:
            return "result_missing" if status in {404, 410} else "file_service_unavailable"
        case _:
            return "converter_unavailable"
