"""What a refused upload costs: no body where the client asks first, no timeout where the converter stops reading."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.fault_rules import EARLY_ENDINGS
from sandbox.settings import CONVERTER
from tests.support.clients import RawConnection
from tests.support.early_clients.refusals import ENVIRONMENT, OWN, Refusal
from tests.support.early_clients.uploads import FORM_PREFIX, FORM_TYPE, INIT, MODEL_BYTES, Upload
from tests.support.early_clients.with_curl import CurlClient
from tests.support.multipart_bodies import model_upload
from tests.support.processes import sockets_of, wait_until
from tests.support.stack import Stack

#: Far below every timeout on the way (60 s), far above what it takes.
PROMPT_SECONDS = 20.0
#: These are decided by what stands in the body.
_IN_THE_BODY = {"413 grown", "400 malformed part"}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("costs"), environment=ENVIRONMENT, workers=1) as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Iterator[Stack]:
    yield shared_stack
    shared_stack.reset()


def _head(stack: Stack, size: int = MODEL_BYTES, content_type: str = FORM_TYPE, **more: str) -> dict[str, str]:
    headers = {"Content-Type": content_type, "Content-Length": str(size), **more}
    return headers | {"Cookie": stack.signed_in("alice").cookie_header}


@pytest.mark.parametrize("refusal", [one for one in OWN if one.name not in _IN_THE_BODY], ids=str)
def test_a_refused_upload_of_curls_costs_no_body(stack: Stack, tmp_path: Path, refusal: Refusal) -> None:
    curl = CurlClient(tmp_path)
    user = refusal.upload.user
    cookie = stack.signed_in(user).cookie_header if user else ""
    with refusal.arrange(stack):
        upload, after = curl.transfers(stack.url, cookie, refusal.upload)
    assert (upload.status, upload.sent_bytes, upload.exit_code) == (refusal.status, 0, 0)
    assert after.status == refusal.next_status


def test_a_client_that_asks_first_is_told_to_go_on_when_its_body_is_wanted(stack: Stack) -> None:
    body = model_upload(b"x" * 200_000)
    with RawConnection(stack.url) as connection:
        connection.send_head("POST", INIT, _head(stack, len(body), body.content_type, Expect="100-continue"))
        assert connection.socket.recv(100) == CONTINUE
        assert connection.send(body.as_bytes()).read_response("POST").status == 201


def test_a_client_that_asks_first_and_is_refused_is_not_told_to_go_on(stack: Stack) -> None:
    with RawConnection(stack.url) as connection:
        headers = _head(stack, content_type="text/plain", Expect="100-continue")
        connection.send_head("POST", INIT, headers)
        # Its first line is the refusal's, or this would not be 415; what the client then sends, nobody could tell.
        response = connection.read_response("POST")
        assert (response.status, response.header("Connection")) == (415, "close")
        assert connection.socket.recv(100) == b""


@pytest.mark.parametrize("ending", EARLY_ENDINGS)
def test_a_client_that_pauses_hears_at_once_that_the_converter_has_refused(stack: Stack, ending: str) -> None:
    stack.sandbox.fault(CONVERTER, call="create_job", status=413, early=ending, early_after=1_000_000)
    with RawConnection(stack.url) as connection:
        connection.send_head("POST", INIT, _head(stack)).send(FORM_PREFIX + bytes(3_000_000))
        # And nothing more: nothing that arrives lets the gateway look at the converter by the way.
        begun = time.monotonic()
        response = connection.read_response("POST")
        assert (response.status, response.json()["code"]) == (413, "payload_too_large")
        assert time.monotonic() - begun < PROMPT_SECONDS


@pytest.mark.parametrize("ending", EARLY_ENDINGS)
def test_an_early_response_of_the_converters_ends_the_upload_at_once(stack: Stack, tmp_path: Path, ending: str) -> None:
    stack.sandbox.fault(CONVERTER, call="create_job", status=413, early=ending, early_after=1_000_000)
    cookie = stack.signed_in("alice").cookie_header
    begun = time.monotonic()
    upload, _ = CurlClient(tmp_path).transfers(stack.url, cookie, Upload())
    assert upload.status == 413
    assert time.monotonic() - begun < PROMPT_SECONDS

    converter_port = int(stack.sandbox.urls.converter.rpartition(":")[2])

    def connections() -> int:
        return sum(peer == converter_port for pid in stack.worker_pids() for _, (_, peer) in sockets_of(pid))

    # The one that is kept for polls and lists.
    wait_until(lambda: connections() <= 1, "the upload's connection to the converter is closed")
    stack.sandbox.clear_faults()
    assert stack.upload(stack.signed_in("alice")), "its lease or its slot is still held"
