"""Every way in which an upload is refused before its body has come, by the gateway itself and by the converter."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from app.library.database import Database
from app.library.leases import SQLLeases
from app.services.uploads import lease_name
from sandbox.fault_rules import EARLY_ENDINGS
from tests.support.clients import RawConnection
from tests.support.early_clients.uploads import (
    FORM_BOUNDARY,
    FORM_HEAD,
    FORM_MODEL_HEAD,
    FORM_TYPE,
    INIT,
    MODEL_BYTES,
    TOO_MANY_BYTES,
    Upload,
)
from tests.support.processes import wait_until
from tests.support.sandbox_processes import CONVERTER
from tests.support.stack import Stack

#: The gateway's settings: each refusal can happen, and a lost slot shows.
ENVIRONMENT = {"VISIONA_MAX_UPLOAD_BYTES": str(MODEL_BYTES + 1_000_000), "VISIONA_UPLOAD_SLOTS": "2"}
LEASE_SECONDS = 3_600

Arrange = Callable[[Stack], AbstractContextManager[object]]


@dataclass(frozen=True)
class Refusal:
    """An upload, what has to be so that it is refused, and the response that has to arrive."""

    name: str
    status: int
    code: str
    upload: Upload = field(default_factory=Upload)
    arrange: Arrange = lambda _: nullcontext()
    #: The status of the response to the next request.
    next_status: int = 200
    is_cross_site: bool = False

    def __str__(self) -> str:
        return self.name


@contextmanager
def _running_job(stack: Stack) -> Iterator[None]:
    """Bob has a job that runs."""
    job_id = stack.upload(stack.signed_in("bob"))
    yield
    stack.sandbox.complete(job_id)


@contextmanager
def _lease_elsewhere(stack: Stack) -> Iterator[None]:
    """Bob uploads by another replica."""
    user_id = str(stack.signed_in("bob").get("/api/me").json()["user_id"])
    database = Database(f"sqlite:///{stack.database_path}")
    leases = SQLLeases(database, clock=lambda: datetime.now(UTC))
    holder = uuid.uuid4().hex
    try:
        assert leases.acquire(lease_name(user_id), holder, LEASE_SECONDS)
        yield
        leases.release(lease_name(user_id), holder)
    finally:
        database.dispose()


@contextmanager
def _slots_taken(stack: Stack) -> Iterator[None]:
    """Alice and Bob upload, and pause; both slots are taken."""
    stack.sandbox.reset()
    held: list[RawConnection] = []
    try:
        for number, name in enumerate(("alice", "bob"), 1):
            connection = RawConnection(stack.direct_url)
            held.append(connection)
            headers = {
                "Host": stack.url.partition("://")[2],
                "Cookie": stack.signed_in(name).cookie_header,
                "Content-Type": FORM_TYPE,
                "Content-Length": str(MODEL_BYTES),
            }
            connection.send_head("POST", INIT, headers).send((FORM_HEAD + FORM_MODEL_HEAD).encode())
            wait_until(lambda wanted=number: len(stack.sandbox.uploads()) == wanted, "the upload has begun")  # type: ignore[misc]
        yield
    finally:
        for connection in held:
            connection.close()
    # The converter learns of the end first, and the slot is released last.
    for name in ("alice", "bob"):
        client = stack.signed_in(name)
        wait_until(
            lambda who=client: who.post("/api/conversion/check").status_code == 200,  # type: ignore[misc]
            "the gateway has noticed that the uploads were given up",
        )


def _converter(ending: str, status: int, *, after: int = 0) -> Arrange:
    """Make the converter respond after that many bytes, and end the connection like this."""

    @contextmanager
    def arranged(stack: Stack) -> Iterator[None]:
        response = {"error": {"code": "refused_early", "message": "Refused before the body had come."}}
        if status in {401, 403}:
            # A cached token that is refused would be another failure. The list's refusal has all of them fetched again.
            assert stack.signed_in("alice").post("/api/conversion/check").status_code == 200
            stack.sandbox.fault(CONVERTER, call="list_jobs", status=401, times=1)
        stack.sandbox.fault(
            CONVERTER, call="create_job", status=status, body_json=response, early=ending, early_after=after
        )
        yield
        stack.sandbox.clear_faults()

    return arranged


_RAW = Upload(prefix=b"", content_type="application/octet-stream")
_BAD_PART = f'--{FORM_BOUNDARY}\r\nContent-Disposition: form-data; name="a"; name="b"\r\n\r\n'.encode()

OWN = [
    Refusal("401 no session", 401, "unauthenticated", Upload(user=None), next_status=401),
    Refusal(
        "403 another site",
        403,
        "cross_site_request",
        Upload(headers={"Origin": "http://elsewhere.example"}),
        is_cross_site=True,
    ),
    Refusal("409 a job runs", 409, "active_job_conflict", Upload(user="bob"), _running_job),
    Refusal("409 another upload", 409, "upload_in_progress", Upload(user="bob"), _lease_elsewhere),
    Refusal("413 announced", 413, "payload_too_large", Upload(model_bytes=TOO_MANY_BYTES)),
    Refusal("413 grown", 413, "payload_too_large", Upload(model_bytes=TOO_MANY_BYTES, is_chunked=True)),
    Refusal("415 no form", 415, "unsupported_media_type", _RAW),
    Refusal("400 no boundary", 400, "invalid_request", replace(_RAW, content_type="multipart/form-data")),
    Refusal("400 malformed part", 400, "invalid_request", Upload(prefix=_BAD_PART, content_type=FORM_TYPE)),
    Refusal("503 slots taken", 503, "upload_capacity", Upload(), _slots_taken),
]

#: The code for each status of the converter (docs/upstreams.md).
_CONVERTER_STATUSES = {
    409: (409, "active_job_conflict"),
    413: (413, "payload_too_large"),
    422: (422, "converter_rejected"),
    401: (500, "idp_misconfigured"),
    403: (500, "idp_misconfigured"),
    503: (502, "converter_unavailable"),
    429: (503, "converter_busy"),
}

CONVERTERS = [
    Refusal(
        f"converter {status}, {ending}, after {after}",
        *_CONVERTER_STATUSES[status],
        Upload(),
        _converter(ending, status, after=after),
    )
    for ending in EARLY_ENDINGS
    for status in _CONVERTER_STATUSES
    for after in (0, 3_000_000)
]
